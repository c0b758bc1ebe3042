"""The administrator's side of a connection: vouching for a device, and filing what comes back."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from mesh_hsm.errors import ConflictError, NotFoundError, VerificationError
from mesh_hsm.mesh import (
    Connected,
    ConnectionDevice,
    ProfileDevice,
    ProfileMaster,
    Signed,
    VerifiedConnection,
    accept,
    connect,
    open_connection,
    open_profile_master,
    open_request,
    verify_connection,
)
from mesh_hsm.uri import Uri
from mesh_hsm_cli.paths import refuse_existing
from mesh_hsm_cli.records import FiledDevice, MeshRecord, filed_devices, filed_path, load_mesh
from mesh_hsm_cli.rollback import Rollback
from mesh_hsm_cli.session import Session


def own_mesh(session: Session) -> tuple[MeshRecord, Signed[ProfileMaster]]:
    """The Mesh administered here. Raises ``NotFoundError``."""
    record = load_mesh(session.state)
    if record is None:
        raise NotFoundError(
            "no Mesh is administered here", hint="mesh-hsm mesh create --backup-to FILE"
        )
    profile = open_profile_master(record.profile)
    if profile.value.udf != record.udf:
        raise VerificationError("the record and the profile name different Meshes")
    return record, profile


def connect_device(
    session: Session,
    request: bytes,
    *,
    confirmed: str,
    label: str,
    out: Path,
    replacing: bool,
    valid_for: timedelta,
    now: datetime,
) -> tuple[FiledDevice, Connected]:
    """Vouch for a device, write the response to ``out`` and file it, or change nothing."""
    record, master = own_mesh(session)
    refuse_existing(out)
    udf = open_request(request).value.device.value.udf
    path = filed_path(session.state, udf)
    before = FiledDevice.load(path)
    if before is not None and not replacing:
        raise ConflictError(
            f"{before.label} has been vouched for already",
            hint="--replace makes a new response; the earlier one is void then",
        )
    if any(one.label == label and one.udf != udf for one in filed_devices(session.state)):
        raise ConflictError(f"another device is called {label}", hint="choose another with --label")
    administrator = Uri.parse(record.administrator)
    with session.open(administrator) as store, Rollback(session.output.notice) as undo:
        connected = connect(
            request,
            confirm_udf=confirmed,
            master=master,
            administrator=store.key(administrator),
            now=now,
            valid_for=valid_for,
        )
        filed = FiledDevice(
            label=label,
            udf=udf,
            request=connected.request.envelope,
            issued=connected.connection.envelope,
        )
        undo.write_new(out, connected.response.text)
        if before:
            undo.on_failure(f"restore {path}", partial(before.save, path))
        else:
            undo.new_file(path)
        filed.save(path)
    return filed, connected


def accept_device(
    session: Session, envelope: bytes, now: datetime
) -> tuple[FiledDevice, VerifiedConnection]:
    """Verify a countersigned connection against what was issued, and file it."""
    _, master = own_mesh(session)
    udf = open_connection(envelope, master.value).value.subject_udf
    path = filed_path(session.state, udf)
    filed = FiledDevice.load(path)
    if filed is None:
        raise NotFoundError(f"no connection was issued here to {udf}", hint="mesh-hsm device list")
    verified = accept(
        envelope,
        issued=issued(filed, master),
        master=master,
        device=profile_device(filed),
        now=now,
    )
    filed = replace(filed, connection=verified.connection.envelope)
    filed.save(path)
    return filed, verified


def issued(filed: FiledDevice, master: Signed[ProfileMaster]) -> Signed[ConnectionDevice]:
    """What was issued to a device."""
    return open_connection(filed.issued, master.value)


def profile_device(filed: FiledDevice) -> Signed[ProfileDevice]:
    """A filed device's own profile."""
    return open_request(filed.request).value.device


def verify_filed(
    filed: FiledDevice, master: Signed[ProfileMaster], now: datetime
) -> VerifiedConnection:
    """A filed device's connection, verified now. Raises ``NotFoundError`` before it came back."""
    if filed.connection is None:
        raise NotFoundError(
            f"{filed.label} has not sent its connection back", hint="mesh-hsm device accept FILE"
        )
    return verify_connection(filed.connection, master=master, device=profile_device(filed), now=now)
