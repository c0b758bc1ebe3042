"""``mesh move-master``: the master key, made in software and backed up, moves into a device.

Open this file for the order in which nothing can be lost (hsm-1 §13): the backup is opened again,
the key is imported and tried, the record names it, and only then the software copy is deleted.
Interrupted anywhere, the same command goes on or begins anew.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from pathlib import Path

from mesh_hsm.custody import CustodyStatement, Hardware
from mesh_hsm.errors import ConflictError, DeviceError, UnsupportedError
from mesh_hsm.mesh import ImportableKey, ProfileMaster, Signed, drill_again, release
from mesh_hsm.mesh.backup import LABEL
from mesh_hsm.passphrase_file import SealedFile
from mesh_hsm.provider import DeviceKey, Imports, Token
from mesh_hsm.secret_source import NoSecrets, SecretKind, SecretRequest
from mesh_hsm.threshold import prove_possession, verify_possession
from mesh_hsm.udf import fingerprint
from mesh_hsm.uri import Uri
from mesh_hsm_cli import choices
from mesh_hsm_cli.administrator import own_mesh
from mesh_hsm_cli.making_keys import WantedKey, clear_interrupted, make_key
from mesh_hsm_cli.master_key import is_on, replace_record
from mesh_hsm_cli.new_mesh import STORE
from mesh_hsm_cli.paths import read_object
from mesh_hsm_cli.records import MeshRecord
from mesh_hsm_cli.rollback import Rollback
from mesh_hsm_cli.session import Session

KNOWN_BY = ("offline backup", "the key file that it came from")


@dataclass(frozen=True, slots=True)
class Moved:
    """Where the master key is now, and which copies of it were deleted."""

    record: MeshRecord
    master: Signed[ProfileMaster]
    custody: CustodyStatement
    deleted: tuple[str, ...]


def move_master(session: Session, uri: Uri, wanted: WantedKey, backup: Path) -> Moved:
    """Move the master key into a device, or finish a move that was interrupted.

    Raises ``ConflictError`` if it is in another device already, ``VerificationError`` for a
    backup of other keys, ``WrongSecretError``, ``UnsupportedError`` for a token that takes no keys.
    """
    record, master = own_mesh(session)
    with session.open(uri) as token:
        if is_on(Uri.parse(record.master), token.info):
            moved = token.key(Uri.parse(record.master))
            _compare(moved, master)
            custody = moved.custody()
            clear_interrupted(session, token)
        else:
            _refuse_unless_in_software(session, record)
            record, custody = _move(session, token, wanted, backup, record, master)
    return Moved(record, master, custody, _delete_copies(session, record, master))


def software_copies(
    session: Session, record: MeshRecord, master: Signed[ProfileMaster]
) -> list[Uri]:
    """Copies of the master key in the Mesh's key store, beside the one that the record names."""
    with session.open(STORE, NoSecrets()) as store:
        if is_on(Uri.parse(record.master), store.info):
            return []
        listed = store.keys()
        return [key.uri for key in listed if key.public == master.value.profile_signature]


def _move(
    session: Session,
    token: Token,
    wanted: WantedKey,
    backup: Path,
    record: MeshRecord,
    master: Signed[ProfileMaster],
) -> tuple[MeshRecord, CustodyStatement]:
    if not isinstance(token, Imports):
        raise UnsupportedError(f"{token.info.label} takes no keys from outside")
    importer: Imports = token
    key = _from_backup(session, backup, master)
    wanted = replace(wanted, algorithm=key.algorithm)
    choices.say_what_it_is(session, token.info)
    with Rollback(session.output.notice) as undo:
        moved = make_key(
            session,
            undo,
            token,
            wanted,
            "master key",
            lambda spec: importer.import_scalar(spec, key.scalar, KNOWN_BY),
        )
        _try(moved, master)
        after = replace(record, master=str(moved.uri))
        replace_record(session, undo, record, after)
    return after, moved.custody()


def _from_backup(session: Session, path: Path, master: Signed[ProfileMaster]) -> ImportableKey:
    data = read_object(path)
    SealedFile.parse(data, LABEL)  # nobody is asked for the passphrase of something else
    passphrase = session.secrets.secret(SecretRequest(SecretKind.BACKUP_PASSPHRASE, str(path)))
    profile = master.value
    keys, drilled = drill_again(
        data, passphrase, profile.profile_signature, profile.escrow_encryption
    )
    return release(keys, drilled)[0]


def _try(key: DeviceKey, master: Signed[ProfileMaster]) -> None:
    """Before the working copy goes: the device has this very key, and signs with it."""
    _compare(key, master)
    public = master.value.profile_signature
    fp, nonce = fingerprint(public).octets, secrets.token_bytes(32)
    signature = prove_possession(key, fp, master.value.udf, nonce)
    verify_possession(signature, public, fp, master.value.udf, nonce)


def _compare(key: DeviceKey, master: Signed[ProfileMaster]) -> None:
    if key.public != master.value.profile_signature:
        raise DeviceError(
            "the device shows another public key than that of the master key it was given",
            hint="mesh-hsm key list; no copy of the master key was deleted",
            uri=str(key.uri),
        )


def _refuse_unless_in_software(session: Session, record: MeshRecord) -> None:
    uri = Uri.parse(record.master)
    with session.open(uri, NoSecrets()) as token:
        if token.info.hardware is not Hardware.NONE:
            raise ConflictError(
                f"the master key is in {token.info.label} already",
                hint="mesh-hsm mesh show",
                uri=record.master,
            )


def _delete_copies(
    session: Session, record: MeshRecord, master: Signed[ProfileMaster]
) -> tuple[str, ...]:
    copies = software_copies(session, record, master)
    if copies:
        with session.open(STORE) as store:
            for uri in copies:
                store.delete(uri)
    return tuple(map(str, copies))
