"""What a device has seen and will not unlearn: one record signed by its profile key (hsm-1 §6.4)."""

from __future__ import annotations

from dataclasses import dataclass

from mesh_hsm.curves import Point
from mesh_hsm.mesh.signed import Envelope, Signed


@dataclass(frozen=True, slots=True)
class Pins:
    """``srk_name`` is opaque text from the provider, empty where there is none."""

    device_udf: str
    master_udf: str
    master_version: int
    srk_name: str
    profile_master_digest: bytes
    profile_device_digest: bytes


def open_pins(envelope: Envelope | bytes, profile: Point) -> Signed[Pins]:
    """Read the record, which must be signed by this device's profile key."""
    raise NotImplementedError
