"""How a Mesh object becomes payload octets and back: strict JSON, one tagged object.

Open this file for the shape of every member on the wire. Binary members are unpadded base64url,
times are RFC 3339 UTC to the second (dare §1). Members not known here are ignored: the signature
covers them, and later versions may add some. Members known here must be there and well-formed.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from mesh_hsm.errors import FormatError

PAYLOAD_LIMIT: Final = 1 << 20
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"

Json = Any
"""A JSON value. Its shape is checked where it is read."""


def to_text(octets: bytes) -> str:
    """Octets as unpadded base64url."""
    return urlsafe_b64encode(octets).rstrip(b"=").decode("ascii")


def from_text(text: Json, what: str) -> bytes:
    """Octets from canonical unpadded base64url. Raises ``FormatError``."""
    if not isinstance(text, str):
        raise FormatError(f"{what} is not text")
    try:
        octets = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except ValueError as error:
        raise FormatError(f"{what} is not base64url") from error
    if to_text(octets) != text:  # the decoder skips foreign characters and stray bits
        raise FormatError(f"{what} is not canonical base64url")
    return octets


def to_time(moment: datetime) -> str:
    """An aware time as RFC 3339 UTC, to the second. Raises ``FormatError`` for a naive one."""
    if moment.tzinfo is None:
        raise FormatError("a time needs its zone")
    return moment.astimezone(UTC).strftime(_TIME)


def encode(type_name: str, members: Mapping[str, Json]) -> bytes:
    """The payload ``{"TypeName":{…}}``: UTF-8 without insignificant white space."""
    text = json.dumps({type_name: members}, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8")


def decode(payload: bytes, type_name: str) -> Members:
    """The members of a payload that must be a ``type_name``. Raises ``FormatError``."""
    value = parse(payload, type_name)
    if not isinstance(value, dict) or len(value) != 1:
        raise FormatError("the payload is not one tagged object")
    ((tag, members),) = value.items()
    if tag != type_name:
        raise FormatError(f"expected a {type_name}, found another object")
    return Members.of(members, type_name)


def parse(octets: bytes, what: str) -> Json:
    """Strict JSON: UTF-8, no member twice, no NaN, bounded. Raises ``FormatError``."""
    if len(octets) > PAYLOAD_LIMIT:
        raise FormatError(f"{what} is larger than {PAYLOAD_LIMIT} octets")
    try:
        return json.loads(
            octets.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant
        )
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{what} is truncated or not JSON") from error


class Members:
    """The members of one object, read by name and kind. Every reader raises ``FormatError``."""

    def __init__(self, values: dict[str, Json], where: str) -> None:
        self.values = values
        self._where = where

    @classmethod
    def of(cls, value: Json, where: str) -> Members:
        """The members of a JSON value that must be an object."""
        if not isinstance(value, dict):
            raise FormatError(f"{where} is not an object")
        return cls(value, where)

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def any(self, name: str) -> Json:
        """A member of any kind."""
        if name not in self.values:
            raise FormatError(f"{self._where} lacks {name}")
        return self.values[name]

    def text(self, name: str, *, empty: bool = False) -> str:
        """A member that is text, and not empty unless that is allowed."""
        value = self.any(name)
        if not isinstance(value, str) or not (value or empty):
            raise FormatError(f"{self._where}.{name} is not text")
        return value

    def octets(self, name: str, size: int | None = None) -> bytes:
        """A binary member, of ``size`` octets if given."""
        octets = from_text(self.any(name), f"{self._where}.{name}")
        if size is not None and len(octets) != size:
            raise FormatError(f"{self._where}.{name} has not {size} octets")
        return octets

    def number(self, name: str, least: int = 0) -> int:
        """A whole number from ``least`` to 2^53 - 1, which every JSON reader keeps exactly."""
        value = self.any(name)
        if type(value) is not int or not least <= value < 1 << 53:
            raise FormatError(f"{self._where}.{name} is not a whole number from {least}")
        return value

    def time(self, name: str) -> datetime:
        """A time, aware, in UTC."""
        text = self.text(name)
        try:
            moment = datetime.strptime(text, _TIME).replace(tzinfo=UTC)
        except ValueError as error:
            raise FormatError(f"{self._where}.{name} is not a time") from error
        if to_time(moment) != text:
            raise FormatError(f"{self._where}.{name} is not a time as we write it")
        return moment

    def array(self, name: str) -> list[Json]:
        """A member that is an array."""
        value = self.any(name)
        if not isinstance(value, list):
            raise FormatError(f"{self._where}.{name} is not an array")
        return value

    def inner(self, name: str) -> Members:
        """A member that is itself an object."""
        return Members.of(self.any(name), f"{self._where}.{name}")


def _once(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise FormatError("a member stands twice")
    return value


def _no_constant(name: str) -> Json:
    raise FormatError(f"{name} is not JSON")
