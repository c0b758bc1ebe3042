"""PIV's algorithms and policies beside ours, and public keys as points.

Open this file for which curve is which PIV identifier (SP 800-78-4 §6.2, and Yubico's 5.7 release).
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from yubikit.piv import KEY_TYPE, PIN_POLICY, TOUCH_POLICY

from mesh_hsm.curves import CURVES, ED25519, X25519, Point
from mesh_hsm.custody import PinPolicy, TouchPolicy
from mesh_hsm.errors import DeviceError

KEY_TYPES: Final = MappingProxyType(
    {
        "P-256": KEY_TYPE.ECCP256,
        "P-384": KEY_TYPE.ECCP384,
        "Ed25519": KEY_TYPE.ED25519,
        "X25519": KEY_TYPE.X25519,
    }
)
KEY_CURVES: Final = MappingProxyType({one: CURVES[name] for name, one in KEY_TYPES.items()})
PIN_POLICIES: Final = MappingProxyType(
    {
        PinPolicy.NONE: PIN_POLICY.NEVER,
        PinPolicy.ONCE: PIN_POLICY.ONCE,
        PinPolicy.ALWAYS: PIN_POLICY.ALWAYS,
    }
)
TOUCH_POLICIES: Final = MappingProxyType(
    {
        TouchPolicy.NONE: TOUCH_POLICY.NEVER,
        TouchPolicy.ALWAYS: TOUCH_POLICY.ALWAYS,
        TouchPolicy.CACHED: TOUCH_POLICY.CACHED,
    }
)
PIN_POLICY_OF: Final = MappingProxyType({theirs: ours for ours, theirs in PIN_POLICIES.items()})
TOUCH_POLICY_OF: Final = MappingProxyType({theirs: ours for ours, theirs in TOUCH_POLICIES.items()})

_NAMES: Final = {"secp256r1": "P-256", "secp384r1": "P-384"}


def point_of(public: object) -> Point:
    """A library's public key as a point; of an X25519 key, which shows u alone, the even one.

    Raises ``DeviceError`` for a key that is none of PIV's curves.
    """
    if isinstance(public, EllipticCurvePublicKey) and public.curve.name in _NAMES:
        numbers = public.public_numbers()
        return CURVES[_NAMES[public.curve.name]].point(numbers.x, numbers.y)
    if isinstance(public, X25519PublicKey):
        return X25519.decode_x(public.public_bytes_raw())
    if isinstance(public, Ed25519PublicKey):
        return ED25519.decode(public.public_bytes_raw())
    raise DeviceError("a key that is neither P-256, P-384, Ed25519 nor X25519")
