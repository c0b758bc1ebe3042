"""Which token and key a ``pkcs11:`` URI means, and what ours are called (RFC 7512 §2.3, §2.5).

A path attribute that is absent means "any"; one that is there must be equal, also when empty. What
stands in the query restricts nothing: it says how to reach the token.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mesh_hsm.errors import FormatError, NotFoundError
from mesh_hsm.uri import Attributes, Uri

_OBJECT = frozenset({"object", "type", "id"})
_TYPES = frozenset({"public", "private", "cert", "secret-key", "data"})
_QUERY = frozenset({"module-name", "module-path", "pin-source"})


@dataclass(frozen=True, slots=True)
class TokenFacts:
    """What a module says of itself, of a slot and of the token in it, padding removed (``field``).

    ``library_version`` is "major.minor", both decimal: CK_VERSION 3, 40 is "3.40".
    """

    label: str
    manufacturer: str
    model: str
    serial: str
    slot_id: int
    slot_description: str = ""
    slot_manufacturer: str = ""
    library_manufacturer: str = ""
    library_description: str = ""
    library_version: str = "0.0"
    initialised: bool = True


@dataclass(frozen=True, slots=True)
class KeyName:
    """What a URI says of a key: CKA_LABEL, CKA_ID, or both; at least one is not None."""

    label: str | None
    identifier: bytes | None


def field(octets: bytes) -> str:
    """A string of CK_INFO, CK_SLOT_INFO or CK_TOKEN_INFO without its padding.

    Padded with blanks (PKCS #11 v3.0 §3); some modules take NULs. Octets that are not UTF-8 become
    U+FFFD here and so in the URI: what we wrote for such a token still names it.
    """
    return octets.partition(b"\0")[0].rstrip(b" ").decode("utf-8", "replace")


def matches(uri: Uri, facts: TokenFacts) -> bool:
    """Whether the token is one that the URI means; attributes of objects are not looked at.

    A path attribute that we do not know matches nothing (RFC 7512 §2.5): ``NotFoundError`` names
    it, since nobody would guess. ``FormatError`` for a number or type that is none.
    """
    agreed = [_agrees(name, value, facts) for name, value in uri.attributes]
    return all(agreed)  # after all were looked at, so that an unknown one is always named


def _agrees(name: str, value: str, facts: TokenFacts) -> bool:
    if name in _OBJECT:
        return True
    if name not in _FACTS:
        misplaced = name in _QUERY
        raise NotFoundError(
            f"no token has the attribute {name}",
            hint=f"it belongs into the query: ?{name}=…" if misplaced else "leave it out",
        )
    if name == "slot-id":
        return _number(name, value) == facts.slot_id
    if name == "library-version":
        return _version(value) == _version(facts.library_version)
    return value == _FACTS[name](facts)


_FACTS: dict[str, Callable[[TokenFacts], str]] = {
    "token": lambda facts: facts.label,
    "manufacturer": lambda facts: facts.manufacturer,
    "model": lambda facts: facts.model,
    "serial": lambda facts: facts.serial,
    "slot-manufacturer": lambda facts: facts.slot_manufacturer,
    "slot-description": lambda facts: facts.slot_description,
    "slot-id": lambda facts: str(facts.slot_id),
    "library-manufacturer": lambda facts: facts.library_manufacturer,
    "library-description": lambda facts: facts.library_description,
    "library-version": lambda facts: facts.library_version,
}
_TOKEN = ("token", "manufacturer", "model", "serial")
_UNINITIALISED = ("manufacturer", "model", "slot-id")
_LIBRARY = ("library-manufacturer", "library-description", "library-version")


def _number(name: str, value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= 20):  # CK_ULONG
        raise FormatError(f"attribute {name} is not a decimal number")
    return int(value)


def _version(value: str) -> tuple[int, int]:
    major, dot, minor = value.partition(".")
    return _number("library-version", major), _number("library-version", minor) if dot else 0


def token_uri(facts: TokenFacts, query: Attributes = ()) -> Uri:
    """The canonical name of a token: label, manufacturer, model, serial, each if not empty.

    One that is not initialised has neither label nor, often, serial: its slot names it. Of
    ``query`` the attributes that RFC 7512 defines are kept, as the user typed them.
    """
    return _named(facts, _TOKEN if facts.initialised else _UNINITIALISED, query)


def token_uris(found: Sequence[TokenFacts], query: Attributes = ()) -> list[Uri]:
    """The names of all tokens found, in their order: canonical ones, longer where need be.

    A name that would also mean another of the tokens gets the slot's number, which may change when
    slots do, and then what the library says of itself. Tokens that agree in all of that are the
    same token, reached in two ways.
    """
    return [_telling_apart(facts, found, query) for facts in found]


def _telling_apart(facts: TokenFacts, found: Sequence[TokenFacts], query: Attributes) -> Uri:
    short = _TOKEN if facts.initialised else _UNINITIALISED
    slot = (*(name for name in short if name != "slot-id"), "slot-id")
    forms = [_named(facts, names, query) for names in (short, slot, (*slot, *_LIBRARY))]
    alone = (form for form in forms if sum(matches(form, other) for other in found) == 1)
    return next(alone, forms[0])


def _named(facts: TokenFacts, names: Sequence[str], query: Attributes) -> Uri:
    pairs = ((name, _FACTS[name](facts)) for name in names)
    kept = tuple(pair for pair in query if pair[0] in _QUERY)
    return Uri("pkcs11", tuple(pair for pair in pairs if pair[1]), kept)


def key_uri(token: Uri, label: str, identifier: bytes | None = None) -> Uri:
    """The name of the key with this label on the token; with its id where that is not enough."""
    uri = token.with_attribute("object", label).with_attribute("type", "private")
    if identifier is None:
        return uri
    return uri.with_attribute("id", identifier.decode("utf-8", "surrogateescape"))


def key_name(uri: Uri) -> KeyName:
    """The label and the id by which a URI names a key.

    Either half of the pair names it: tools print both, and the id of a certificate is its key's,
    but a certificate is not what was asked for. Raises ``FormatError`` for a URI that names no
    object, ``NotFoundError`` for one that names something else than a key pair.
    """
    path = dict(uri.attributes)
    kind, label = path.get("type", "private"), path.get("object")
    identifier = uri.octets("id") if "id" in path else None
    if kind not in _TYPES:
        raise FormatError("attribute type is none of " + ", ".join(sorted(_TYPES)))
    if kind not in {"private", "public"}:
        raise NotFoundError(
            f"type={kind} names no key pair", hint="name the key itself: type=private"
        )
    if label is None and identifier is None:
        raise FormatError("the URI names a token and no key", hint="add object=LABEL to its path")
    return KeyName(label, identifier)


def query_attribute(uri: Uri, name: str) -> str | None:
    """What the query says; a path attribute of the same name is another matter."""
    return dict(uri.query).get(name)


def module_path(uri: Uri) -> Path | None:
    """The module that the query names with ``module-path``. Raises as ``absolute_file``."""
    text = query_attribute(uri, "module-path")
    return None if text is None else absolute_file(text, "module-path in the URI")


def absolute_file(text: str, where: str) -> Path:
    """The path that stands in ``where``: absolute, and of a regular file unless nothing is there.

    Raises ``FormatError``. RFC 7512 §2.3 also lets ``module-path`` be a folder to search: code
    that is loaded here is named by whom it concerns, file by file.
    """
    if not text.isprintable():
        raise FormatError(f"{where} holds a character that cannot be printed")
    path = Path(text)
    if not path.is_absolute():
        raise FormatError(f"{where} is not an absolute path", hint="write it from the root: /…")
    try:
        mode = path.stat().st_mode
    except OSError:  # whoever loads it says what is missing
        return path
    if not stat.S_ISREG(mode):
        raise FormatError(
            f"{where} is not a file: {path}", hint="name the module's file, as in /…/libname.so"
        )
    return path
