"""Key sets that are known here: who vouches for one, and whom a name after ``-r`` means.

Open this file to see when a 2-of-3 key may be encrypted to: an administrator of a Mesh that is
known here has signed it, and is an administrator still.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from mesh_hsm.curves import Point
from mesh_hsm.dare import peek_payload
from mesh_hsm.errors import CannotVerifyError, ConflictError, MeshHsmError, NotFoundError
from mesh_hsm.mesh import (
    AdministratorKeySet,
    ProfileMaster,
    Signed,
    open_key_set,
    peek_key_set,
)
from mesh_hsm_cli.find import udf_begins
from mesh_hsm_cli.paths import read_object
from mesh_hsm_cli.records import FiledKeySet, filed_key_sets, key_set_path
from mesh_hsm_cli.session import Session
from mesh_hsm_cli.trust import known_devices, known_masters, recipient


@dataclass(frozen=True, slots=True)
class Addressee:
    """Whom a name after ``-r`` means: a device, or a key set (``needs_two``)."""

    label: str
    public: Point
    master: Signed[ProfileMaster]
    needs_two: bool = False


def verify_key_set(
    session: Session, envelope: bytes | list[object], now: datetime
) -> tuple[Signed[AdministratorKeySet], Signed[ProfileMaster]]:
    """A key set, and the Mesh known here for which it was signed. Raises ``CannotVerifyError``."""
    reason: MeshHsmError | None = None
    for master in known_masters(session, now):
        try:
            return open_key_set(envelope, master.value), master
        except MeshHsmError as error:
            reason = error
    peek_key_set(envelope)  # says what is wrong with it, if it is that
    raise CannotVerifyError(
        "no administrator of a Mesh that is known here vouches for this key set",
        hint="encrypt to it on a machine of its Mesh; decrypting needs no trust: dare decode "
        "--keyset FILE",
    ) from reason


def file_key_set(session: Session, envelope: bytes, now: datetime) -> Signed[AdministratorKeySet]:
    """Verify a key set and file it. Raises ``ConflictError`` where another has its name."""
    signed, _ = verify_key_set(session, envelope, now)
    refuse_name(session, signed.value.name, signed.value.udf)
    record = FiledKeySet(signed.value.name, signed.value.udf, signed.envelope)
    record.save(key_set_path(session.state, record.udf))
    return signed


def refuse_name(session: Session, name: str, udf: str | None = None) -> None:
    """Raise ``ConflictError`` if another key set than ``udf`` has this name here."""
    if any(one.name == name and one.udf != udf for one in filed_key_sets(session.state)):
        raise ConflictError(
            f"another key set is called {name}", hint="choose another name; mesh-hsm keyset list"
        )


def named(session: Session, name: str) -> FiledKeySet | None:
    """The filed key set of this name or UDF. Raises ``NotFoundError`` if several fit."""
    filed = filed_key_sets(session.state)
    found = [one for one in filed if one.name == name] or [
        one for one in filed if udf_begins(peek_key_set(one.envelope).public, name)
    ]
    if len(found) > 1:
        raise NotFoundError(
            f"{name} fits {len(found)} key sets", hint=", ".join(one.udf for one in found)
        )
    return found[0] if found else None


def is_file(name: str) -> bool:
    """Whether a name after ``-r`` means a file."""
    return "/" in name or name.endswith(".dare")


def load_key_set(session: Session, name: str) -> list[object] | bytes:
    """The envelope of a key set, by name, UDF or file. Raises ``NotFoundError``."""
    if is_file(name):
        return read_object(Path(name))
    found = named(session, name)
    if found is None:
        raise NotFoundError(f"no key set is called {name}", hint="mesh-hsm keyset list")
    return found.envelope


def addressee(session: Session, name: str, now: datetime) -> Addressee:
    """Whom ``name`` means: a device, a key set, or the file of either.

    Raises ``NotFoundError``, and ``CannotVerifyError`` for what nobody known here vouches for.
    """
    if is_file(name):
        data = read_object(Path(name))
        if _is_key_set(data):
            return _trusted(session, data, now)
    elif (filed := named(session, name)) is not None:
        if any(one.is_called(name) for one in known_devices(session, now)):
            raise NotFoundError(
                f"{name} is the name of a key set and of a device", hint="name it by its UDF"
            )
        return _trusted(session, filed.envelope, now)
    known = recipient(session, name, now)
    return Addressee(known.label, known.connection.encryption.public, known.master)


def _trusted(session: Session, envelope: bytes | list[object], now: datetime) -> Addressee:
    signed, master = verify_key_set(session, envelope, now)
    return Addressee(signed.value.name, signed.value.public, master, needs_two=True)


def _is_key_set(data: bytes) -> bool:
    try:
        return peek_payload(data).startswith(b'{"%s":' % AdministratorKeySet.TAG.encode())
    except MeshHsmError:
        return False
