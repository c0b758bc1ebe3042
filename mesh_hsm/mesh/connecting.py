"""The administrator's side: ``device connect`` (hsm-1 §6.2-3)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from mesh_hsm.dare import Signer
from mesh_hsm.mesh.connection import ConnectionDevice
from mesh_hsm.mesh.profile_master import ProfileMaster
from mesh_hsm.mesh.request import ConnectionRequest
from mesh_hsm.mesh.signed import Envelope, Signed

YEAR: Final = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class ConnectionResponse:
    """What goes back to the device. The activation is encrypted to it."""

    master: Signed[ProfileMaster]
    connection: Signed[ConnectionDevice]
    activation: Envelope


@dataclass(frozen=True, slots=True)
class Connected:
    """``response`` goes to the device, the rest is filed; ``witness`` is shown on both sides."""

    response: Signed[ConnectionResponse]
    request: Signed[ConnectionRequest]
    connection: Signed[ConnectionDevice]
    witness: str


def connect(
    request: Envelope | bytes,
    *,
    confirm_udf: str,
    master: Signed[ProfileMaster],
    administrator: Signer,
    now: datetime,
    valid_for: timedelta = YEAR,
    seed: bytes | None = None,
) -> Connected:
    """Vouch for a device. ``confirm_udf``: its UDF as a person typed or scanned it.

    ``seed`` (34 octets, see ``ActivationDevice``) is drawn unless given. Raises
    ``VerificationError`` if the UDF, the request or the administrator does not fit.
    """
    raise NotImplementedError


def open_response(envelope: Envelope | bytes) -> Signed[ConnectionResponse]:
    """Verify a response in itself: consistent, not yet trusted. ``value.master.value.udf`` is
    what a person has to confirm before ``activate``.
    """
    raise NotImplementedError
