"""Curves, public points and secret scalars: open this for the names that the rest of us use.

Points come from ``curve(name).decode(octets)``; secret scalars are multiplied through
``SecretScalar`` or a device, never here.
"""

from mesh_hsm.curves.clamping import ClampedScalar, clamp
from mesh_hsm.curves.edwards import ED448, ED25519
from mesh_hsm.curves.group import Curve, Point, XOnly
from mesh_hsm.curves.montgomery import X448, X25519
from mesh_hsm.curves.recovery import recover
from mesh_hsm.curves.registry import CURVES, curve
from mesh_hsm.curves.secret_scalar import SecretScalar
from mesh_hsm.curves.verify import ecdsa_digest_size, verify_ed25519ctx, verify_prehashed
from mesh_hsm.curves.weierstrass import P256, P384, P521

__all__ = [
    "CURVES",
    "ED448",
    "ED25519",
    "P256",
    "P384",
    "P521",
    "X448",
    "X25519",
    "ClampedScalar",
    "Curve",
    "Point",
    "SecretScalar",
    "XOnly",
    "clamp",
    "curve",
    "ecdsa_digest_size",
    "recover",
    "verify_ed25519ctx",
    "verify_prehashed",
]
