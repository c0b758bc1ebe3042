"""``device update``: a device sees the newest ProfileMaster, and will not unlearn it (hsm-1 §7).

Open this file to see what is checked before the device pins another version.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from mesh_hsm.errors import VerificationError
from mesh_hsm.mesh import ProfileMaster, Signed, open_profile_master
from mesh_hsm.mesh.signed import sign_object
from mesh_hsm.uri import Uri
from mesh_hsm_cli.own_device import OwnDevice, base_keys, own_device, verify_own
from mesh_hsm_cli.records import device_path
from mesh_hsm_cli.seen_profiles import keep_seen, refuse_older
from mesh_hsm_cli.session import Session


@dataclass(frozen=True, slots=True)
class Updated:
    """``before`` is the version that was pinned. ``void``: nobody answers for the device now."""

    device: OwnDevice
    master: Signed[ProfileMaster]
    before: int
    void: bool


def update_device(session: Session, data: bytes, now: datetime) -> Updated:
    """Pin a later ProfileMaster, also one under which this device's own connection is void.

    Refusing that one would leave the device trusting whom it must not. Raises
    ``VerificationError`` for another Mesh, an older version, a fork. Nothing is signed where the
    version is pinned already.
    """
    device = own_device(session, now)
    master = open_profile_master(data)
    pins = device.pins.advanced(master)
    refuse_older(session.state, master)
    if device.record.connection is None:  # own_device has refused it
        raise VerificationError("the device has no connection")
    _, void = verify_own(device.record.connection, master, device.request.value.device, now)
    before = device.pins.master_version
    if master.value.version > before:
        with session.open(Uri.parse(device.record.token)) as token:
            device.check_token(token)
            signed = sign_object(pins, base_keys(token, device.record).profile, now)
        after = replace(device.record, master=master.envelope, pins=signed.envelope)
        after.save(device_path(session.state))
    keep_seen(session, master)
    return Updated(device, master, before, void)
