"""What the administrator adds to a device's base keys: three scalars from one seed.

Open this file for the names and the arithmetic (hsm-1 §1, threshold §3.1): encryption and
authentication keys are added to, signature keys are multiplied. A bare scalar is never accepted
from outside, only the seed.
"""

from __future__ import annotations

from typing import Final

from mesh_hsm.curves import Curve, Point, SecretScalar
from mesh_hsm.errors import FormatError
from mesh_hsm.provider import Use
from mesh_hsm.threshold.additive import combine
from mesh_hsm.threshold.derived import derive_public
from mesh_hsm.udf import SeedUse, derive_key, new_seed

SEED_USES: Final = (SeedUse.ACTIVATION_ACCOUNT, SeedUse.ACTIVATION_DEVICE)
"""0x0103 is in every published ActivationKey, and written; 0x0101 is defined, and read."""

NAMES: Final = {
    Use.ENCRYPT: "ActivationDeviceEncrypt",
    Use.AUTHENTICATE: "ActivationDeviceAuthenticate",
    Use.SIGN: "ActivationDeviceSign",
}
SEED_SIZE: Final = 34


def draw_seed() -> bytes:
    """A fresh activation seed: id (2 octets) || 32 secret octets."""
    return new_seed(SeedUse.ACTIVATION_ACCOUNT)


def check_seed(seed: bytes) -> None:
    """Refuse what is not an activation seed. Raises ``FormatError``."""
    if len(seed) != SEED_SIZE or int.from_bytes(seed[:2], "big") not in SEED_USES:
        raise FormatError("not an activation seed")


def contribution(seed: bytes, use: Use, curve: Curve) -> SecretScalar:
    """y for one use, on the curve of the device's base key."""
    check_seed(seed)
    return SecretScalar(curve, derive_key(seed, NAMES[use], curve))


def combine_public(X: Point, y: SecretScalar, use: Use) -> Point:
    """Z = X + yG, or yX for a signature key."""
    return derive_public(X, y) if use is Use.SIGN else combine([X, y.public()])
