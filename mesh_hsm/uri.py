"""Names of tokens and keys: ``tpm2:…``, ``soft:…``, ``yubikey:…`` and RFC 7512's ``pkcs11:…``.

One grammar serves all: ``scheme:attribute=value;attribute=value?query=value&query=value``, values
percent-encoded as in RFC 7512 §2.3. A URI never holds a secret: one that tries is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

from mesh_hsm.errors import FormatError

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*\Z")
_NAME = re.compile(r"[a-z][a-z0-9-]*\Z")
_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_SAFE = "-._~:[]@!$'()*+,=/"  # RFC 7512 pk11-path-res-avail without ';' and with '='
_SECRET_NAMES = frozenset({"pin", "pin-value", "passphrase", "password", "secret"})

Attributes = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Uri:
    """A parsed name. Attributes keep their order; equality is by content and order."""

    scheme: str
    attributes: Attributes = ()
    query: Attributes = ()

    @classmethod
    def parse(cls, text: str) -> Uri:
        """Read a URI. Raises ``FormatError``; the message never repeats a value."""
        scheme, colon, rest = text.strip().partition(":")
        if not colon or not _SCHEME.match(scheme):
            raise FormatError("a key or token is named by scheme:attribute=value;…", uri=None)
        path, _, query = rest.partition("?")
        return cls(scheme, tuple(_pairs(path, ";")), tuple(_pairs(query, "&")))

    def get(self, name: str) -> str | None:
        """The value of an attribute, then of a query attribute, else None."""
        return next((v for n, v in self.attributes + self.query if n == name), None)

    def with_attribute(self, name: str, value: str) -> Uri:
        """The same name with one attribute set."""
        kept = tuple(pair for pair in self.attributes if pair[0] != name)
        return Uri(self.scheme, (*kept, (name, value)), self.query)

    def without(self, name: str) -> Uri:
        """The same name without one attribute: a key's URI without its key is its token's."""
        return Uri(self.scheme, tuple(p for p in self.attributes if p[0] != name), self.query)

    def __str__(self) -> str:
        path = ";".join(f"{name}={quote(value, safe=_SAFE)}" for name, value in self.attributes)
        query = "&".join(f"{name}={quote(value, safe=_SAFE)}" for name, value in self.query)
        return f"{self.scheme}:{path}" + (f"?{query}" if query else "")


def _pairs(text: str, separator: str) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for part in filter(None, text.split(separator)):
        name, equals, value = part.partition("=")
        if not equals or not _NAME.match(name) or _ESCAPE.search(value):
            raise FormatError("malformed attribute in a key or token URI")
        if name in _SECRET_NAMES:
            raise FormatError(
                f"a URI may not hold a secret ({name})",
                hint="URIs end up in logs and process lists; use --pin-fd or be asked for it",
            )
        if name in seen:
            raise FormatError(f"attribute {name} stands twice in a key or token URI")
        seen.add(name)
        try:
            yield name, unquote_to_bytes(value).decode("utf-8")
        except UnicodeDecodeError as error:
            raise FormatError(f"attribute {name} is not UTF-8") from error
