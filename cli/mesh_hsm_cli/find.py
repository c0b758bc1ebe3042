"""From what a person typed to a token or key: a URI, a label, or the beginning of a key's UDF.

Open this file to see which names are accepted and which tokens are searched. Searching asks for no
PIN: only the key that was found is opened with the command's own secrets.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from mesh_hsm.errors import (
    AccessError,
    DeviceError,
    FormatError,
    NotFoundError,
    ProviderUnavailableError,
)
from mesh_hsm.secret_source import NoSecrets
from mesh_hsm.uri import Uri
from mesh_hsm_cli.session import Session

if TYPE_CHECKING:
    from mesh_hsm.provider import DeviceKey, Token, TokenInfo

_SHOWN = 4  # of several that a name fits


def all_tokens(session: Session) -> tuple[list[TokenInfo], list[ProviderUnavailableError]]:
    """What is plugged in, initialised or not, and why a provider could not say what is."""
    found: list[TokenInfo] = []
    failed: list[ProviderUnavailableError] = []
    for provider in session.providers():
        try:
            if isinstance(provider, ProviderUnavailableError):
                raise provider
            found += provider.tokens()
        except ProviderUnavailableError as error:
            failed.append(error)
    return found, failed


def find_token(session: Session, name: str) -> Uri:
    """The token that a URI or a label names. Raises ``NotFoundError``.

    What stands before a colon is a scheme: a label with a colon is no name.
    """
    if ":" in name:
        return Uri.parse(name)
    listed, failed = all_tokens(session)
    found = [info.uri for info in listed if name and info.label == name]
    if len(found) > 1:
        raise _several(name, "tokens", found)
    if not found:
        if failed:
            session.output.notice(f"{failed[0]}; it is perhaps the one")
        raise NotFoundError(f"no token is called '{name}'", hint="mesh-hsm token list")
    return found[0]


@contextmanager
def all_keys(session: Session) -> Iterator[list[tuple[Token, DeviceKey]]]:
    """Every key on every token that answers, none of which asks for a PIN.

    What does not answer is said and passed over.
    """
    with ExitStack() as open_tokens:
        found: list[tuple[Token, DeviceKey]] = []
        tokens, failed = all_tokens(session)
        for error in failed:
            session.output.notice(f"{error}; mesh-hsm doctor may say more")
        for info in tokens:
            if not info.initialised:
                continue
            try:
                token = open_tokens.enter_context(session.open(info.uri, NoSecrets()))
                listed = token.keys()
            except (AccessError, DeviceError, NotFoundError, ProviderUnavailableError) as error:
                session.output.notice(f"{error}; mesh-hsm doctor may say more")
                continue
            found += [(token, key) for key in listed]
        yield found


@contextmanager
def find_key(session: Session, name: str) -> Iterator[tuple[Token, DeviceKey]]:
    """The one key that ``name`` names, with its token. Raises ``NotFoundError``."""
    uri = Uri.parse(name) if ":" in name else _searched(session, name)
    with session.open(uri) as token:
        yield token, token.key(uri)


def _searched(session: Session, name: str) -> Uri:
    """The URI of the key by this label, else by the beginning of this UDF."""
    with all_keys(session) as keys:
        labelled = [key.uri for _, key in keys if key.label == name]
        found = labelled or [key.uri for _, key in keys if udf_begins(key.public, name)]
    if len(found) > 1:
        raise _several(name, "keys", found)
    if not found:
        raise NotFoundError(f"no key is called {name}", hint="mesh-hsm key list")
    return found[0]


def quoted(uri: Uri) -> str:
    """A URI as a shell takes it: semicolons and question marks end a word there."""
    return shlex.quote(str(uri))


def udf_begins(public: Any, prefix: str) -> bool:
    """True if the key's UDF begins with what was typed; dashes and case do not matter."""
    from mesh_hsm import udf

    try:
        return udf.matches(udf.udf_of(public), prefix)
    except FormatError:  # a label that is no Base32
        return False


def _several(name: str, what: str, found: list[Uri]) -> NotFoundError:
    return NotFoundError(
        f"{name} fits {len(found)} {what}",
        hint=f"name one of them: {', '.join(quoted(uri) for uri in found[:_SHOWN])}"
        + (", …" if len(found) > _SHOWN else ""),
    )
