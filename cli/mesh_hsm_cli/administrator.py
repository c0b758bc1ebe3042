"""The administrator's side of a connection: vouching for a device, and filing what comes back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from mesh_hsm.custody import PinPolicy, TouchPolicy
from mesh_hsm.errors import ConflictError, NotFoundError, VerificationError
from mesh_hsm.mesh import (
    SIGNATURES_PER_DEVICE,
    Connected,
    ConnectionDevice,
    ProfileDevice,
    ProfileMaster,
    Signed,
    VerifiedConnection,
    accept,
    confirm,
    connect,
    open_connection,
    open_profile_master,
    open_request,
    verify_connection,
)
from mesh_hsm.udf import udf_of
from mesh_hsm.uri import Uri
from mesh_hsm_cli.administrators import AtHand, choose_administrator
from mesh_hsm_cli.paths import refuse_existing
from mesh_hsm_cli.records import FiledDevice, MeshRecord, filed_devices, filed_path, load_mesh
from mesh_hsm_cli.rollback import Rollback
from mesh_hsm_cli.seen_profiles import refuse_older
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
    listed = {udf_of(public) for public in profile.value.administrator_signature}
    if listed != {one.udf for one in record.administrators}:
        raise VerificationError("the record and the profile name different administrators")
    refuse_older(session.state, profile)
    return record, profile


@dataclass(frozen=True, slots=True)
class Vouching:
    """A device to be connected: its request, its UDF as a person confirmed it, where to answer."""

    request: bytes
    confirmed: str
    label: str
    out: Path


@dataclass(frozen=True, slots=True)
class Vouched:
    """A device that was connected, and by which administrator."""

    filed: FiledDevice
    connected: Connected
    out: Path
    administrator: str


def connect_devices(
    session: Session,
    wanted: Sequence[Vouching],
    *,
    administrator: str | None,
    replacing: bool,
    valid_for: timedelta,
    now: datetime,
) -> list[Vouched]:
    """Vouch for devices: each response is written and filed, or nothing of that device is changed.

    All are looked at before the first is signed. When one fails, those before it stand, and are
    named.
    """
    record, master = own_mesh(session)
    plans = _plans(session, wanted, replacing)
    by = choose_administrator(session, record, administrator)
    called = by.administrator.label
    _say_who_signs(session, by, len(wanted), several=len(record.administrators) > 1)
    done: list[Vouched] = []
    uri = Uri.parse(by.administrator.uri)
    try:
        with session.open(uri) as store:
            key = store.key(uri)
            for one, before in plans:
                with Rollback(session.output.notice) as undo:
                    connected = connect(
                        one.request,
                        confirm_udf=one.confirmed,
                        master=master,
                        administrator=key,
                        now=now,
                        valid_for=valid_for,
                    )
                    filed = _file(session, undo, one, connected, before)
                done.append(Vouched(filed, connected, one.out, called))
    except BaseException:
        if done:
            labels = ", ".join(one.filed.label for one in done)
            session.output.notice(f"connected before it failed: {labels}", loud=True)
        raise
    return done


def _plans(
    session: Session, wanted: Sequence[Vouching], replacing: bool
) -> list[tuple[Vouching, FiledDevice | None]]:
    """Each with what is filed of its device so far. Raises ``ConflictError``, ``FormatError``."""
    labels = {one.label: one.udf for one in filed_devices(session.state)}
    plans = []
    taken: set[Path | str] = set()
    for one in wanted:
        refuse_existing(one.out)
        profile = open_request(one.request).value.device.value
        before = FiledDevice.load(filed_path(session.state, profile.udf))
        if before is not None and not replacing:
            raise ConflictError(
                f"{before.label} has been vouched for already",
                hint="--replace makes a new response; the earlier one is void then",
            )
        if labels.setdefault(one.label, profile.udf) != profile.udf:
            raise ConflictError(
                f"another device is called {one.label}", hint="choose another with --label"
            )
        confirm(one.confirmed, profile.profile_signature)
        for name in (profile.udf, one.out):
            if name in taken:
                raise ConflictError(f"{name} is named twice", hint="connect each device once")
            taken.add(name)
        plans.append((one, before))
    return plans


def _say_who_signs(session: Session, by: AtHand, devices: int, *, several: bool) -> None:
    """Say beforehand whose key signs and how often, hence for how many touches it will ask.

    Nothing is said where there is no choice and nobody is waited for.
    """
    custody = by.custody
    waits = custody.touch is not TouchPolicy.NONE or custody.pin is PinPolicy.ALWAYS
    if not (waits or several):
        return
    count = devices * SIGNATURES_PER_DEVICE
    each = f", {SIGNATURES_PER_DEVICE} for each device" if devices > 1 else ""
    text = f"{by.administrator.label} signs {count} times{each}"
    if custody.touch is TouchPolicy.ALWAYS:
        text += f": {by.info.label} will ask for {count} touches"
    elif custody.touch is TouchPolicy.CACHED:
        text += f": {by.info.label} will ask for a touch, and again when it has forgotten it"
    session.output.notice(text)


def _file(
    session: Session,
    undo: Rollback,
    one: Vouching,
    connected: Connected,
    before: FiledDevice | None,
) -> FiledDevice:
    udf = connected.connection.value.subject_udf
    path = filed_path(session.state, udf)
    filed = FiledDevice(
        label=one.label,
        udf=udf,
        request=connected.request.envelope,
        issued=connected.connection.envelope,
    )
    undo.write_new(one.out, connected.response.text)
    if before:
        undo.on_failure(f"restore {path}", partial(before.save, path))
    else:
        undo.new_file(path)
    filed.save(path)
    return filed


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
