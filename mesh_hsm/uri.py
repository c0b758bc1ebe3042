"""Names of tokens and keys: ``tpm2:…``, ``soft:…``, ``yubikey:…`` and RFC 7512's ``pkcs11:…``.

One grammar serves all: ``scheme:attribute=value;attribute=value?query=value&query=value``, values
percent-encoded. ``pkcs11:`` keeps to the letter of RFC 7512 §2.3, so that what we write is read
elsewhere; the other schemes are ours and stay readable. A URI never holds a secret: one that
tries is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

from mesh_hsm.errors import FormatError

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*\Z")
_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_SECRET_NAMES = frozenset({"pin", "pin-value", "x-pin-value", "passphrase", "password", "secret"})

Attributes = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class _Part:
    """How the path or the query of a scheme is written."""

    separator: str
    name: re.Pattern[str]
    raw: str  # what may stand unencoded, besides letters, digits and "-._~"
    strict: bool = False  # whether anything else is refused when read
    octets: str | None = None  # the one attribute whose value need not be text


_NAME = re.compile(r"[a-z][a-z0-9-]*\Z")
_READABLE = ":[]@!$'()*+,=/"
_OURS = (_Part(";", _NAME, _READABLE), _Part("&", _NAME, _READABLE))

_RFC7512_NAME = re.compile(r"[A-Za-z0-9_-]+\Z")  # vendor attributes: pk11-v-attr-nm-char
_RFC7512_RAW = ":[]@!$'()*+,="  # pk11-res-avail
_RFC7512 = (
    _Part(";", _RFC7512_NAME, _RFC7512_RAW + "&", strict=True, octets="id"),
    _Part("&", _RFC7512_NAME, _RFC7512_RAW + "/?|", strict=True),
)


@dataclass(frozen=True, slots=True)
class Uri:
    """A parsed name. Attributes keep their order; equality is by content and order.

    Values are text. The ``id`` of a ``pkcs11:`` URI is any octets: ask ``octets`` for it.
    """

    scheme: str
    attributes: Attributes = ()
    query: Attributes = ()

    @classmethod
    def parse(cls, text: str) -> Uri:
        """Read a URI. Raises ``FormatError``; the message never repeats a value."""
        scheme, colon, rest = text.strip().partition(":")
        scheme = scheme.lower()  # RFC 3986 §3.1
        if not colon or not _SCHEME.match(scheme):
            raise FormatError("a key or token is named by scheme:attribute=value;…")
        in_path, in_query = _parts(scheme)
        path, _, query = rest.partition("?")
        return cls(scheme, tuple(_pairs(path, in_path)), tuple(_pairs(query, in_query)))

    def get(self, name: str) -> str | None:
        """The value of an attribute, then of a query attribute, else None."""
        return next((v for n, v in self.attributes + self.query if n == name), None)

    def octets(self, name: str) -> bytes | None:
        """The same as octets: for ``id``, which need not be text; UTF-8 for the others."""
        value = self.get(name)
        return None if value is None else value.encode("utf-8", "surrogateescape")

    def with_attribute(self, name: str, value: str) -> Uri:
        """The same name with one attribute set."""
        kept = tuple(pair for pair in self.attributes if pair[0] != name)
        return Uri(self.scheme, (*kept, (name, value)), self.query)

    def without(self, name: str) -> Uri:
        """The same name without one attribute: a key's URI without its key is its token's."""
        return Uri(self.scheme, tuple(p for p in self.attributes if p[0] != name), self.query)

    def __str__(self) -> str:
        in_path, in_query = _parts(self.scheme)
        path, query = _written(self.attributes, in_path), _written(self.query, in_query)
        return f"{self.scheme}:{path}" + (f"?{query}" if query else "")


def _parts(scheme: str) -> tuple[_Part, _Part]:
    return _RFC7512 if scheme == "pkcs11" else _OURS


def _written(pairs: Attributes, part: _Part) -> str:
    return part.separator.join(f"{name}={_encoded(name, value, part)}" for name, value in pairs)


def _encoded(name: str, value: str, part: _Part) -> str:
    if name == part.octets:  # RFC 7512 §2.3: the whole value of "id" should be encoded
        return "".join(f"%{octet:02X}" for octet in value.encode("utf-8", "surrogateescape"))
    # "'" might stand raw, but hints show names in quotation marks to be pasted into a shell, and a
    # stranger's token may be labelled '$(…)'.
    return quote(value, safe=part.raw.replace("'", ""))


def _pairs(text: str, part: _Part) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for pair in filter(None, text.split(part.separator)):
        name, equals, value = pair.partition("=")
        if not equals or not part.name.match(name) or _ESCAPE.search(value):
            raise FormatError("malformed attribute in a key or token URI")
        if name.lower().replace("_", "-") in _SECRET_NAMES:
            raise FormatError(
                f"a URI may not hold a secret ({name}): URIs end up in logs and process lists",
                hint="be asked for it, or use --pin-fd, or pin-source=file:/path in a pkcs11: URI",
            )
        if name in seen:
            raise FormatError(f"attribute {name} stands twice in a key or token URI")
        seen.add(name)
        if part.strict:
            _refuse_raw(name, value, part)
        try:
            errors = "surrogateescape" if name == part.octets else "strict"
            yield name, unquote_to_bytes(value).decode("utf-8", errors)
        except UnicodeError as error:
            raise FormatError(f"attribute {name} is not UTF-8") from error


def _refuse_raw(name: str, value: str, part: _Part) -> None:
    for character in value:
        if character.isascii() and (character.isalnum() or character in "%-._~" + part.raw):
            continue
        raise FormatError(
            f"attribute {name} holds a character that must be percent-encoded there",
            hint=f"write {character!r} as {quote(character, safe='', errors='surrogatepass')}",
        )
