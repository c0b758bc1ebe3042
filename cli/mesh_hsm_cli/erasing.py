"""Before a token is initialised or its PIN set anew: who can do it, and what would be lost."""

from __future__ import annotations

from mesh_hsm.errors import ConflictError, UnsupportedError
from mesh_hsm.provider import Initialises
from mesh_hsm.secret_source import NoSecrets
from mesh_hsm.uri import Uri
from mesh_hsm_cli import terminal
from mesh_hsm_cli.session import Session
from mesh_hsm_cli.trust import needed_keys

_NAMED = 6  # keys; a token may hold thousands


def security_officer(session: Session, uri: Uri) -> Initialises:
    """The provider of a token, if its tokens have a security officer: ``UnsupportedError``."""
    provider = session.provider(uri.scheme)
    if not isinstance(provider, Initialises):
        raise UnsupportedError(
            f"{uri.scheme}: tokens have no security officer: there is nothing to initialise",
            hint="mesh-hsm token list",
            uri=str(uri),
        )
    return provider


def consent_to_erase(
    session: Session, uri: Uri, *, erase: bool, yes: bool, force: bool
) -> Uri | None:
    """The token that is initialised and may be erased, by its full name; None if it is new.

    Raises ``ConflictError`` for an initialised one unless ``erase`` says so and a person, or
    ``yes``, agrees to what would be lost; and for keys that something here needs, but ``force``.
    """
    try:
        token = session.open(uri, NoSecrets())
    except UnsupportedError:  # not initialised: if not that, the provider refuses once more
        return None
    with token:
        named, label, keys = token.info.uri, token.info.label, token.keys()
        needed = needed_keys(session)
        purposes = [needed[key.public] for key in keys if key.public in needed]
    if not erase:
        raise ConflictError(
            f"{label} is initialised already",
            hint="--erase makes a new token of it: all that it holds is lost",
            uri=str(uri),
        )
    if purposes and not force:
        raise ConflictError(
            f"{label} holds {purposes[0]}: without it that is lost",
            hint="--force erases it all the same",
            uri=str(uri),
        )
    names = [key.label for key in keys]
    shown = ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
    held = f" ({len(names)} of ours: {shown})" if names else ""
    if not (yes or terminal.confirm(f"Erase {label} and all keys on it{held} for good?")):
        raise ConflictError("nothing was erased", hint="--yes answers the question")
    return named
