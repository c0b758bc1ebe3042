"""ECDH against two other implementations: the openssl command and our pure-Python curves.

Section 14.3. Leading zeros are looked for until they occur.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from simulators.yubikey.device.host import OK, Host, openssl, public_key, tlv

from mesh_hsm.curves import P256, P384, X25519, XOnly
from mesh_hsm.testing.virtual_yubikey import Operation
from mesh_hsm.testing.virtual_yubikey.piv.names import Algorithm, Ins

SIZES = {Algorithm.P256: 32, Algorithm.P384: 48, Algorithm.X25519: 32}
CURVES = {Algorithm.P256: P256, Algorithm.P384: P384, Algorithm.X25519: X25519}


def peer_of(kind: Algorithm) -> Any:
    if kind is Algorithm.X25519:
        return x25519.X25519PrivateKey.generate()
    return ec.generate_private_key(ec.SECP256R1() if kind is Algorithm.P256 else ec.SECP384R1())


def point_of(key: Any) -> bytes:
    if isinstance(key, x25519.X25519PrivateKey):
        return key.public_key().public_bytes_raw()
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def secret_with(peer: Any, public: Any) -> bytes:
    return (
        peer.exchange(public)
        if hasattr(public, "public_bytes_raw")
        else peer.exchange(ec.ECDH(), public)
    )


def by_openssl(folder: Path, peer: Any, public: Any) -> bytes:
    key = peer.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "peer").write_bytes(key)
    (folder / "public").write_bytes(
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return openssl(folder, "pkeyutl", "-derive", "-inkey", "peer", "-peerkey", "public")


@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize("zero", [None, 0, -1], ids=["any", "first octet", "last octet"])
def test_the_same_secret_as_openssl(
    manager: Host, kind: Algorithm, zero: int | None, tmp_path: Path
) -> None:
    public = public_key(kind, manager.generate(0x9D, kind))
    manager.verify()
    peer = peer_of(kind)
    while zero is not None and secret_with(peer, public)[zero]:
        peer = peer_of(kind)
    secret, status = manager.agree(0x9D, kind, point_of(peer))
    assert status == OK
    assert len(secret) == SIZES[kind]
    assert secret == by_openssl(tmp_path, peer, public)
    assert manager.device.operations[0x9D, Operation.AGREE] == 1


@pytest.mark.parametrize("kind", [Algorithm.P256, Algorithm.P384])
@pytest.mark.parametrize("scalar", [1, 2, -1, 0x1234567890ABCDEF << 130], ids=str)
def test_the_same_secret_as_a_multiplication(manager: Host, kind: Algorithm, scalar: int) -> None:
    curve, size = CURVES[kind], SIZES[kind]
    scalar %= curve.order
    secret = tlv(0x06, scalar.to_bytes(size, "big"))
    assert manager.status(Ins.IMPORT, kind, 0x9D, secret) == OK
    manager.verify()
    point = point_of(peer_of(kind))
    x, y = (int.from_bytes(part, "big") for part in (point[1 : 1 + size], point[1 + size :]))
    product = curve.point(x, y).multiply(scalar)
    assert manager.agree(0x9D, kind, point) == (product.agreement_octets(), OK)


def test_the_same_x25519_secret_as_a_multiplication(manager: Host) -> None:
    raw = bytes(range(32))
    clamped = (int.from_bytes(raw, "little") & ~7 & ((1 << 254) - 1)) | 1 << 254
    assert manager.status(Ins.IMPORT, Algorithm.X25519, 0x9D, tlv(0x08, raw)) == OK
    manager.verify()
    peer = point_of(peer_of(Algorithm.X25519))
    product = XOnly.decode(X25519, peer).lifts()[0].multiply(clamped)
    assert manager.agree(0x9D, Algorithm.X25519, peer) == (product.agreement_octets(), OK)


GOOD = bytes.fromhex("04") + b"".join(
    value.to_bytes(32, "big") for value in (P256.base.x, P256.base.y)
)
BAD_POINTS = {
    "off the curve": (Algorithm.P256, GOOD[:-1] + bytes([GOOD[-1] ^ 1])),
    "zero": (Algorithm.P256, b"\x04" + bytes(64)),
    "the neutral element": (Algorithm.P256, b"\0"),
    "beyond the field": (Algorithm.P256, b"\x04" + b"\xff" * 64),
    "compressed": (Algorithm.P256, bytes([2 + GOOD[-1] % 2]) + GOOD[1:33]),
    "hybrid": (Algorithm.P256, bytes([6 + GOOD[-1] % 2]) + GOOD[1:]),
    "cut off": (Algorithm.P256, GOOD[:-1]),
    "empty": (Algorithm.P256, b""),
    "of another curve": (Algorithm.P384, GOOD),
    "of small order, 0": (Algorithm.X25519, bytes(32)),
    "of small order, 1": (Algorithm.X25519, b"\x01" + bytes(31)),
    "of order 8": (
        Algorithm.X25519,
        bytes.fromhex("E0EB7A7C3B41B8AE1656E3FAF19FC46ADA098DEB9C32B1FD866205165F49B800"),
    ),
    "31 octets": (Algorithm.X25519, bytes(30) + b"\x09"),
    "Ed25519 cannot agree": (Algorithm.ED25519, b"\x09" + bytes(31)),
    "RSA cannot agree": (Algorithm.RSA1024, bytes(128)),
}


@pytest.mark.parametrize(("kind", "point"), BAD_POINTS.values(), ids=BAD_POINTS)
def test_bad_points(manager: Host, kind: Algorithm, point: bytes) -> None:
    manager.generate(0x9D, kind, pin=1)
    assert manager.agree(0x9D, kind, point) == (b"", 0x6A80)
    assert (0x9D, Operation.AGREE) not in manager.device.operations
