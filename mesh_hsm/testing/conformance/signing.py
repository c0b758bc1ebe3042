"""Promise: ``sign`` gives a signature that verifies, over octets of exactly the right length."""
# ruff: noqa: S101  the kit is made of assertions

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature

from mesh_hsm.curves import CURVES, Point
from mesh_hsm.errors import DeviceError, FormatError, UnsupportedError
from mesh_hsm.provider import Token, Use
from mesh_hsm.testing.conformance.bench import Kit, digest_for, make

SIGNING = [name for name, c in CURVES.items() if c.family != "montgomery"]
ECDSA: dict[str, tuple[ec.EllipticCurve, hashes.HashAlgorithm]] = {
    "P-256": (ec.SECP256R1(), hashes.SHA256()),
    "P-384": (ec.SECP384R1(), hashes.SHA384()),
    "P-521": (ec.SECP521R1(), hashes.SHA512()),
}

BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "zeros": lambda signature: bytes(len(signature)),
    "empty": lambda signature: b"",
    "short": lambda signature: signature[:-1],
    "long": lambda signature: signature + b"\0",
    "a bit in r": lambda signature: bytes([signature[0] ^ 1]) + signature[1:],
    "a bit in s": lambda signature: signature[:-2] + bytes([signature[-2] ^ 1]) + signature[-1:],
}


def verify(public: Point, octets: bytes, signature: bytes) -> None:
    """Verify with nothing but ``cryptography``. Raises ``InvalidSignature``."""
    name = public.curve.name
    if name == "Ed25519":
        return Ed25519PublicKey.from_public_bytes(public.encode()).verify(signature, octets)
    if name == "Ed448":
        return Ed448PublicKey.from_public_bytes(public.encode()).verify(signature, octets)
    group, digest = ECDSA[name]
    half = (group.key_size + 7) // 8
    assert len(signature) == 2 * half
    r, s = (int.from_bytes(part, "big") for part in (signature[:half], signature[half:]))
    key = ec.EllipticCurvePublicKey.from_encoded_point(group, public.encode())
    return key.verify(encode_dss_signature(r, s), octets, ec.ECDSA(Prehashed(digest)))


class Signing(Kit):
    """Signatures in every algorithm that the device offers."""

    @pytest.mark.parametrize("algorithm", SIGNING)
    def test_signatures_verify(self, token: Token, algorithm: str) -> None:
        """By another library, over usual and unusual octets."""
        key = make(token, Use.SIGN, algorithm=algorithm)
        size = len(digest_for(key))
        octets = [os.urandom(size) for _ in range(4)] + [b"\xff" * size, b"\0" * size]
        if algorithm not in ECDSA:
            octets += [b"", b"a", hashlib.sha512(b"long").digest() * 16]
        for message in octets:
            verify(key.public, message, key.sign(message))

    @pytest.mark.parametrize("algorithm", sorted(ECDSA))
    def test_other_digest_lengths_do_not_reach_the_device(
        self, token: Token, algorithm: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Some devices pad or cut silently; so the length is checked here (hsm-1 §12)."""
        key = make(token, Use.SIGN, algorithm=algorithm)
        reached: list[bytes] = []
        monkeypatch.setattr(type(key), "_sign", lambda self, octets: reached.append(octets))
        right = len(digest_for(key))
        for size in {0, 1, 20, 32, 47, 48, 49, 64, 66, right - 1, right + 1} - {right}:
            with pytest.raises(FormatError):
                key.sign(bytes(size))
        assert reached == []

    @pytest.mark.parametrize("algorithm", SIGNING)
    def test_bad_signatures_are_not_released(
        self, token: Token, algorithm: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What a broken device answers, every signature of ``BROKEN``, becomes ``DeviceError``."""
        key = make(token, Use.SIGN, algorithm=algorithm)
        octets = digest_for(key)
        good = key.sign(octets)
        released = []
        for name, broken in BROKEN.items():
            bad = broken(good)
            monkeypatch.setattr(type(key), "_sign", lambda self, octets, bad=bad: bad)
            try:
                key.sign(octets)
            except DeviceError:
                continue
            released.append(name)
        assert released == []

    def test_another_keys_signature_is_not_released(
        self, token: Token, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A device that mixes up its keys is found out."""
        key, other = make(token, Use.SIGN, "one"), make(token, Use.SIGN, "other")
        bad = other.sign(digest_for(other))
        monkeypatch.setattr(type(key), "_sign", lambda self, octets: bad)
        with pytest.raises(DeviceError):
            key.sign(digest_for(key))

    def test_an_agreement_key_does_not_sign(self, token: Token) -> None:
        """One key, one use."""
        key = make(token, Use.ENCRYPT)
        with pytest.raises(UnsupportedError):
            key.sign(digest_for(key))
