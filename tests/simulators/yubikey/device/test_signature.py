"""Signatures, verified by the openssl command (section 14.4)."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from simulators.yubikey.device.host import OK, Host, openssl, public_key, tlv

from mesh_hsm.testing.virtual_yubikey import Operation
from mesh_hsm.testing.virtual_yubikey.piv.names import Algorithm, Ins

MESSAGE = b"what is signed"
SHA256_INFO = bytes.fromhex("3031300D060960864801650304020105000420")


def prepared(kind: Algorithm, digest: str) -> bytes:
    """What the host sends: a digest, a message, or a padded block (RFC 8017 §9.2)."""
    if kind is Algorithm.ED25519:
        return MESSAGE
    hashed = hashlib.new(digest, MESSAGE).digest()
    if kind is Algorithm.RSA2048:
        return (
            b"\x00\x01".ljust(256 - len(SHA256_INFO) - 33, b"\xff") + b"\0" + SHA256_INFO + hashed
        )
    return hashed


def verify(folder: Path, public: Any, signature: bytes, digest: str | None) -> None:
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for name, content in (("key", pem), ("signature", signature), ("message", MESSAGE)):
        (folder / name).write_bytes(content)
    if digest is None:
        options = ("-verify", "-pubin", "-inkey", "key", "-rawin", "-in", "message")
        openssl(folder, "pkeyutl", *options, "-sigfile", "signature")
    else:
        openssl(
            folder, "dgst", f"-{digest}", "-verify", "key", "-signature", "signature", "message"
        )


@pytest.mark.parametrize(
    ("kind", "digest"),
    [
        (Algorithm.P256, "sha256"),
        (Algorithm.P256, "sha1"),
        (Algorithm.P384, "sha384"),
        (Algorithm.P384, "sha256"),
        (Algorithm.RSA2048, "sha256"),
        (Algorithm.ED25519, None),
    ],
)
def test_openssl_accepts(
    manager: Host, kind: Algorithm, digest: str | None, tmp_path: Path
) -> None:
    public = public_key(kind, manager.generate(0x9A, kind))
    manager.verify()
    signature, status = manager.sign(0x9A, kind, prepared(kind, digest or ""))
    assert status == OK
    verify(tmp_path, public, signature, digest)
    assert manager.device.operations[0x9A, Operation.SIGN] == 1


def test_a_long_message_by_ed25519(manager: Host) -> None:
    public = public_key(Algorithm.ED25519, manager.generate(0x9A, Algorithm.ED25519, pin=1))
    signature, status = manager.sign(0x9A, Algorithm.ED25519, message := bytes(3_000))
    assert status == OK
    public.verify(signature, message)


def test_raw_rsa_is_also_decryption(manager: Host) -> None:
    numbers = public_key(
        Algorithm.RSA1024, manager.generate(0x9D, Algorithm.RSA1024, pin=1)
    ).public_numbers()
    plain = (b"\x00\x02" + b"\x11" * 90 + b"\0secret").ljust(128, b"!")
    encrypted = pow(int.from_bytes(plain, "big"), numbers.e, numbers.n).to_bytes(128, "big")
    assert manager.sign(0x9D, Algorithm.RSA1024, encrypted) == (plain, OK)


def test_raw_rsa_of_zero_and_one(manager: Host) -> None:
    manager.generate(0x9D, Algorithm.RSA1024, pin=1)
    for value in (bytes(128), bytes(127) + b"\x01"):
        assert manager.sign(0x9D, Algorithm.RSA1024, value) == (value, OK)


BAD = {
    "a digest beyond the field": (Algorithm.P256, bytes(33)),
    "no digest": (Algorithm.P384, b""),
    "a short block": (Algorithm.RSA1024, bytes(127)),
    "a long block": (Algorithm.RSA1024, bytes(129)),
    "a number beyond the modulus": (Algorithm.RSA1024, b"\xff" * 128),
    "X25519 cannot sign": (Algorithm.X25519, bytes(32)),
}


@pytest.mark.parametrize(("kind", "value"), BAD.values(), ids=BAD)
def test_what_cannot_be_signed(manager: Host, kind: Algorithm, value: bytes) -> None:
    manager.generate(0x9D, kind, pin=1)
    assert manager.use(0x9D, kind, 0x81, value) == (b"", 0x6A80)
    assert (0x9D, Operation.SIGN) not in manager.device.operations


TEMPLATES = {
    "no template": b"",
    "no response tag": tlv(0x7C, tlv(0x81, bytes(32))),
    "a response with something in it": tlv(0x7C, tlv(0x82, b"x") + tlv(0x81, bytes(32))),
    "no input": tlv(0x7C, tlv(0x82)),
    "both operations": tlv(0x7C, tlv(0x82) + tlv(0x81, bytes(32)) + tlv(0x85, bytes(65))),
    "an unknown operation": tlv(0x7C, tlv(0x82) + tlv(0x83, bytes(32))),
    "two templates": tlv(0x7C, tlv(0x82) + tlv(0x81, bytes(32))) * 2,
    "cut off": tlv(0x7C, tlv(0x82) + tlv(0x81, bytes(32)))[:-1],
}


@pytest.mark.parametrize("data", TEMPLATES.values(), ids=TEMPLATES)
def test_bad_templates(manager: Host, data: bytes) -> None:
    manager.generate(0x9D, Algorithm.P256, pin=1)
    assert manager.status(Ins.AUTHENTICATE, Algorithm.P256, 0x9D, data) == 0x6A80
    assert manager.sign(0x9D, Algorithm.P256)[1] == OK


def test_the_input_may_come_first(manager: Host) -> None:
    manager.generate(0x9D, Algorithm.P256, pin=1)
    data = tlv(0x7C, tlv(0x81, bytes(32)) + tlv(0x82))
    assert manager.status(Ins.AUTHENTICATE, Algorithm.P256, 0x9D, data) == OK
