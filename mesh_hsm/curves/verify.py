"""Signatures checked under a public point: open this before a signature is released or believed."""

from __future__ import annotations

import hashlib
from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature

from mesh_hsm.curves.edwards import ED25519
from mesh_hsm.curves.group import Curve, Point
from mesh_hsm.curves.weierstrass import WeierstrassCurve
from mesh_hsm.errors import FormatError, UnsupportedError

_HASHES: dict[str, hashes.HashAlgorithm] = {
    "P-256": hashes.SHA256(),
    "P-384": hashes.SHA384(),
    "P-521": hashes.SHA512(),
}
_DOM2 = b"SigEd25519 no Ed25519 collisions"


def ecdsa_digest_size(curve: Curve) -> int | None:
    """Octets of the digest that this curve signs (hsm-1 §3): 32, 48, 64; None if not ECDSA."""
    algorithm = _HASHES.get(curve.name)
    return None if algorithm is None else algorithm.digest_size


def verify_prehashed(public: Point, octets: bytes, signature: bytes) -> bool:
    """Whether a signature fits. The caller must look at the answer.

    NIST: ``octets`` is the digest, ``signature`` r || s, each big-endian at field width, high s
    allowed. Edwards: pure RFC 8032 over the message ``octets``. Raises ``FormatError`` for a digest
    of another length, ``InvalidPointError`` for a small-order key, ``UnsupportedError`` on
    Montgomery curves.
    """
    public.check_foreign()
    curve = public.curve
    if curve.family == "montgomery":
        raise UnsupportedError(f"{curve.name} does not sign")
    try:
        if isinstance(curve, WeierstrassCurve):
            _ecdsa(curve, public, octets, signature)
        elif curve is ED25519:
            Ed25519PublicKey.from_public_bytes(public.encode()).verify(signature, octets)
        else:
            Ed448PublicKey.from_public_bytes(public.encode()).verify(signature, octets)
    except InvalidSignature:
        return False
    return True


def _ecdsa(curve: WeierstrassCurve, public: Point, digest: bytes, signature: bytes) -> None:
    if len(digest) != ecdsa_digest_size(curve):
        raise FormatError(f"{curve.name} signs a digest of {ecdsa_digest_size(curve)} octets")
    size = curve.field_size
    if len(signature) != 2 * size:
        raise InvalidSignature
    r, s = int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
    key = _library_key(ec.EllipticCurvePublicNumbers(public.x, public.y, curve.in_library))
    key.verify(encode_dss_signature(r, s), digest, ec.ECDSA(Prehashed(_HASHES[curve.name])))


@lru_cache(maxsize=64)
def _library_key(numbers: ec.EllipticCurvePublicNumbers) -> ec.EllipticCurvePublicKey:
    # Kept: to prepare a key costs half of a verification, and a device signs with few.
    return numbers.public_key()


def verify_ed25519ctx(
    public: Point, message: bytes, signature: bytes, context: bytes = b""
) -> bool:
    """Whether an Ed25519ctx signature fits (RFC 8032 §5.1, dare §2.3). The caller must look.

    Other than RFC 8032's, an empty context is allowed, as in the published form. By public
    arithmetic, cofactorless; R is compared as octets, so it is canonical. Raises ``FormatError``
    for a context above 255 octets, ``InvalidPointError`` for a small-order key,
    ``UnsupportedError`` for another curve.
    """
    if public.curve is not ED25519:
        raise UnsupportedError("Ed25519ctx is of Ed25519 only")
    if len(context) > 255:
        raise FormatError("an Ed25519ctx context has at most 255 octets")
    public.check_foreign()
    R = signature[:32]
    try:
        s = ED25519.scalar(signature[32:])  # 32 octets exactly, so the signature has 64
    except FormatError:
        return False
    dom2 = _DOM2 + bytes([0, len(context)]) + context
    digest = hashlib.sha512(dom2 + R + public.encode() + message).digest()
    k = int.from_bytes(digest, "little") % ED25519.order
    return (ED25519.base.multiply(s) - public.multiply(k)).encode() == R
