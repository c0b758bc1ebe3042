"""Public keys as points. No yubikit here: attestations are verified where it is not installed."""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from mesh_hsm.curves import ED25519, P256, P384, X25519, Point
from mesh_hsm.errors import CannotVerifyError

_NIST: Final = {"secp256r1": P256, "secp384r1": P384}


def point_of(key: object) -> Point:
    """A library's public key; of X25519, which is known by u alone, the point with even v.

    Raises ``CannotVerifyError`` for a key on none of PIV's curves, ``InvalidPointError`` for a
    point that no key has.
    """
    if isinstance(key, EllipticCurvePublicKey) and key.curve.name in _NIST:
        numbers = key.public_numbers()
        point = _NIST[key.curve.name].point(numbers.x, numbers.y)
    elif isinstance(key, Ed25519PublicKey):
        point = ED25519.decode(key.public_bytes_raw())
    elif isinstance(key, X25519PublicKey):
        point = X25519.decode_x(key.public_bytes_raw())
    else:
        raise CannotVerifyError("the key is on none of the curves of a YubiKey")
    point.check_foreign()
    return point


def same_key(one: Point, other: Point) -> bool:
    """Whether two points are one public key; X25519 keys are known by u alone."""
    if one.curve is not other.curve or one.is_neutral or other.is_neutral:
        return False
    return one.x == other.x if one.curve.family == "montgomery" else one == other
