"""Everything that touches a clear private key: make, read, multiply, sign. Open it to audit that.

Private octets: a scalar mod n at its curve's width and byte order (threshold §1) for keys that
agree and for ECDSA; RFC 8032's 32 or 57 octets for EdDSA. Only constant-time library calls.
"""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512

from mesh_hsm.curves import Curve, Point, SecretScalar, XOnly
from mesh_hsm.errors import FormatError

_EDWARDS: Final[dict[str, type[Ed25519PrivateKey] | type[Ed448PrivateKey]]] = {
    "Ed25519": Ed25519PrivateKey,
    "Ed448": Ed448PrivateKey,
}
_ECDSA: Final = {
    "P-256": (ec.SECP256R1(), SHA256()),
    "P-384": (ec.SECP384R1(), SHA384()),
    "P-521": (ec.SECP521R1(), SHA512()),
}


def generate(curve: Curve) -> bytes:
    """Fresh private octets."""
    if curve.family == "edwards":
        return _EDWARDS[curve.name].generate().private_bytes_raw()
    return curve.scalar_octets(SecretScalar.random(curve).value)


def from_scalar(curve: Curve, scalar: int) -> bytes:
    """Private octets of a scalar from outside. Raises ``FormatError`` outside [1, n)."""
    if not 0 < scalar < curve.order:
        raise FormatError(f"a {curve.name} scalar lies between 1 and n - 1")
    return curve.scalar_octets(scalar)


def public(curve: Curve, octets: bytes) -> Point:
    """The public point of private octets."""
    if curve.family == "edwards":
        key = _EDWARDS[curve.name].from_private_bytes(octets)
        return curve.decode(key.public_key().public_bytes_raw())
    return _scalar(curve, octets).public()


def agree(curve: Curve, octets: bytes, S: Point) -> XOnly:
    """The x (u) coordinate of x·S for a checked S."""
    return _scalar(curve, octets).x_of(S)


def sign(curve: Curve, octets: bytes, message: bytes) -> bytes:
    """ECDSA over a digest of the curve's length, r || s at field width; or EdDSA by RFC 8032."""
    if curve.family == "edwards":
        return _EDWARDS[curve.name].from_private_bytes(octets).sign(message)
    group, digest = _ECDSA[curve.name]
    key = ec.derive_private_key(int.from_bytes(octets, "big"), group)
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(Prehashed(digest))))
    return r.to_bytes(curve.scalar_size, "big") + s.to_bytes(curve.scalar_size, "big")


def _scalar(curve: Curve, octets: bytes) -> SecretScalar:
    return SecretScalar(curve, curve.scalar(octets))
