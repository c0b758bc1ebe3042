"""From what a person typed to a key: a URI, a UDF or its beginning, or a label.

Open this file to see which names are accepted and which tokens are searched.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from mesh_hsm.errors import DeviceError, FormatError, NotFoundError, ProviderUnavailableError
from mesh_hsm.uri import Uri
from mesh_hsm_cli.session import Session

if TYPE_CHECKING:
    from mesh_hsm.provider import DeviceKey, Token


@contextmanager
def all_keys(session: Session) -> Iterator[list[tuple[Token, DeviceKey]]]:
    """Every key on every token that answers. What does not answer is said and passed over."""
    with ExitStack() as open_tokens:
        found: list[tuple[Token, DeviceKey]] = []
        for provider in session.providers():
            try:
                if isinstance(provider, ProviderUnavailableError):
                    raise provider
                for info in provider.tokens():
                    token = open_tokens.enter_context(session.open(info.uri))
                    listed = token.keys()
                    found += [(token, key) for key in listed]
            except (ProviderUnavailableError, DeviceError) as error:
                session.output.notice(f"{error}; mesh-hsm doctor may say more")
        yield found


@contextmanager
def find_key(session: Session, name: str) -> Iterator[tuple[Token, DeviceKey]]:
    """The one key that ``name`` names, with its token. Raises ``NotFoundError``."""
    if ":" in name:
        uri = Uri.parse(name)
        with session.open(uri) as token:
            yield token, token.key(uri)
        return
    with all_keys(session) as keys:
        labelled = [(token, key) for token, key in keys if key.label == name]
        found = labelled or [(token, key) for token, key in keys if udf_begins(key.public, name)]
        if len(found) > 1:
            raise NotFoundError(
                f"{name} fits {len(found)} keys",
                hint=f"name one of them: {', '.join(str(key.uri) for _, key in found[:4])}",
            )
        if not found:
            raise NotFoundError(f"no key is called {name}", hint="mesh-hsm key list")
        yield found[0]


def udf_begins(public: Any, prefix: str) -> bool:
    """True if the key's UDF begins with what was typed; dashes and case do not matter."""
    from mesh_hsm import udf

    try:
        return udf.matches(udf.udf_of(public), prefix)
    except FormatError:  # a label that is no Base32
        return False
