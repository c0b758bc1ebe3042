"""ConnectionRequest: what a new device shows to an administrator (hsm-1 §6.1)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from mesh_hsm.curves import Point
from mesh_hsm.mesh.device_keys import BaseKeys
from mesh_hsm.mesh.profile_device import ProfileDevice
from mesh_hsm.mesh.signed import Envelope, Signed
from mesh_hsm.mesh.wire import Json


@dataclass(frozen=True, slots=True)
class ConnectionRequest:
    """``custody``: JSON statements by key name (``ProfileSignature``, ``Encryption``,
    ``Signature``, ``Authentication``), as the device states them; ``custody_octets`` their octets.
    ``nonce`` is a nonce UDF.
    """

    device: Signed[ProfileDevice]
    custody_octets: bytes
    nonce: str
    one_time: Point
    attestation: tuple[Json, ...]
    created: datetime

    @property
    def custody(self) -> dict[str, dict[str, Json]]:
        """The statements, parsed."""
        raise NotImplementedError


def create_request(keys: BaseKeys, one_time: Point, *, now: datetime) -> Signed[ConnectionRequest]:
    """Sign a ProfileDevice and the request around it. Custody is read back from the keys now."""
    raise NotImplementedError


def open_request(envelope: Envelope | bytes) -> Signed[ConnectionRequest]:
    """Verify a request and the ProfileDevice in it: consistent, not yet trusted."""
    raise NotImplementedError
