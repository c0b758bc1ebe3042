"""What a person need not choose: the algorithm, the token, whether a PIN is asked.

Open this file to see what is picked, by what the device says it can do (never by its brand), and
what is refused rather than quietly replaced by something weaker.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from mesh_hsm.custody import CustodyClass, Hardware, PinPolicy
from mesh_hsm.errors import (
    MeshHsmError,
    NotFoundError,
    ProviderUnavailableError,
    UnsupportedError,
)
from mesh_hsm.provider import KeySpec, Seals, Token, TokenInfo, Use
from mesh_hsm.secret_source import NoSecrets
from mesh_hsm.uri import Uri
from mesh_hsm_cli.find import all_tokens, find_token, quoted
from mesh_hsm_cli.session import Session

# The Mesh's own curve first, then work factor; P-521 late, since devices and peers are uneven.
AGREEMENT = ("X448", "P-384", "X25519", "P-521", "P-256")
# ECDSA alone is shared with an unmodified device, by derivation (hsm-1 §4).
SHARED_SIGNATURE = ("P-384", "P-256")
# Not combined. P-384 first, so that the key can move into any device.
PLAIN_SIGNATURE = ("P-384", "Ed448", "Ed25519", "P-256")

PREFERENCE: Mapping[Use, Sequence[str]] = MappingProxyType(
    {Use.ENCRYPT: AGREEMENT, Use.AUTHENTICATE: AGREEMENT, Use.SIGN: PLAIN_SIGNATURE}
)


def choose_algorithm(
    token: Token,
    use: Use,
    wanted: str | None,
    preference: Sequence[str] | None = None,
    *,
    allow_exportable: bool = False,
) -> str:
    """The strongest algorithm that the token offers for a use, or the one that was asked for.

    Raises ``UnsupportedError``. Keys that could leave the device are offered only if they are
    allowed, and then as second best.
    """
    if wanted is not None:
        return token.capability(wanted, use).algorithm
    able = [one for one in token.capabilities() if one.primitive in use.primitives]
    for leaving in (False, True) if allow_exportable else (False,):
        offered = {one.algorithm for one in able if one.needs_consent is leaving}
        for algorithm in preference or PREFERENCE[use]:
            if algorithm in offered:
                return algorithm
    why = token.why_not((preference or PREFERENCE[use])[0], use)
    raise UnsupportedError(
        f"{token.info.label} offers no algorithm to {use} with{f': {why}' if why else ''}",
        hint=f"mesh-hsm token show {quoted(token.info.uri)}",
        uri=str(token.info.uri),
    )


def pin_policy(token: Token, use: Use, *, no_pin: bool) -> PinPolicy:
    """A PIN for keys in hardware unless refused; a key file has its passphrase instead.

    Raises ``UnsupportedError`` where a PIN is refused that the device asks for whatever is used.
    """
    if token.info.hardware is Hardware.NONE:
        return PinPolicy.NONE
    if no_pin and PinPolicy.NONE not in token.pins(use):
        raise UnsupportedError(
            f"{token.info.label} asks for one PIN, whatever key is used",
            hint="leave out --no-pin",
            uri=str(token.info.uri),
        )
    return PinPolicy.NONE if no_pin else PinPolicy.ONCE


def choose_token(session: Session, named: str | None) -> Uri:
    """The token that was named, else the one device for a Mesh device's keys: a real one before
    simulators.

    Software is never chosen silently: without a device it is ``ProviderUnavailableError``.
    """
    if named is not None:
        return find_token(session, named)
    tokens, failed = all_tokens(session)
    usable = [
        info
        for info in tokens
        if info.initialised and info.hardware is not Hardware.NONE and _may_seal(session, info)
    ]
    real = [info for info in usable if info.hardware is not Hardware.SIMULATOR]
    found = real or usable
    if len(found) > 1:
        raise NotFoundError(
            "there are several devices that could hold the keys",
            hint=f"name one with --token: {', '.join(quoted(info.uri) for info in found)}",
        )
    if not found:
        reasons = "; ".join(str(error) for error in failed)
        raise ProviderUnavailableError(
            f"no device that could hold the keys: {reasons or 'none is plugged in'}",
            hint="mesh-hsm doctor says why; --token soft: keeps the keys in a file instead",
        )
    return found[0].uri


def _may_seal(session: Session, info: TokenInfo) -> bool:
    """False for a device that cannot keep a Mesh device's seed; what fails will say so later."""
    try:
        with session.open(info.uri, NoSecrets()) as token:
            return isinstance(token, Seals)
    except MeshHsmError:
        return True


def say_policy(session: Session, token: Token, spec: KeySpec, what: str) -> None:
    """Say what a key will ask for, before it is made."""
    place = f"{token.info.label}, slot {spec.slot}" if spec.slot else token.info.label
    session.output.notice(
        f"{what} {spec.label}: {spec.algorithm} in {place}, PIN {spec.pin}, touch {spec.touch}. "
        "That cannot be changed afterwards"
    )


def say_what_may_leave(session: Session, label: str, custody: CustodyClass) -> None:
    """Warn, loudly, of a key that was made although it can leave its device."""
    if custody is CustodyClass.EXPORTABLE:
        session.output.notice(
            f"{label} can LEAVE its device: whoever logs in there can copy it", loud=True
        )
    elif custody is CustodyClass.UNKNOWN:
        session.output.notice(
            f"{label} may LEAVE its device, which does not say that it cannot", loud=True
        )


def say_what_it_is(session: Session, info: TokenInfo) -> None:
    """Warn, loudly, where there is no hardware."""
    if info.hardware is Hardware.NONE:
        session.output.notice(
            f"{info.label} is a FILE, not a device: whoever copies it and learns its passphrase "
            "has the keys",
            loud=True,
        )
    elif info.hardware is Hardware.SIMULATOR:
        session.output.notice(
            f"{info.label} is a SIMULATOR: it protects nothing, and is good for trying things out",
            loud=True,
        )
