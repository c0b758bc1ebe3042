"""How a Mesh object becomes payload octets and back: strict JSON, one tagged object.

Open this file for the shape of every member on the wire. Binary members are unpadded base64url,
times are RFC 3339 UTC to the second (dare §1). Members not known here are ignored: the signature
covers them, and later versions may add some. Members known here must be there and well-formed.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from mesh_hsm.dare.strict_json import compact, parse_object, un_b64url
from mesh_hsm.errors import FormatError

_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"

Json = Any
"""A JSON value. Its shape is checked where it is read."""


def to_time(moment: datetime) -> str:
    """An aware time as RFC 3339 UTC, to the second. Raises ``FormatError`` for a naive one."""
    if moment.tzinfo is None:
        raise FormatError("a time needs its zone")
    return moment.astimezone(UTC).strftime(_TIME)


def encode(tag: str, members: Mapping[str, Json]) -> bytes:
    """The payload ``{"TypeName":{…}}``: UTF-8 without insignificant white space."""
    return compact({tag: members})


def decode(payload: bytes, tag: str) -> Members:
    """The members of a payload that must be a ``tag``. Raises ``FormatError``."""
    value = parse_object(payload)
    if list(value) != [tag]:
        raise FormatError(f"the payload is not a {tag}")
    return Members.of(value[tag], tag)


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
        return un_b64url(self.any(name), f"{self._where}.{name}", size)

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
