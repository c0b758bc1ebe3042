"""What a person need not choose: the algorithm, the token, whether a PIN is asked.

Open this file to see what is picked, by what the device says it can do (never by its brand), and
what is refused rather than quietly replaced by something weaker.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from mesh_hsm.custody import CustodyClass, Hardware, PinPolicy
from mesh_hsm.errors import NotFoundError, ProviderUnavailableError, UnsupportedError
from mesh_hsm.provider import Token, TokenInfo, Use
from mesh_hsm.uri import Uri
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
    token: Token, use: Use, wanted: str | None, preference: Sequence[str] | None = None
) -> str:
    """The strongest algorithm that the token offers for a use, or the one that was asked for.

    Raises ``UnsupportedError``. Keys that could leave the device are not offered.
    """
    if wanted is not None:
        return token.capability(wanted, use).algorithm
    offered = {
        capability.algorithm
        for capability in token.capabilities()
        if capability.primitive in use.primitives
        and capability.custody not in (CustodyClass.EXPORTABLE, CustodyClass.UNKNOWN)
    }
    for algorithm in preference or PREFERENCE[use]:
        if algorithm in offered:
            return algorithm
    raise UnsupportedError(
        f"{token.info.label} offers no algorithm to {use} with",
        hint=f"mesh-hsm token show '{token.info.uri}'",
        uri=str(token.info.uri),
    )


def pin_policy(token: Token, *, no_pin: bool) -> PinPolicy:
    """A PIN for keys in hardware unless refused; a key file has its passphrase instead."""
    if no_pin or token.info.hardware is Hardware.NONE:
        return PinPolicy.NONE
    return PinPolicy.ONCE


def choose_token(session: Session, named: str | None) -> Uri:
    """The token that was named, else the one hardware token there is.

    Software is never chosen silently: without hardware it is ``ProviderUnavailableError``.
    """
    if named is not None:
        return Uri.parse(named)
    found: list[TokenInfo] = []
    reasons: list[str] = []
    for provider in session.providers():
        try:
            if isinstance(provider, ProviderUnavailableError):
                raise provider
            found += [info for info in provider.tokens() if info.hardware is not Hardware.NONE]
        except ProviderUnavailableError as error:
            reasons.append(str(error))
    if len(found) > 1:
        raise NotFoundError(
            "there are several devices that could hold the keys",
            hint=f"name one with --token: {', '.join(str(info.uri) for info in found)}",
        )
    if not found:
        raise ProviderUnavailableError(
            f"no device that could hold the keys: {'; '.join(reasons) or 'none is plugged in'}",
            hint="mesh-hsm doctor says why; --token soft: keeps the keys in a file instead",
        )
    return found[0].uri


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
