"""``mesh create``, step by step: backed up before anything depends on it (hsm-1 §13).

A master key that a device makes itself cannot be backed up: only ``--no-escrow`` allows it.
"""

from __future__ import annotations

from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from mesh_hsm.errors import ConflictError, UnsupportedError
from mesh_hsm.files import read_limited
from mesh_hsm.mesh import (
    Drilled,
    EscrowedKeySet,
    ImportableKey,
    NoBackup,
    ProfileMaster,
    create_profile_master,
    drill,
    release,
    seal_backup,
)
from mesh_hsm.provider import Imports, KeySpec, Use
from mesh_hsm.secret_source import SecretKind, SecretRequest
from mesh_hsm.udf import udf_of
from mesh_hsm.uri import Uri
from mesh_hsm_cli.choices import say_what_it_is
from mesh_hsm_cli.making_keys import WantedKey, make_key
from mesh_hsm_cli.paths import OBJECT_LIMIT, refuse_existing
from mesh_hsm_cli.records import Administrator, MeshRecord, load_mesh, mesh_path
from mesh_hsm_cli.rollback import Rollback
from mesh_hsm_cli.seen_profiles import keep_seen
from mesh_hsm_cli.session import Session

if TYPE_CHECKING:
    from mesh_hsm.provider import DeviceKey, Token

STORE = Uri("soft", (("store", "mesh"),))


def create_mesh(
    session: Session,
    name: str,
    backup: Path | None,
    now: datetime,
    master_on: tuple[Uri, WantedKey] | None = None,
) -> tuple[MeshRecord, ProfileMaster]:
    """Make a Mesh, or leave nothing. ``backup`` None means that none was wanted.

    Then the master key may be made in the device ``master_on``. Raises ``ConflictError`` where
    there is a Mesh, or a file at ``backup``.
    """
    existing = load_mesh(session.state)
    if existing is not None:
        raise ConflictError(
            f"there is a Mesh here already: {existing.udf}",
            hint="mesh-hsm mesh show; another one needs another MESH_HSM_HOME",
        )
    keys = EscrowedKeySet.draw(escrow=backup is not None)
    path = mesh_path(session.state)
    with ExitStack() as opened:
        device = opened.enter_context(session.open(master_on[0])) if master_on else None
        store = opened.enter_context(session.open(STORE))
        undo = opened.enter_context(Rollback(session.output.notice))
        backed_up = _back_up(session, keys, name, backup, undo) if backup else NoBackup()
        known_by = ("offline backup",) if backup else ()
        released = release(keys, backed_up)
        if master_on and device:
            say_what_it_is(session, device.info)
            master = make_key(session, undo, device, master_on[1], "master key", device.generate)
        else:
            master = _import(store, released[0], f"{name}-master", known_by, undo)
        administrator = _import(store, released[1], f"{name}-administrator", known_by, undo)
        escrow = keys.publics.escrow
        profile = create_profile_master(
            master, [administrator.public], [escrow] if escrow else [], now=now
        )
        record = MeshRecord(
            name=name,
            udf=profile.value.udf,
            master=str(master.uri),
            administrators=[
                Administrator(
                    f"{name}-administrator",
                    str(administrator.uri),
                    udf_of(administrator.public),
                    profile.value.version,
                )
            ],
            removed=[],
            profile=profile.envelope,
            backup=str(backup.resolve()) if backup else None,
        )
        undo.new_file(path)
        record.save(path)
    keep_seen(session, profile)
    return record, profile.value


def _back_up(
    session: Session, keys: EscrowedKeySet, name: str, path: Path, undo: Rollback
) -> Drilled:
    """Write, read back from the disk, open: only a backup that was opened counts."""
    refuse_existing(path)
    request = SecretRequest(SecretKind.NEW_BACKUP_PASSPHRASE, name)
    passphrase = session.secrets.secret(request)
    undo.write_new(path, seal_backup(keys, passphrase))
    return drill(read_limited(path, OBJECT_LIMIT), passphrase, keys.publics)


def _import(
    store: Token, key: ImportableKey, label: str, known_by: tuple[str, ...], undo: Rollback
) -> DeviceKey:
    if not isinstance(store, Imports):
        raise UnsupportedError(f"{store.info.label} takes no keys from outside")
    spec = KeySpec(key.algorithm, Use.SIGN, label)
    undo.new_key(store, label)
    return store.import_scalar(spec, key.scalar, known_by)
