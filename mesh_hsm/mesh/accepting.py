"""What anybody in the personal Mesh checks of a connection: ``device accept``, and ever after."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from mesh_hsm.mesh.connection import ConnectionDevice
from mesh_hsm.mesh.profile_device import ProfileDevice
from mesh_hsm.mesh.profile_master import ProfileMaster
from mesh_hsm.mesh.signed import Envelope, Signed


class Composite(StrEnum):
    """Whether the composite keys are known to contain the device's own (hsm-1 §5)."""

    PROVED = "proved"
    CLAIMED = "claimed, not proved"


@dataclass(frozen=True, slots=True)
class VerifiedConnection:
    """A valid connection, and what it proves."""

    connection: Signed[ConnectionDevice]
    composite: Composite
    administrator_udf: str


def verify_connection(
    envelope: Envelope | bytes,
    *,
    master: Signed[ProfileMaster],
    device: Signed[ProfileDevice],
    now: datetime,
) -> VerifiedConnection:
    """Verify a connection under a trusted ProfileMaster. Raises ``VerificationError``."""
    raise NotImplementedError


def accept(
    envelope: Envelope | bytes,
    *,
    issued: Signed[ConnectionDevice],
    master: Signed[ProfileMaster],
    device: Signed[ProfileDevice],
    now: datetime,
) -> VerifiedConnection:
    """Verify what the device sent back, against what was issued to it, before filing it."""
    raise NotImplementedError
