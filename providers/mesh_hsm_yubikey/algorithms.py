"""PIV's algorithms and policies beside ours.

Open this file for which curve is which PIV identifier (SP 800-78-4 §6.2, and Yubico's 5.7 release).
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from yubikit.piv import KEY_TYPE, PIN_POLICY, TOUCH_POLICY

from mesh_hsm.curves import CURVES
from mesh_hsm.custody import PinPolicy, TouchPolicy

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
