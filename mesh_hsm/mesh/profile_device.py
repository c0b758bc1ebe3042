"""ProfileDevice: a device's own keys, before anybody has vouched for it (schema §2-§3)."""

from __future__ import annotations

from dataclasses import dataclass

from mesh_hsm.curves import Point
from mesh_hsm.mesh.signed import Envelope, Signed


@dataclass(frozen=True, slots=True)
class ProfileDevice:
    """``udf`` (of the profile key) names the device for life. The other three are base keys."""

    profile_signature: Point
    encryption: Point
    signature: Point
    authentication: Point

    @property
    def udf(self) -> str:
        """The identifier of the device."""
        raise NotImplementedError


def open_profile_device(envelope: Envelope | bytes) -> Signed[ProfileDevice]:
    """Verify a ProfileDevice's own signature: consistent, not yet trusted."""
    raise NotImplementedError
