"""ConnectionDevice: an administrator vouches for a device's combined keys (hsm-1 §5, §7)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from mesh_hsm.curves import Point
from mesh_hsm.mesh.profile_master import ProfileMaster
from mesh_hsm.mesh.signed import Envelope, Signed


@dataclass(frozen=True, slots=True)
class CombinedKey:
    """A composite public key and the proof (T || s) that the device's base key is in it.

    None: no proof was given.
    """

    public: Point
    proof: bytes | None


@dataclass(frozen=True, slots=True)
class ConnectionDevice:
    """Bound to one Mesh (``authority_udf``) and one device (``subject_udf``)."""

    authority_udf: str
    subject_udf: str
    serial: str
    profile_master_version: int
    profile_device_digest: bytes
    custody_digest: bytes
    created: datetime
    not_on_or_after: datetime
    encryption: CombinedKey
    signature: CombinedKey
    authentication: CombinedKey


def open_connection(envelope: Envelope | bytes, master: ProfileMaster) -> Signed[ConnectionDevice]:
    """Verify that an administrator whom ``master`` lists signed it. Nothing else yet."""
    raise NotImplementedError
