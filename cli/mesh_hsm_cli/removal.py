"""``admin remove``: which connections outlive their administrator, and the version that says so.

Open this file to see which survive by default: those that were issued and filed here and hold now.
Whatever else the administrator signed, backdated connections included, is void (hsm-1 §7).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from mesh_hsm.errors import ConflictError, MeshHsmError, NotFoundError
from mesh_hsm.mesh import (
    ConnectionDevice,
    ProfileMaster,
    Signed,
    open_connection,
    remove_administrator,
    verify_connection,
)
from mesh_hsm.provider import Token
from mesh_hsm.secret_source import NoSecrets
from mesh_hsm.udf import udf_of
from mesh_hsm.uri import Uri
from mesh_hsm_cli.administrator import own_mesh, profile_device
from mesh_hsm_cli.administrators import find_administrator, public_of
from mesh_hsm_cli.master_key import replace_record, sign_next
from mesh_hsm_cli.records import Administrator, FiledDevice, MeshRecord, filed_devices
from mesh_hsm_cli.rollback import Rollback
from mesh_hsm_cli.seen_profiles import keep_seen
from mesh_hsm_cli.session import Session


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of a device's connection. ``void``: why it does not survive; None if it does."""

    filed: FiledDevice
    connection: Signed[ConnectionDevice]
    void: str | None


@dataclass(frozen=True, slots=True)
class Removal:
    """What is about to be done, for a person to agree to."""

    record: MeshRecord
    master: Signed[ProfileMaster]
    administrator: Administrator
    fates: tuple[Fate, ...]

    @property
    def surviving(self) -> list[Signed[ConnectionDevice]]:
        """The connections that the next version lists anew."""
        return [fate.connection for fate in self.fates if fate.void is None]

    @property
    def void(self) -> set[bytes]:
        """The digests that it does not list any longer, whoever signed."""
        return {fate.connection.digest for fate in self.fates if fate.void is not None}


def plan_removal(
    session: Session, name: str, void: tuple[str, ...], void_all: bool, now: datetime
) -> Removal:
    """Look at every device that is filed here. ``void`` names those that are not to survive.

    They may be survivors of an earlier removal, too. Raises ``ConflictError`` for the last
    administrator, ``NotFoundError`` for a name in ``void`` that is none of these devices.
    """
    record, master = own_mesh(session)
    administrator = find_administrator(record, name)
    if len(record.administrators) == 1:
        raise ConflictError(
            f"{administrator.label} is the last administrator: nobody could connect a device then",
            hint="mesh-hsm admin add --token TOKEN, then remove this one",
        )
    public = public_of(master, administrator)
    fates: list[Fate] = []
    unknown = set(void)
    for filed in filed_devices(session.state):
        named = {filed.label, filed.udf} & unknown
        try:
            connection = open_connection(filed.issued, master.value)
        except MeshHsmError:  # void already
            continue
        signed = connection.signer == public
        if signed or (named and connection.digest in master.value.surviving_connections):
            unknown -= named
            told = bool(named) or (signed and void_all)
            why = "you said so" if told else _why_void(filed, master, now)
            fates.append(Fate(filed, connection, why))
    if unknown:
        raise NotFoundError(
            f"{administrator.label} has connected no device called {', '.join(sorted(unknown))}",
            hint="mesh-hsm device list",
        )
    return Removal(record, master, administrator, tuple(fates))


def carry_out(
    session: Session, removal: Removal, now: datetime, *, delete_key: bool
) -> Signed[ProfileMaster]:
    """Sign and file the next version, or change nothing; then delete the key, if that is wanted.

    Where its device is not there, or another key is in its place, that is said before anything is
    signed.
    """
    gone, uri = removal.administrator, Uri.parse(removal.administrator.uri)
    if delete_key:
        with session.open(uri, NoSecrets()) as token:
            _require_its_key(token, uri, gone)
    with Rollback(session.output.notice) as undo:
        signed = sign_next(
            session,
            removal.record,
            removal.master,
            lambda signer: remove_administrator(
                removal.master,
                public_of(removal.master, gone),
                signer,
                surviving=removal.surviving,
                dropped=removal.void,
                now=now,
            ),
        )
        after = replace(
            removal.record,
            administrators=[one for one in removal.record.administrators if one != gone],
            removed=[*removal.record.removed, gone.udf],
            profile=signed.envelope,
        )
        replace_record(session, undo, removal.record, after)
    keep_seen(session, signed)
    if delete_key:
        try:
            with session.open(uri) as token:
                _require_its_key(token, uri, gone)
                token.delete(uri)
        except BaseException:
            session.output.notice(
                f"{gone.label} is removed, but its key is still there: mesh-hsm key delete",
                loud=True,
            )
            raise
    return signed


def _require_its_key(token: Token, uri: Uri, gone: Administrator) -> None:
    """Raise ``NotFoundError`` for another key in its place: slots and labels are used again."""
    if udf_of(token.key(uri).public) != gone.udf:
        raise NotFoundError(
            f"{uri} is another key than that of {gone.label}",
            hint="without --delete-key it stays; mesh-hsm key list",
            uri=str(uri),
        )


def _why_void(filed: FiledDevice, master: Signed[ProfileMaster], now: datetime) -> str | None:
    """None for a connection that holds now, whether the device has sent it back or not yet."""
    try:
        verify_connection(
            filed.connection or filed.issued, master=master, device=profile_device(filed), now=now
        )
    except MeshHsmError as error:
        return str(error)
    return None
