"""What ``doctor`` looks at that is nobody's device: the state folder, the backup, the connection.

Open this file to add a check. Each has a stable code with a section in docs/reference/doctor.md,
changes nothing and logs in nowhere.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

from mesh_hsm.errors import CannotVerifyError, MeshHsmError, ProviderUnavailableError
from mesh_hsm.mesh import ProfileMaster, Signed
from mesh_hsm.provider import Diagnoses, Finding, Rooted, Severity
from mesh_hsm.secret_source import NoSecrets
from mesh_hsm.uri import Uri
from mesh_hsm_cli import interrupted
from mesh_hsm_cli.administrator import own_mesh, verify_filed
from mesh_hsm_cli.find import quoted
from mesh_hsm_cli.key_sets import verify_key_set
from mesh_hsm_cli.moving_master import software_copies
from mesh_hsm_cli.own_device import own_device
from mesh_hsm_cli.records import (
    MeshRecord,
    filed_devices,
    filed_key_sets,
    load_device,
    load_mesh,
)
from mesh_hsm_cli.session import Session

SOON = timedelta(days=30)


def all_findings(session: Session, now: datetime) -> list[Finding]:
    """Everything there is to say, errors first."""
    checks: list[Callable[[], Iterator[Finding]]] = [
        lambda: _home(session.state.home),
        lambda: _providers(session),
        lambda: _mesh(session, now),
        lambda: _device(session, now),
        lambda: _key_sets(session, now),
    ]
    found = [finding for check in checks for finding in _guarded(check)]
    return sorted(found, key=lambda finding: list(Severity).index(finding.severity))


def _guarded(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except MeshHsmError as error:
        yield Finding(
            "STATE003",
            Severity.ERROR,
            f"what is kept here cannot be used: {error}",
            error.hint or "restore the state folder from a copy",
        )


def _home(home: Path) -> Iterator[Finding]:
    if not home.exists():
        yield Finding(
            "STATE001",
            Severity.NOTE,
            f"nothing is kept in {home} yet",
            "mesh-hsm mesh create, or mesh-hsm device init",
        )
        return
    status = home.stat()
    if stat.S_IMODE(status.st_mode) & 0o077 or status.st_uid != os.geteuid():
        yield Finding(
            "STATE002",
            Severity.ERROR,
            f"{home} is not yours alone",
            f"chmod 700 '{home}', and check who owns it",
        )


def _providers(session: Session) -> Iterator[Finding]:
    for provider in session.providers():
        if isinstance(provider, ProviderUnavailableError):
            remedy = provider.hint or "install what it needs"
            yield Finding("PROVIDER001", Severity.WARNING, str(provider), remedy)
        elif isinstance(provider, Diagnoses):
            yield from provider.diagnose()


def _mesh(session: Session, now: datetime) -> Iterator[Finding]:
    record = load_mesh(session.state)
    if record is None:
        return
    _, master = own_mesh(session)
    if record.backup is None:
        yield Finding(
            "BACKUP001",
            Severity.WARNING,
            f"the Mesh {record.name} has no backup: what is lost stays lost",
            "make a new Mesh with --backup-to while little depends on this one",
        )
    elif Path(record.backup).exists():
        yield Finding(
            "BACKUP002",
            Severity.WARNING,
            f"the backup is still where it was made: {record.backup}",
            "move it to media that are kept elsewhere",
        )
    yield from _left_in_the_mesh(session, record, master)
    for filed in filed_devices(session.state):
        if filed.connection is None:
            yield Finding(
                "CONNECT001",
                Severity.NOTE,
                f"{filed.label} has not sent its connection back",
                "mesh-hsm device accept FILE",
            )
            continue
        try:
            verified = verify_filed(filed, master, now)
        except MeshHsmError as error:
            remedy = error.hint or "connect the device again"
            yield Finding("CONNECT002", Severity.ERROR, f"{filed.label}: {error}", remedy)
            continue
        if verified.connection.value.not_on_or_after - now < SOON:
            yield _expires_soon(filed.label)


def _left_in_the_mesh(
    session: Session, record: MeshRecord, master: Signed[ProfileMaster]
) -> Iterator[Finding]:
    for left in interrupted.mesh_notes(session.state):
        yield Finding(
            "MESH001",
            Severity.WARNING,
            f"a command was interrupted, and left keys on {left.token}: {', '.join(left.labels)}",
            "run it again with the same --token: it deletes them first",
        )
    for uri in software_copies(session, record, master):
        yield Finding(
            "MESH002",
            Severity.WARNING,
            f"a software copy of the master key is left: {uri}",
            f"mesh-hsm mesh move-master --token {quoted(Uri.parse(record.master))} --backup FILE",
        )


def _device(session: Session, now: datetime) -> Iterator[Finding]:
    record = load_device(session.state)
    left = interrupted.load(interrupted.device_note(session.state))
    if left is not None and record is None:
        yield Finding(
            "DEVICE003",
            Severity.WARNING,
            f"a device init was interrupted, and left keys on its token: {', '.join(left.labels)}",
            "run it again with the same --token: it deletes them first",
        )
    if record is None:
        return
    if record.connection is None:
        yield Finding(
            "DEVICE001",
            Severity.NOTE,
            f"the device {record.name} waits for its activation",
            "mesh-hsm device activate RESPONSE --out CONNECTION",
        )
    else:
        device = own_device(session, now)
        if ended := device.ended(now):
            yield Finding(
                "CONNECT002",
                Severity.ERROR,
                f"{record.name}: its {ended}",
                "connect the device again",
            )
        elif device.verified.connection.value.not_on_or_after - now < SOON:
            yield _expires_soon(record.name)
    try:
        token = Uri.parse(record.token)
        with session.provider(token.scheme).open(token, NoSecrets()) as opened:
            for uri in record.keys.values():
                opened.key(Uri.parse(uri))
            if isinstance(opened, Rooted):
                _ = opened.root_name  # raises if another TPM answers than the pinned one
    except MeshHsmError as error:
        yield Finding(
            "DEVICE002",
            Severity.ERROR,
            f"the keys of {record.name} cannot be reached: {error}",
            error.hint or "if the device is gone, decode with --backup and make a new one",
        )


def _key_sets(session: Session, now: datetime) -> Iterator[Finding]:
    for left in interrupted.key_set_notes(session.state):
        yield Finding(
            "KEYSET001",
            Severity.WARNING,
            f"a keyset create was interrupted, and left on {left.token}: {', '.join(left.labels)}",
            "run it again with the same tokens: it deletes them first",
        )
    for filed in filed_key_sets(session.state):
        try:
            verify_key_set(session, filed.envelope, now)
        except CannotVerifyError as error:
            yield Finding(
                "KEYSET002",
                Severity.WARNING,
                f"{filed.name}: {error}",
                "decode what was encrypted to it, and make a new key set",
            )


def _expires_soon(label: str) -> Finding:
    return Finding(
        "CONNECT003",
        Severity.WARNING,
        f"the connection of {label} expires within {SOON.days} days",
        "connect the device again before that",
    )
