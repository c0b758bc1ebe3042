"""Whose signatures count here, and to whom files can be encrypted: the Meshes known here.

Open this file to see what a name after ``-r`` may be. Nothing is trusted because a file says so:
connections are verified under a ProfileMaster that is administered or pinned here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mesh_hsm.curves import Point
from mesh_hsm.dare import Signer
from mesh_hsm.errors import CannotVerifyError, MeshHsmError, NotFoundError, UnsupportedError
from mesh_hsm.mesh import (
    ConnectionDevice,
    ProfileDevice,
    ProfileMaster,
    Signed,
    peek_key_set,
    verify_connection,
)
from mesh_hsm.provider import Use
from mesh_hsm.udf import fingerprint
from mesh_hsm_cli.administrator import own_mesh, profile_device, verify_filed
from mesh_hsm_cli.find import find_key, udf_begins
from mesh_hsm_cli.own_device import OwnDevice, own_device, own_request
from mesh_hsm_cli.paths import read_object
from mesh_hsm_cli.records import filed_devices, filed_key_sets, load_device, load_mesh
from mesh_hsm_cli.session import Session


@dataclass(frozen=True, slots=True)
class Known:
    """A device whose connection holds now, in a Mesh that is known here."""

    label: str
    connection: ConnectionDevice
    profile: Signed[ProfileDevice]
    master: Signed[ProfileMaster]

    def is_called(self, name: str) -> bool:
        """True for its label, or the beginning of its UDF."""
        return name == self.label or udf_begins(self.profile.value.profile_signature, name)


def activated_device(session: Session, now: datetime) -> OwnDevice | None:
    """This machine's own device, if it has been activated."""
    record = load_device(session.state)
    return own_device(session, now) if record and record.connection is not None else None


def pinned_master(session: Session, now: datetime) -> Signed[ProfileMaster] | None:
    """The Mesh that this device belongs to."""
    device = activated_device(session, now)
    return device.master if device else None


def known_masters(session: Session, now: datetime) -> list[Signed[ProfileMaster]]:
    """Every Mesh that is known here: the one this device belongs to, the one administered here."""
    pinned = pinned_master(session, now)
    masters = [pinned] if pinned else []
    if load_mesh(session.state) is not None:
        masters.append(own_mesh(session)[1])
    return masters


def known_devices(session: Session, now: datetime) -> list[Known]:
    """Every device that can be encrypted to. One whose connection does not hold is said."""
    found: list[Known] = []
    device = activated_device(session, now)
    if device and device.ended(now) is None:
        connection = device.verified.connection.value
        found.append(
            Known(device.record.name, connection, device.request.value.device, device.master)
        )
    if load_mesh(session.state) is None:
        return found
    _, master = own_mesh(session)
    for filed in filed_devices(session.state):
        if filed.connection is None:
            continue
        try:
            verified = verify_filed(filed, master, now)
        except MeshHsmError as error:
            session.output.notice(f"{filed.label}: {error}")
            continue
        known = Known(filed.label, verified.connection.value, profile_device(filed), master)
        found.append(known)
    return found


def recipient(session: Session, name: str, now: datetime) -> Known:
    """The device that ``name`` names: a label, the beginning of a UDF, or a connection's file."""
    devices = known_devices(session, now)
    if "/" in name or name.endswith(".dare"):
        return _from_file(Path(name), devices, now)
    found = {one.profile.value.udf: one for one in devices if one.is_called(name)}
    if len(found) > 1:
        raise NotFoundError(f"{name} fits {len(found)} devices", hint=f"{', '.join(found)}")
    if not found:
        raise NotFoundError(
            f"no connected device is called {name}", hint="mesh-hsm device list, or name its file"
        )
    return next(iter(found.values()))


def _from_file(path: Path, devices: list[Known], now: datetime) -> Known:
    """A connection in a file, of a device and a Mesh that are known here."""
    data = read_object(path)
    reason: MeshHsmError | None = None
    for known in devices:
        try:
            verified = verify_connection(data, master=known.master, device=known.profile, now=now)
        except MeshHsmError as error:
            reason = error
            continue
        return Known(known.label, verified.connection.value, known.profile, known.master)
    raise CannotVerifyError(
        f"{path} is not a connection of a device that is known here",
        hint="an administrator files it with mesh-hsm device accept",
    ) from reason


def trusted_keys(session: Session, now: datetime, names: tuple[str, ...]) -> dict[bytes, Point]:
    """Keys whose signatures count, by fingerprint: of Meshes known here and of their devices.

    Beside them the keys of this machine that ``names`` names: plain ones that nobody vouches for.
    """
    keys: list[Point] = []
    for name in names:
        with find_key(session, name) as (_, key):
            keys.append(key.public)
    for master in known_masters(session, now):
        keys += [master.value.profile_signature, *master.value.administrator_signature]
    keys += [known.connection.signature.public for known in known_devices(session, now)]
    return {fingerprint(key).octets: key for key in keys}


@contextmanager
def signers(session: Session, names: tuple[str, ...], now: datetime) -> Iterator[list[Signer]]:
    """The keys named after ``--sign``: this device (by name, UDF or ``device``), or a plain key.

    A device's base keys never sign for strangers (hsm-1 §6.5): its derived key does.
    """
    with ExitStack() as opened:
        found: list[Signer] = []
        device = activated_device(session, now) if names else None
        base = _device_keys(session) if names else {}
        for name in names:
            if device and (name == "device" or _is(device, name)):
                device.require_valid(now)
                found.append(opened.enter_context(device.open(session)).signature)
                continue
            _, key = opened.enter_context(find_key(session, name))
            purpose = base.get(key.public)
            if key.use is not Use.SIGN or key.public in base:
                raise UnsupportedError(
                    f"{key.label} does not sign files{': it is ' + purpose if purpose else ''}",
                    hint="--sign device signs with this device's own signature key",
                )
            found.append(key)
        yield found


def needed_keys(session: Session) -> dict[Point, str]:
    """Keys that something here depends on, and what each is; by points, as URIs have synonyms."""
    needed = _device_keys(session)
    for filed in filed_key_sets(session.state):
        key_set = peek_key_set(filed.envelope)
        for point in key_set.points().values():
            part = f"a part of the key set {filed.name}"
            needed |= dict.fromkeys((point, -point), part)  # devices differ in the sign they show
    if load_mesh(session.state) is not None:
        record, master = own_mesh(session)
        for key in master.value.administrator_signature:
            needed[key] = f"the administrator key of {record.name}"
        needed[master.value.profile_signature] = f"the master key of {record.name}"
    return needed


def _device_keys(session: Session) -> dict[Point, str]:
    """This machine's own keys, activated or not, and what each is."""
    if load_device(session.state) is None:
        return {}
    record, request = own_request(session)
    device = request.value.device.value
    return {
        device.encryption: f"the encryption key of {record.name}",
        device.signature: f"the signature key of {record.name}",
        device.authentication: f"the authentication key of {record.name}",
        device.profile_signature: f"the profile key of {record.name}",
    }


def _is(device: OwnDevice, name: str) -> bool:
    profile = device.request.value.device.value.profile_signature
    return name == device.record.name or udf_begins(profile, name)
