"""``admin add``, step by step: a key in a device, listed by the next ProfileMaster, or nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from mesh_hsm.custody import CustodyStatement, Hardware
from mesh_hsm.errors import ConflictError, MeshHsmError, UnsupportedError
from mesh_hsm.mesh import ProfileMaster, Signed, add_administrator
from mesh_hsm.provider import DeviceKey, Token, Use
from mesh_hsm.udf import udf_of
from mesh_hsm.uri import Uri
from mesh_hsm_cli import choices
from mesh_hsm_cli.administrator import own_mesh
from mesh_hsm_cli.administrators import at_hand
from mesh_hsm_cli.find import find_key
from mesh_hsm_cli.making_keys import WantedKey, make_key
from mesh_hsm_cli.master_key import replace_record, sign_next
from mesh_hsm_cli.records import Administrator, MeshRecord
from mesh_hsm_cli.rollback import Rollback
from mesh_hsm_cli.seen_profiles import keep_seen
from mesh_hsm_cli.session import Session
from mesh_hsm_cli.trust import needed_keys


@dataclass(frozen=True, slots=True)
class Added:
    """A new administrator, the version that lists it, and how many devices hold such keys now."""

    administrator: Administrator
    custody: CustodyStatement
    master: Signed[ProfileMaster]
    in_devices: int


def add_with_new_key(session: Session, uri: Uri, wanted: WantedKey, now: datetime) -> Added:
    """Make a signature key on a token and list it. If anything fails it is deleted again."""
    record, master = own_mesh(session)
    _refuse_label(record, wanted.label)
    with session.open(uri) as token, Rollback(session.output.notice) as undo:
        choices.say_what_it_is(session, token.info)
        key = make_key(session, undo, token, wanted, "administrator key", token.generate)
        listed = _list(session, undo, record, master, key, wanted.label, now, token)
        custody = key.custody()
    return _done(session, listed, custody, token)


def add_existing_key(session: Session, name: str, label: str | None, now: datetime) -> Added:
    """List a signature key that is there already; it stays whatever happens."""
    record, master = own_mesh(session)
    with find_key(session, name) as (token, key), Rollback(session.output.notice) as undo:
        label = label or key.label
        _refuse_label(record, label)
        if key.use is not Use.SIGN:
            raise UnsupportedError(f"{key.label} is a key to {key.use}, not to sign")
        purpose = needed_keys(session).get(key.public)
        if purpose is not None:
            raise ConflictError(
                f"{key.label} is {purpose} already", hint="an administrator needs a key of its own"
            )
        if udf_of(key.public) in record.removed:
            raise ConflictError(
                f"{key.label} was removed before: every connection that it ever signed, backdated "
                "ones too, would count again",
                hint="mesh-hsm admin add --token TOKEN makes a new key",
            )
        choices.say_what_it_is(session, token.info)
        listed = _list(session, undo, record, master, key, label, now, token)
        custody = key.custody()
    return _done(session, listed, custody, token)


def _refuse_label(record: MeshRecord, label: str) -> None:
    if any(one.label == label for one in record.administrators):
        raise ConflictError(
            f"an administrator is called {label} already", hint="choose another with --label"
        )


def _list(
    session: Session,
    undo: Rollback,
    record: MeshRecord,
    master: Signed[ProfileMaster],
    key: DeviceKey,
    label: str,
    now: datetime,
    token: Token,
) -> tuple[MeshRecord, Administrator, Signed[ProfileMaster]]:
    signed = sign_next(
        session,
        record,
        master,
        lambda signer: add_administrator(master, key.public, signer, now=now),
        beside=token,
    )
    added = Administrator(label, str(key.uri), udf_of(key.public), signed.value.version)
    after = replace(record, administrators=[*record.administrators, added], profile=signed.envelope)
    replace_record(session, undo, record, after)
    return after, added, signed


def _done(
    session: Session,
    listed: tuple[MeshRecord, Administrator, Signed[ProfileMaster]],
    custody: CustodyStatement,
    token: Token,
) -> Added:
    record, added, master = listed
    keep_seen(session, master)
    devices = {_device(session, one) for one in record.administrators if one != added}
    if custody.hardware is not Hardware.NONE:
        devices.add(str(token.info.uri))
    return Added(added, custody, master, len(devices - {None}))


def _device(session: Session, administrator: Administrator) -> str | None:
    """The device that has its key; None for a file. One that is away is taken for one apart."""
    found = at_hand(session, administrator)
    if isinstance(found, MeshHsmError):
        return administrator.uri
    return None if found.info.hardware is Hardware.NONE else str(found.info.uri)
