"""Signature keys of the Mesh in devices: made or imported under the strictest policies there are.

Open this file to see which policies such a key gets, and how that is said beforehand: they are
chosen once, and never changed after.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from mesh_hsm.custody import PinPolicy, TouchPolicy
from mesh_hsm.errors import UnsupportedError
from mesh_hsm.provider import DeviceKey, KeySpec, Token, Use
from mesh_hsm.uri import Uri
from mesh_hsm_cli import interrupted
from mesh_hsm_cli.administrator import own_mesh
from mesh_hsm_cli.choices import PLAIN_SIGNATURE, choose_algorithm, say_policy
from mesh_hsm_cli.master_key import is_on
from mesh_hsm_cli.records import load_mesh
from mesh_hsm_cli.rollback import Rollback
from mesh_hsm_cli.session import Session
from mesh_hsm_cli.trust import needed_keys

STRICTEST_PIN = (PinPolicy.ALWAYS, PinPolicy.ONCE, PinPolicy.NONE)
STRICTEST_TOUCH = (TouchPolicy.ALWAYS, TouchPolicy.CACHED, TouchPolicy.NONE)


@dataclass(frozen=True, slots=True)
class WantedKey:
    """What a person asked for; None where the token's strictest will do."""

    label: str
    algorithm: str | None = None
    slot: str | None = None
    pin: PinPolicy | None = None
    touch: TouchPolicy | None = None


def make_key(
    session: Session,
    undo: Rollback,
    token: Token,
    wanted: WantedKey,
    what: str,
    make: Callable[[KeySpec], DeviceKey],
) -> DeviceKey:
    """What ``make`` gives for the strictest policies; deleted by ``undo``, or if we are killed.

    A token may show only when it is tried that it does not ask for its PIN each time: then, unless
    a person insisted, once will do. Raises ``UnsupportedError`` before anything is made.
    """
    spec = _spec(token, wanted)
    clear_interrupted(session, token)
    noted = interrupted.mesh_note(session.state, token.info.uri)
    undo.new_note(noted)
    undo.new_key(token, spec.label)
    note = interrupted.Interrupted(str(token.info.uri))
    note.announce(noted, spec.label)
    say_policy(session, token, spec, what)
    try:
        return make(spec)
    except UnsupportedError as error:
        weaker = _asked_once(token, spec, wanted)
        if weaker is None:
            raise
        session.output.notice(str(error))
    say_policy(session, token, weaker, what)
    return make(weaker)


def clear_interrupted(session: Session, token: Token) -> None:
    """Delete what a killed command left on this token, but no key that the Mesh has filed."""
    needed = set(needed_keys(session))
    if load_mesh(session.state) is not None:
        record, master = own_mesh(session)
        if not is_on(Uri.parse(record.master), token.info):  # one here is an unfinished move's
            needed.discard(master.value.profile_signature)
    interrupted.clear(session, token, interrupted.mesh_note(session.state, token.info.uri), needed)


def _asked_once(token: Token, spec: KeySpec, wanted: WantedKey) -> KeySpec | None:
    if wanted.pin is not None or spec.pin is not PinPolicy.ALWAYS:
        return None
    return replace(spec, pin=PinPolicy.ONCE) if PinPolicy.ONCE in token.pins(Use.SIGN) else None


def _spec(token: Token, wanted: WantedKey) -> KeySpec:
    """The key to be made: what was asked for, else the strictest that the token offers.

    Raises ``UnsupportedError`` for a policy that it does not offer.
    """
    pins = token.pins(Use.SIGN)
    _refuse_unless(wanted.pin in (None, *pins), token, f"PIN {wanted.pin}", list(pins))
    _refuse_unless(
        wanted.touch in (None, *token.touches), token, f"touch {wanted.touch}", list(token.touches)
    )
    return KeySpec(
        algorithm=choose_algorithm(token, Use.SIGN, wanted.algorithm, PLAIN_SIGNATURE),
        use=Use.SIGN,
        label=wanted.label,
        pin=wanted.pin or next(one for one in STRICTEST_PIN if one in pins),
        touch=wanted.touch or next(one for one in STRICTEST_TOUCH if one in token.touches),
        slot=wanted.slot,
    )


def _refuse_unless(offered: bool, token: Token, what: str, instead: list[str]) -> None:
    if not offered:
        raise UnsupportedError(
            f"{token.info.label} makes no key with {what}",
            hint=f"it offers: {', '.join(sorted(instead))}",
            uri=str(token.info.uri),
        )
