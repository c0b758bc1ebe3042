"""A share on its way into a slot. Open this file for the forms in which PIV takes private keys."""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, derive_private_key
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from mesh_hsm.curves import Point, SecretScalar, clamp
from mesh_hsm.curves.weierstrass import WeierstrassCurve


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """A key for ``creating.import_key``. ``public`` is signed: of X25519, PIV has u alone."""

    public: Point
    known_by: tuple[str, ...]
    in_library: EllipticCurvePrivateKey | X25519PrivateKey = field(repr=False)


def private_key(share: SecretScalar, known_by: tuple[str, ...]) -> PrivateKey:
    """A scalar mod n; of X25519 the clamped one that equals it up to sign (threshold §10)."""
    curve = share.curve
    if isinstance(curve, WeierstrassCurve):
        key: EllipticCurvePrivateKey | X25519PrivateKey = derive_private_key(
            share.value, curve.in_library
        )
    else:
        key = X25519PrivateKey.from_private_bytes(clamp(curve, share.value).octets())
    return PrivateKey(share.public(), known_by, key)
