"""Possession challenges for signature keys (hsm-1 §6.5)."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256, sha384, sha512

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from mesh_hsm.curves import ED25519, P256, P384, P521, X25519, Curve
from mesh_hsm.errors import FormatError, VerificationError
from mesh_hsm.provider import DeviceKey, Use
from mesh_hsm.threshold import prove_possession, verify_possession

FP = sha512(b"a public key").digest()
VERIFIER = "mesh.example"
NONCE = bytes(range(32))
MESSAGE = b"".join(
    len(field).to_bytes(2, "big") + field
    for field in (b"mesh-hsm/1 possession", FP, VERIFIER.encode(), NONCE)
)
ECDSA = {
    P256: (ec.SECP256R1(), hashes.SHA256(), sha256),
    P384: (ec.SECP384R1(), hashes.SHA384(), sha384),
    P521: (ec.SECP521R1(), hashes.SHA512(), sha512),
}


@pytest.fixture
def signer(fake: type) -> Callable[[Curve], DeviceKey]:
    """A device key played by the library, which hashes the message by itself."""

    def make(curve: Curve) -> DeviceKey:
        if curve is ED25519:
            key = Ed25519PrivateKey.from_private_bytes(bytes(32))
            public = ED25519.decode(key.public_key().public_bytes_raw())
            return fake(public, lambda S: S, Use.SIGN, sign=key.sign)
        library, algorithm, digest_of = ECDSA[curve]
        private = ec.derive_private_key(77, library)

        def sign(octets: bytes) -> bytes:
            assert octets == digest_of(MESSAGE).digest()
            r, s = decode_dss_signature(private.sign(MESSAGE, ec.ECDSA(algorithm)))
            return b"".join(v.to_bytes(curve.scalar_size, "big") for v in (r, s))

        return fake(curve.base.multiply(77), lambda S: S, Use.SIGN, sign=sign)

    return make


@pytest.mark.parametrize("curve", [P256, P384, P521, ED25519], ids=str)
def test_the_challenge_is_answered_and_bound_to_everything_it_names(
    curve: Curve, signer: Callable[[Curve], DeviceKey]
) -> None:
    key = signer(curve)
    answer = prove_possession(key, FP, VERIFIER, NONCE)
    verify_possession(answer, key.public, FP, VERIFIER, NONCE)
    if curve is ED25519:
        assert key.signed == [MESSAGE]
    other = (
        (answer[:-1] + bytes([answer[-1] ^ 1]), key.public, FP, VERIFIER, NONCE),
        (answer, key.public + key.public, FP, VERIFIER, NONCE),
        (answer, key.public, bytes(64), VERIFIER, NONCE),
        (answer, key.public, FP, "other.example", NONCE),
        (answer, key.public, FP, VERIFIER, bytes(32)),
        (b"", key.public, FP, VERIFIER, NONCE),
    )
    for told in other:
        with pytest.raises(VerificationError):
            verify_possession(*told)


MALFORMED = {
    "a short fingerprint": (FP[:-1], VERIFIER, NONCE),
    "a long fingerprint": (FP + b"\0", VERIFIER, NONCE),
    "a short nonce": (FP, VERIFIER, bytes(15)),
    "no verifier": (FP, "", NONCE),
    "a verifier beyond ASCII": (FP, "exämple", NONCE),
}


@pytest.mark.parametrize("told", MALFORMED.values(), ids=MALFORMED)
def test_malformed_challenges(
    told: tuple[bytes, str, bytes], signer: Callable[[Curve], DeviceKey]
) -> None:
    key = signer(P256)
    with pytest.raises(FormatError):
        prove_possession(key, *told)
    assert key.signed == []
    with pytest.raises(VerificationError):
        verify_possession(bytes(64), key.public, *told)


def test_an_agreement_key_is_not_asked(fake: type) -> None:
    with pytest.raises(VerificationError, match="does not sign"):
        verify_possession(bytes(64), X25519.base, FP, VERIFIER, NONCE)
