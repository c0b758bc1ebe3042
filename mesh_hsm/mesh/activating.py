"""The device's side: ``device activate`` (hsm-1 §6.3-4)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from mesh_hsm.dare import Decryptor
from mesh_hsm.mesh.connection import ConnectionDevice
from mesh_hsm.mesh.device_keys import BaseKeys
from mesh_hsm.mesh.pins import Pins
from mesh_hsm.mesh.profile_master import ProfileMaster
from mesh_hsm.mesh.signed import Envelope, Signed


@dataclass(frozen=True, slots=True)
class Activated:
    """``connection`` is countersigned; ``seed`` (34 octets) is to be kept sealed; ``pins`` filed.

    After all three are safe the one-time key must be erased.
    """

    connection: Signed[ConnectionDevice]
    master: Signed[ProfileMaster]
    pins: Signed[Pins]
    witness: str
    seed: bytes = field(repr=False)


def activate(
    response: Envelope | bytes,
    *,
    request: Envelope | bytes,
    keys: BaseKeys,
    once: Decryptor,
    confirm_master_udf: str | None,
    pins: Envelope | bytes | None,
    srk_name: str,
    now: datetime,
) -> Activated:
    """Join a Mesh: check everything the administrator sent, then countersign.

    ``request`` is the device's own copy. ``confirm_master_udf``: the Mesh's UDF as a person typed
    or scanned it; it may be None only where ``pins`` already name the Mesh. ``srk_name``: what
    identifies the token's root (empty where there is none), to be pinned.
    Raises ``VerificationError``, ``DecryptionError`` (one-time key gone, or another device).
    """
    raise NotImplementedError
