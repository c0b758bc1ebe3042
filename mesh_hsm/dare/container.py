"""The envelope as a file: ``[``, header, payload, trailer, ``]``. Open this for its byte layout.

Binary form, as we write it (hsm-1 §2, dare §1)::

    [ {header as JSON text} , 8B length(8) octets {trailer as JSON text} ] LF

No comma follows the payload, since a binary-coded value needs none; readers allow one there. From
a pipe the payload is ``8E 00100000`` and 1 MiB for each chunk, and a final item 88 to 8B. The text
form is one JSON array ``[{header},"base64url",{trailer}]``. An empty trailer is ``{}``; readers
allow its absence. Nothing but white space may follow.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import BinaryIO, Final, cast

from mesh_hsm.dare import jsonb
from mesh_hsm.dare.model import JsonObject
from mesh_hsm.dare.payload import Payload, PayloadWriter, Sink
from mesh_hsm.dare.strict_json import MAX_OCTETS, compact, parse_object
from mesh_hsm.errors import FormatError, UnsupportedError

_SPACE = b" \t\r\n"
_TOKEN: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"|["{}\[\]]|[\x80-\xff]', re.DOTALL)
_CODED = 0x80


@dataclass(frozen=True, slots=True)
class Container:
    """An envelope file, taken apart. Nothing in it has been verified."""

    header: JsonObject
    payload: Payload
    trailer: JsonObject

    @property
    def armored(self) -> bool:
        """Whether this is the text form."""
        return self.payload.armored


def read(source: BinaryIO) -> Container:
    """Take a seekable source apart, from where it stands to its end. Raises ``FormatError``.

    Headers and trailers have at most 1 MiB each; the payload may have any size.
    """
    start = source.tell()
    head = source.read(MAX_OCTETS)
    at = _expect(head, 0, b"[")
    header, at, coded = _object(head, at)
    at = _separator(head, at, optional=coded)
    payload = Payload(source, start + at, lenient="protected" not in header)
    source.seek(payload.end)
    tail = source.read(MAX_OCTETS + 1)
    if len(tail) > MAX_OCTETS:
        raise FormatError("the envelope's trailer is too large")
    at = _skip_space(tail, 0)
    trailer: JsonObject = {}
    trailer_coded = False
    if tail[at : at + 1] != b"]":
        at = _separator(tail, at, optional=not payload.armored)
        trailer, at, trailer_coded = _object(tail, at)
    at = _expect(tail, at, b"]")
    if _skip_space(tail, at) != len(tail):
        raise FormatError("octets after the end of the envelope")
    if "protected" in header and (coded or trailer_coded):
        raise FormatError("the header and trailer of hsm-1 are JSON text")
    return Container(header, payload, trailer)


class Writer:
    """Writes one envelope: header at once, payload in pieces, trailer at the end."""

    def __init__(
        self, sink: Sink, header: JsonObject, *, armor: bool = False, size: int | None = None
    ) -> None:
        text = compact(header)
        if len(text) >= MAX_OCTETS - 1024:  # room for brackets and the payload's head
            raise UnsupportedError("too many recipients for one envelope")
        self._sink = sink
        sink.write(b"[" + text + b",")
        self._payload = PayloadWriter(sink, armor=armor, size=size)
        self._after = b"," if armor else b""

    def write(self, octets: bytes | memoryview) -> None:
        """More of the payload, as it goes on disk."""
        self._payload.write(octets)

    def finish(self, trailer: JsonObject) -> None:
        """The trailer, and the end."""
        self._payload.finish()
        self._sink.write(self._after + compact(trailer) + b"]\n")


def _object(octets: bytes, at: int) -> tuple[JsonObject, int, bool]:
    """The object at ``at``, the offset after it, and whether it holds JSON-B codes."""
    at = _skip_space(octets, at)
    if octets[at : at + 1] != b"{":
        raise FormatError("header and trailer are JSON objects")
    depth = 0
    for token in _TOKEN.finditer(octets, at):
        first = token[0][0]
        if first >= _CODED:
            value, end = jsonb.read_value(octets, at)
            return cast(JsonObject, value), end, True  # since it begins with a brace
        if token[0] == b'"':
            break
        depth += (first in b"{[") - (first in b"}]")
        if not depth:
            return parse_object(octets[at : token.end()]), token.end(), False
    raise FormatError("the envelope is truncated, or its header too large")


def _separator(octets: bytes, at: int, *, optional: bool) -> int:
    at = _skip_space(octets, at)
    if optional and octets[at : at + 1] != b",":
        return at
    return _skip_space(octets, _expect(octets, at, b","))


def _expect(octets: bytes, at: int, sign: bytes) -> int:
    at = _skip_space(octets, at)
    if octets[at : at + 1] != sign:
        raise FormatError("not a DARE envelope, or a truncated one")
    return at + 1


def _skip_space(octets: bytes, at: int) -> int:
    while octets[at : at + 1] and octets[at] in _SPACE:
        at += 1
    return at
