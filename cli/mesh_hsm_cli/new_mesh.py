"""``mesh create``, step by step: backed up before anything depends on it (hsm-1 §13)."""

from __future__ import annotations

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
from mesh_hsm.uri import Uri
from mesh_hsm_cli.paths import OBJECT_LIMIT, refuse_existing
from mesh_hsm_cli.records import MeshRecord, load_mesh, mesh_path
from mesh_hsm_cli.rollback import Rollback
from mesh_hsm_cli.session import Session

if TYPE_CHECKING:
    from mesh_hsm.provider import DeviceKey, Token

STORE = Uri("soft", (("store", "mesh"),))


def create_mesh(
    session: Session, name: str, backup: Path | None, now: datetime
) -> tuple[MeshRecord, ProfileMaster]:
    """Make a Mesh, or leave nothing. ``backup`` None means that none was wanted.

    Raises ``ConflictError`` where there is a Mesh, or a file at ``backup``.
    """
    existing = load_mesh(session.state)
    if existing is not None:
        raise ConflictError(
            f"there is a Mesh here already: {existing.udf}",
            hint="mesh-hsm mesh show; another one needs another MESH_HSM_HOME",
        )
    keys = EscrowedKeySet.draw(escrow=backup is not None)
    path = mesh_path(session.state)
    with session.open(STORE) as store, Rollback(session.output.notice) as undo:
        backed_up = _back_up(session, keys, name, backup, undo) if backup else NoBackup()
        known_by = ("offline backup",) if backup else ()
        master, administrator = (
            _import(store, key, f"{name}-{use}", known_by, undo)
            for key, use in zip(release(keys, backed_up), ("master", "administrator"), strict=True)
        )
        escrow = keys.publics.escrow
        profile = create_profile_master(
            master, [administrator.public], [escrow] if escrow else [], now=now
        )
        record = MeshRecord(
            name=name,
            udf=profile.value.udf,
            master=str(master.uri),
            administrator=str(administrator.uri),
            profile=profile.envelope,
            backup=str(backup.resolve()) if backup else None,
        )
        undo.new_file(path)
        record.save(path)
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
