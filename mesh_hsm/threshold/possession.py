"""Proof that somebody holds a signature key: the one message a base key signs for a verifier.

Open this file to answer or check a possession challenge (hsm-1 §6.5). Raw signatures by a base key
over a chosen digest are never given to a peer: one of them becomes a signature under any derived
key whose factor the peer knows (threshold §7).
"""

from __future__ import annotations

import hashlib

from mesh_hsm.curves import Point, verify_prehashed
from mesh_hsm.errors import FormatError, VerificationError
from mesh_hsm.framing import F
from mesh_hsm.provider import DeviceKey

_HASHES = {"P-256": hashlib.sha256, "P-384": hashlib.sha384, "P-521": hashlib.sha512}
_FINGERPRINT_SIZE = 64
_LEAST_NONCE_SIZE = 16


def prove_possession(key: DeviceKey, fingerprint: bytes, verifier_id: str, nonce: bytes) -> bytes:
    """The key's signature over the challenge; r || s, or RFC 8032's form.

    ``fingerprint`` is the key's 64-octet fp, ``verifier_id`` the verifier's DNS name or UDF in
    ASCII, ``nonce`` at least 16 octets, used once. Raises ``FormatError``, and what
    ``DeviceKey.sign`` raises.
    """
    return key.sign(_octets(key.public, fingerprint, verifier_id, nonce))


def verify_possession(
    signature: bytes, public: Point, fingerprint: bytes, verifier_id: str, nonce: bytes
) -> None:
    """Return if ``public`` answered this very challenge, else raise ``VerificationError``.

    The verifier computes ``fingerprint`` from ``public`` itself and never repeats a nonce.
    """
    try:
        octets = _octets(public, fingerprint, verifier_id, nonce)
    except FormatError as error:
        raise VerificationError(f"the possession challenge is void: {error}") from error
    if not verify_prehashed(public, octets, signature):
        raise VerificationError("the answer to the possession challenge does not verify")


def _octets(public: Point, fingerprint: bytes, verifier_id: str, nonce: bytes) -> bytes:
    """What is signed: the framed message itself for EdDSA, its digest for ECDSA (hsm-1 §3)."""
    if len(fingerprint) != _FINGERPRINT_SIZE or len(nonce) < _LEAST_NONCE_SIZE:
        raise FormatError("a challenge has a 64-octet fingerprint and a nonce of 16 octets or more")
    if not verifier_id or not verifier_id.isascii():
        raise FormatError("a verifier is named in ASCII")
    message = F("mesh-hsm/1 possession", fingerprint, verifier_id, nonce)
    if public.curve.family == "montgomery":
        raise FormatError(f"a key on {public.curve.name} does not sign")
    make = _HASHES.get(public.curve.name)
    return make(message).digest() if make else message
