"""What ``doctor`` finds wrong with a PKCS #11 token. Open this file for PKCS11014 to PKCS11027.

Told by its flags, by what it shows before a login, and by what we remember of its keys.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from pkcs11 import Attribute, ObjectClass, TokenFlag

from mesh_hsm.curves import Point
from mesh_hsm.custody import Hardware
from mesh_hsm.errors import MeshHsmError
from mesh_hsm.provider import Finding, Severity
from mesh_hsm.secret_source import NoSecrets
from mesh_hsm.uri import Uri
from mesh_hsm_pkcs11 import objects
from mesh_hsm_pkcs11.binding import read
from mesh_hsm_pkcs11.connection import Connection
from mesh_hsm_pkcs11.records import Record, Records, Stage
from mesh_hsm_pkcs11.sessions import Session
from mesh_hsm_pkcs11.slots import Found

_SHOWN = 8  # names in one line

Row = tuple[TokenFlag, str, Severity, str, str]

# Flag, code, severity, problem, remedy: of each group the first that is set is said.
_FLAGS: tuple[tuple[Row, ...], ...] = (
    (
        (
            TokenFlag.USER_PIN_LOCKED,
            "PKCS11016",
            Severity.ERROR,
            "the PIN of {token} is locked after too many wrong ones",
            "as its security officer: mesh-hsm pin reset {uri}",
        ),
        (
            TokenFlag.USER_PIN_FINAL_TRY,
            "PKCS11017",
            Severity.WARNING,
            "one try is left before the PIN of {token} locks",
            "be sure of the PIN, and agree with --use-last-try; or mesh-hsm pin reset {uri}",
        ),
        (
            TokenFlag.USER_PIN_COUNT_LOW,
            "PKCS11017",
            Severity.NOTE,
            "{token} was given a wrong PIN since the last right one",
            "the next right one gives all tries back",
        ),
    ),
    (
        (
            TokenFlag.USER_PIN_TO_BE_CHANGED,
            "PKCS11018",
            Severity.WARNING,
            "{token} has the PIN that its maker or its security officer gave it, or an expired one",
            "mesh-hsm pin change --token {uri}",
        ),
    ),
    (
        (
            TokenFlag.SO_PIN_LOCKED,
            "PKCS11019",
            Severity.WARNING,
            "the security officer's PIN of {token} is locked: a lost PIN cannot be set anew",
            "nothing, while the PIN is known; keep a way to do without this token's keys",
        ),
        (
            TokenFlag.SO_PIN_FINAL_TRY,
            "PKCS11017",
            Severity.WARNING,
            "one try is left before the security officer's PIN of {token} locks",
            "be sure of it before it is given again",
        ),
        (
            TokenFlag.SO_PIN_COUNT_LOW,
            "PKCS11017",
            Severity.NOTE,
            "{token} was given a wrong security officer's PIN since the last right one",
            "the next right one gives all tries back",
        ),
    ),
    (
        (
            TokenFlag.SO_PIN_TO_BE_CHANGED,
            "PKCS11020",
            Severity.WARNING,
            "{token} has the security officer's PIN that its maker gave it, or an expired one",
            "pkcs11-tool --module {module} --slot {slot} --login --login-type so --change-pin",
        ),
    ),
    (
        (
            TokenFlag.WRITE_PROTECTED,
            "PKCS11022",
            Severity.NOTE,
            "{token} is write-protected: no key can be made or deleted on it",
            "lift the protection by its switch or its maker's tools, if you want to",
        ),
    ),
    (
        (
            TokenFlag.ERROR_STATE,
            "PKCS11012",
            Severity.ERROR,
            "{token} says that it failed a test of itself, and refuses to work",
            "switch it off and on again; if that does not help, its maker's tools may",
        ),
    ),
)


def subject(found: Found) -> str:
    """A token as people know it, printable whatever it says of itself."""
    facts = found.facts
    if facts.initialised:
        return f"the token {_printable(facts.label)}"
    kind = _printable(f"{facts.manufacturer} {facts.model}".strip())
    return f"the token in slot {facts.slot_id} ({kind})"


def of_token(found: Found, uri: Uri, records: Path, *, beside: bool) -> Iterator[Finding]:
    """Everything there is to say of a token. ``uri`` is its name among all that are there.

    ``beside``: its module has an initialised token. A program then offers an empty one for the
    next, of which nothing need be said.
    """
    quoted = shlex.quote(str(uri))
    simulated = found.hardware is Hardware.SIMULATOR
    if not found.facts.initialised:
        if not (simulated and beside):
            yield Finding(
                "PKCS11014",
                Severity.NOTE,
                f"{subject(found)} is not initialised",
                f"to use it: mesh-hsm token init {quoted} --label NAME",
            )
        return
    yield from _of_flags(found, quoted)
    if simulated:
        yield Finding(
            "PKCS11021",
            Severity.NOTE,
            f"{subject(found)} is a simulator and protects nothing",
            "use a real one for keys that matter",
        )
    try:
        remembered = Records(records, found.name).all(strict=True)
    except MeshHsmError as error:
        yield Finding("STATE003", Severity.ERROR, str(error), "restore the file from a copy")
        return
    yield from _of_keys(found, uri, remembered)


def _of_flags(found: Found, uri: str) -> Iterator[Finding]:
    words = {
        "token": subject(found),
        "uri": uri,
        "module": shlex.quote(str(found.module.path)),
        "slot": found.facts.slot_id,
    }
    protected = TokenFlag.LOGIN_REQUIRED | TokenFlag.USER_PIN_INITIALIZED
    if found.flags & protected == TokenFlag.LOGIN_REQUIRED:
        yield Finding(
            "PKCS11015",
            Severity.WARNING,
            f"{subject(found)} has no user PIN yet: nobody can use its keys",
            f"as its security officer: mesh-hsm pin reset {uri}",
        )
    for group in _FLAGS:
        for flag, code, severity, problem, remedy in group:
            if found.flags & flag:
                yield Finding(code, severity, problem.format(**words), remedy.format(**words))
                break


def _of_keys(found: Found, uri: Uri, remembered: list[Record]) -> Iterator[Finding]:
    token = subject(found)
    shown, private, points = _shown(found, uri)
    for record in remembered:
        if record.stage is not Stage.MADE:
            strangers = [
                identifier
                for identifier, label in shown.items()
                if label == record.label
                and not objects.is_marked(identifier)
                and identifier not in {one.octets for one in remembered}
            ]
            yield _interrupted(found, record, token, uri, strangers)
    interrupted = {one.octets for one in remembered if one.stage is not Stage.MADE}
    made = {one.octets: one for one in remembered if one.stage is Stage.MADE}
    elsewhere = sorted(
        label
        for identifier, label in shown.items()
        if objects.is_marked(identifier)
        and not objects.is_for_sealing(identifier)
        and identifier not in made.keys() | interrupted
    )
    if elsewhere:
        yield Finding(
            "PKCS11024",
            Severity.NOTE,
            f"keys on {token} were made on another machine: {_list(elsewhere)}",
            "they can be used here; who else knew an imported one is noted over there",
        )
    for identifier, label in private.items():
        if identifier not in shown.keys() | interrupted and (
            objects.is_marked(identifier) or identifier in made
        ):
            yield Finding(
                "PKCS11025",
                Severity.WARNING,
                f"{token} has the private key {_printable(label)} without its public half",
                f"nobody can use it here; to delete it: {_delete(found, identifier, 'privkey')}",
            )
    for identifier, record in made.items():
        if identifier not in shown.keys() | private.keys():
            yield Finding(
                "PKCS11026",
                Severity.WARNING,
                f"{token} does not show the key {_printable(record.label)} any more",
                "if it was not deleted on purpose, make a new one where it was used",
            )
    for identifier, record in made.items():
        if any(_is_another(point, record.point) for point in points.get(identifier, ())):
            yield Finding(
                "PKCS11027",
                Severity.WARNING,
                f"{token} shows another public key for {_printable(record.label)} than was made",
                "here the right one is used all the same, on other machines perhaps not; find out "
                "who reaches the token, and make a new key where others took it from there",
            )


def _is_another(shown: Point, made: Point | None) -> bool:
    # By x alone: tokens do not keep the sign of X25519 and X448.
    return made is not None and (shown.curve, shown.x) != (made.curve, made.x)


def _interrupted(
    found: Found, record: Record, token: str, uri: Uri, strangers: list[bytes]
) -> Finding:
    what = "making" if record.stage is Stage.MAKING else "deleting"
    use = record.use or "encrypt"
    if record.stage is Stage.MAKING and strangers:
        return Finding(
            "PKCS11023",
            Severity.WARNING,
            f"making the key {_printable(record.label)} on {token} was interrupted, and a key of "
            "that label is there under an id that the token gave",
            f"if nobody else made it: {_delete(found, strangers[0], 'privkey')} "
            "(and again with --type pubkey)",
        )
    return Finding(
        "PKCS11023",
        Severity.WARNING,
        f"{what} the key {_printable(record.label)} on {token} was interrupted, "
        "if it is not going on just now",
        "what is left of it goes when the next key is made or deleted there: mesh-hsm key generate "
        f"--token {shlex.quote(str(uri))} --use {use} --label NAME",
    )


def _delete(found: Found, identifier: bytes, kind: str) -> str:
    module, slot = shlex.quote(str(found.module.path)), found.facts.slot_id
    return (
        f"pkcs11-tool --module {module} --slot {slot} --login --delete-object --type {kind} "
        f"--id {identifier.hex()}"
    )


Shown = tuple[dict[bytes, str], dict[bytes, str], dict[bytes, list[Point]]]


def _shown(found: Found, uri: Uri) -> Shown:
    """What it shows to anybody, by CKA_ID: labels of public keys, of private keys, and points."""
    names = (Attribute.ID, Attribute.LABEL)

    def look(session: Session) -> Shown:
        shown: list[dict[bytes, str]] = []
        for kind in (ObjectClass.PUBLIC_KEY, ObjectClass.PRIVATE_KEY):
            things = objects.search(session, {Attribute.CLASS: kind, Attribute.TOKEN: True})
            told = [read(thing, names) for thing in things]
            shown.append({one.get(names[0], b""): str(one.get(names[1], "")) for one in told})
        points: dict[bytes, list[Point]] = {}
        for one in objects.publics(session):
            points.setdefault(one.identifier, []).append(one.point)
        return shown[0], shown[1], points

    connection = Connection(found, NoSecrets(), uri)
    try:
        return connection.run("list its keys", look, private=False)
    finally:
        connection.close()


def _list(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(_printable, names[:_SHOWN])) + more


def _printable(text: str) -> str:
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )
