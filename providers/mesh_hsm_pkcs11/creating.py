"""Making and deleting keys so that nothing half made stays behind. Open this file for the order.

A record says what is about to be made, the token makes it, it is read back and tried, and only then
does the record call it made. Whatever was interrupted, by an error or by the death of the process,
is swept by the next one who makes or deletes a key here, and ``doctor`` names it meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from pkcs11 import Attribute, ObjectClass
from pkcs11.exceptions import PKCS11Error, UserNotLoggedIn

from mesh_hsm.curves import curve
from mesh_hsm.custody import CustodyClass, PinPolicy
from mesh_hsm.errors import ConflictError, DeviceError, MeshHsmError, UnsupportedError
from mesh_hsm.provider import KeySpec, Use
from mesh_hsm_pkcs11 import objects, operations, statements, trying
from mesh_hsm_pkcs11.binding import read
from mesh_hsm_pkcs11.connection import Connection
from mesh_hsm_pkcs11.dialect import Dialect
from mesh_hsm_pkcs11.keys import Entry, Keys
from mesh_hsm_pkcs11.objects import Handle
from mesh_hsm_pkcs11.records import Record, Stage, this_boot
from mesh_hsm_pkcs11.sessions import Session
from mesh_hsm_pkcs11.templates import Wish

Maker = Callable[[Session, Wish], tuple[Handle, Handle]]
"""Puts a key pair on the token: public and private object."""


def generate(keys: Keys, spec: KeySpec, *, seals: bool = False) -> Entry:
    """Make a key pair inside the token. ``seals``: not for anybody, but to seal under."""
    dialect = Dialect.of(keys.connection.sessions)
    return add(
        keys,
        spec,
        lambda session, wish: trying.generate(dialect, session, wish),
        Record(
            label=spec.label,
            identifier=objects.new_identifier(None if seals else spec.use).hex(),
            use=None if seals else spec.use,
            pin=spec.pin,
        ),
    )


def add(keys: Keys, spec: KeySpec, make: Maker, record: Record) -> Entry:
    """Put a key on the token by ``make``, or leave nothing. The caller has checked the capability.

    Raises ``ConflictError`` for a label in use, ``UnsupportedError`` for what the token does not
    do or makes otherwise than it was told.
    """
    connection = keys.connection
    _check_label(keys, spec.label)
    connection.run("let you in", lambda session: None)  # nobody else waits while a PIN is typed
    with keys.records.locked():
        sweep(keys)
        _check_label(keys, spec.label)
        connection.run("let a key be tried", lambda session: _rehearse(keys, session, spec))
        begun = record
        try:
            keys.records.save(record)
            made = connection.run(
                "make the key",
                lambda session: _make(keys, session, spec, make, record),
                again=False,
            )
            assert made.record is not None  # noqa: S101  it was made here
            begun = made.record  # under another CKA_ID, where the token numbers its keys itself
            keys.records.save(begun)
        except BaseException:
            with suppress(MeshHsmError):  # what cannot be cleaned up now keeps its record
                _destroy(keys, begun)
            raise
    return made


def _check_label(keys: Keys, label: str) -> None:
    if keys.label_taken(label):
        raise ConflictError(
            f"this token already has a key {label}",
            hint="choose another label, or delete that key first",
            uri=str(keys.connection.uri),
        )


def delete(keys: Keys, entry: Entry) -> None:
    """Destroy a key on the token: it is gone for everybody."""
    # Without the PIN nothing is noted: what is noted as being deleted is gone for us already.
    keys.connection.run("let you in", lambda session: None)
    with keys.records.locked():
        sweep(keys)
        remembered = entry.record or Record(entry.label, entry.identifier.hex(), entry.use)
        keys.records.save(replace(remembered, stage=Stage.DELETING, boot=this_boot()))
        try:
            _destroy(keys, remembered)
        except MeshHsmError:
            with suppress(MeshHsmError):
                if _is_whole(keys, entry.identifier):
                    _restore(keys, entry)
            raise


def sweep(keys: Keys) -> None:
    """Destroy what others began and did not finish. Within ``records.locked`` only.

    A token that numbers its keys itself may hold an unfinished one under an id of its own. Nobody
    can tell it from a stranger's of the same label: the record stays, so that ``doctor`` names it.
    And a record from before the last boot may be a restored copy: a key that is whole is kept.
    """
    keys.records.tidy()
    for record in keys.records.all():
        if record.stage is Stage.MADE or (
            record.stage is Stage.MAKING and keys.strangers(record.label)
        ):
            continue
        with suppress(DeviceError):  # what will not go is for doctor to name, and stops nobody else
            if record.boot != this_boot() and _is_whole(keys, record.octets):
                keys.records.remove(record)  # listed again, as one whose making nobody remembers
            else:
                _destroy(keys, record)


def _rehearse(keys: Keys, session: Session, spec: KeySpec) -> None:
    """Refuse before anything is stored what a session key shows to be impossible."""
    sessions = keys.connection.sessions
    trying.try_out(sessions, session, spec.algorithm, spec.use, private=True)
    refusal = Dialect.of(sessions).refusals.get((spec.algorithm, spec.use is Use.SIGN))
    if refusal:
        raise UnsupportedError(
            f"no {spec.algorithm} key to {spec.use} on this token: {refusal.reason}",
            uri=str(keys.connection.uri),
        )


def _make(keys: Keys, session: Session, spec: KeySpec, make: Maker, record: Record) -> Entry:
    wish = Wish(
        curve(spec.algorithm),
        spec.use,
        spec.label,
        record.octets,
        always_authenticate=spec.pin is PinPolicy.ALWAYS,
    )
    public, key = make(session, wish)
    own = record
    try:
        identifier = read(key, (Attribute.ID,)).get(Attribute.ID, record.octets)
        if identifier != record.octets:  # the token numbers its keys itself
            _check_own(session, identifier)
            own = replace(record, identifier=identifier.hex())
            keys.records.save(own)
            keys.records.remove(record)
        return _accept(keys, session, wish, spec, own, public, key)
    except BaseException:
        # These two and no others: what the token calls them, it may call another key as well.
        with suppress(PKCS11Error, MeshHsmError):
            key.destroy()
            public.destroy()
            if own is not record:
                keys.records.remove(own)
        raise


def _check_own(session: Session, identifier: bytes) -> None:
    """Refuse a CKA_ID by which a key could not be found again, or another would be found too."""
    wanted = {Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.ID: identifier}
    if not identifier or len(objects.search(session, wanted)) > 1:
        raise UnsupportedError("the token gives its keys no CKA_ID that tells them apart")


def _accept(
    keys: Keys,
    session: Session,
    wish: Wish,
    spec: KeySpec,
    record: Record,
    public: Handle,
    key: Handle,
) -> Entry:
    """Read back what the token really stored, try it, and refuse what was not asked for."""
    connection = keys.connection
    shown = trying.public_point(Dialect.of(connection.sessions), wish.curve, public)
    point = record.point or shown  # of an imported key we know the sign, too
    if point.x != shown.x:
        raise DeviceError("the token shows another public key than the one that it was given")
    told = statements.told_of(key)
    custody = statements.classify(told)
    if custody in (CustodyClass.EXPORTABLE, CustodyClass.UNKNOWN) and not spec.allow_exportable:
        said = "can leave it" if custody is CustodyClass.EXPORTABLE else "may be able to leave it"
        raise UnsupportedError(
            f"the token makes a key that {said} ({custody}); it was destroyed",
            hint="another token; or --allow-exportable, if that is what you want",
            uri=str(connection.uri),
        )
    if not told.get(Attribute.TOKEN, True) or not told.get(Attribute.PRIVATE, True):
        raise UnsupportedError(
            "the token makes a key that is gone with the session, or that needs no PIN; it was "
            "destroyed",
            uri=str(connection.uri),
        )
    wanted = statements.use_of(spec.use)
    if (uses := statements.uses(told)) != [wanted]:
        raise UnsupportedError(
            f"the token makes a key to {' and '.join(uses) or 'do nothing'} where one to {wanted} "
            "was asked for; it was destroyed",
            uri=str(connection.uri),
        )
    if read(public, (Attribute.LABEL,)).get(Attribute.LABEL) != spec.label:
        raise UnsupportedError(
            "the token does not keep the label as it is", hint="choose a shorter, plain one"
        )
    if spec.pin is PinPolicy.ALWAYS:
        _check_that_it_asks(connection, session, wish, key)
    elif refusal := trying.check(connection.sessions, session, wish, public, key):
        raise DeviceError(f"the new key does not work: {refusal}", uri=str(connection.uri))
    statement = statements.of_key(connection.found, told, replace(record, stage=Stage.MADE))
    record = replace(record.of(point), stage=Stage.MADE, statement=statement.to_json())
    return Entry(spec.label, record.octets, spec.use, point, record)


def _check_that_it_asks(connection: Connection, session: Session, wish: Wish, key: Handle) -> None:
    octets = bytes(trying.digest_size(wish.curve))
    try:
        operations.sign(session, key, wish.curve, octets, None)
    except UserNotLoggedIn:
        return
    raise UnsupportedError(
        "the token stores that the key wants its PIN each time, and signs without",
        hint="leave it at one PIN for the whole session",
        uri=str(connection.uri),
    )


def _destroy(keys: Keys, record: Record) -> None:
    connection = keys.connection

    def destroy(session: Session) -> None:
        connection.sessions.forget_objects()
        objects.destroy(session, record.octets)

    connection.run("destroy the key", destroy)
    keys.records.remove(record)


def _is_whole(keys: Keys, identifier: bytes) -> bool:
    """Whether both halves of a key are there."""

    def look(session: Session) -> bool:
        return objects.private(session, identifier) is not None and any(
            objects.publics(session, identifier=identifier)
        )

    return keys.connection.run("look for the key", look)


def _restore(keys: Keys, entry: Entry) -> None:
    if entry.record is not None:
        keys.records.save(entry.record)
    else:
        keys.records.remove(Record(entry.label, entry.identifier.hex(), entry.use))
