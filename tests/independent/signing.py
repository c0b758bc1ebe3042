"""Opened for signatures MH1 (hsm-1 §3): what is signed, by whom, and which s is refused."""

import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from .groups import GROUPS
from .refusal import unverified
from .rules import F, fingerprint, sha512

_HASH = {"P-256": hashlib.sha256, "P-384": hashlib.sha384, "P-521": hashlib.sha512}


def message(crv: str, public: bytes, protected: bytes, payload: bytes) -> bytes:
    """M: label, signer, protected header as its ASCII octets, payload as it is transmitted."""
    fp = fingerprint(crv, public)
    return F("mesh-hsm/1 signature", fp, sha512(protected), sha512(payload))


def signed(crv: str, M: bytes) -> bytes:
    """What the key signs: the digest for ECDSA, M itself for EdDSA."""
    return _HASH[crv](M).digest() if crv in _HASH else M


def digest(crv: str, octets: bytes) -> int:
    """The integer that ECDSA signs: no digest here is longer than its group order."""
    return int.from_bytes(signed(crv, octets), "big")


def ecdsa(crv: str, private: int, k: int, octets: bytes) -> bytes:
    """r || s with low s, from an explicit k."""
    group = GROUPS[crv]
    R = group.multiply(k, group.base)
    if R is None:
        raise ValueError("k is a multiple of n")
    r = R[0] % group.n
    s = pow(k, -1, group.n) * (digest(crv, octets) + r * private) % group.n
    return b"".join(v.to_bytes(group.width, "big") for v in (r, min(s, group.n - s)))


def device_digest(crv: str, octets: bytes, y: int) -> bytes:
    """What the device signs in place of a digest: e / y mod n, left-aligned (threshold §7)."""
    group = GROUPS[crv]
    e = int.from_bytes(octets, "big") * pow(y, -1, group.n) % group.n
    return (e << 8 * group.width - group.n.bit_length()).to_bytes(group.width, "big")


def finish(crv: str, signature: bytes, y: int) -> bytes:
    """The device's r || s' with s' times y, low."""
    group = GROUPS[crv]
    s = y * int.from_bytes(signature[group.width :], "big") % group.n
    return signature[: group.width] + min(s, group.n - s).to_bytes(group.width, "big")


def verify(
    crv: str, public: bytes, octets: bytes, signature: bytes, *, either_s: bool = False
) -> None:
    """Refuse unless the signature is right in the one form that is allowed."""
    if crv in _HASH:
        _verify_ecdsa(crv, public, octets, signature, either_s)
        return
    kind = Ed25519PublicKey if crv == "Ed25519" else Ed448PublicKey
    try:
        kind.from_public_bytes(public).verify(signature, octets)
    except InvalidSignature as error:
        raise unverified("the signature does not verify") from error


def _verify_ecdsa(crv: str, public: bytes, octets: bytes, signature: bytes, either_s: bool) -> None:
    group = GROUPS[crv]
    r = int.from_bytes(signature[: group.width], "big")
    s = int.from_bytes(signature[group.width :], "big")
    if len(signature) != 2 * group.width or not 0 < r < group.n or not 0 < s < group.n:
        raise unverified("a length, r or s that is not allowed")
    if s > group.n // 2 and not either_s:
        raise unverified("a high s")
    w = pow(s, -1, group.n)
    R = group.add(
        group.multiply(digest(crv, octets) * w % group.n, group.base),
        group.multiply(r * w % group.n, group.decode(public)),
    )
    if R is None or R[0] % group.n != r:
        raise unverified("the signature does not verify")
