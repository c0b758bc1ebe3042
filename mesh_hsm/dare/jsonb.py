"""Read JSON and JSON-B values: headers and trailers that hold binary codes, and payload objects.

Open this file when an object is not plain JSON text. JSON text, JSON-B and any mixture of the two
give the same Python values, binary items as unpadded base64url text, so that what comes after sees
one form (dare §1, JSON-BCD §4, with the member names B4..B7 that only published data show).
Duplicate members are refused, nesting is bounded, and a length is believed only as far as there
are octets (dare §6). JSON-C, decimal numbers and 80- or 128-bit reals are not read.
"""

from __future__ import annotations

import json
import re
import struct
from typing import TypeAlias

from mesh_hsm.dare.strict_json import MAX_DEPTH, b64url, un_b64url
from mesh_hsm.errors import FormatError

Value: TypeAlias = "bool | int | float | str | list[Value] | dict[str, Value] | None"

_SPACE = re.compile(rb"[ \t\r\n]*")
# Line breaks inside a string are not JSON, but published payloads have them (dare §1).
_TEXT = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]{0,63})(\.[0-9]{1,63})?([eE][+-]?[0-9]{1,4})?")
_LITERALS = {b"true": True, b"false": False, b"null": None}
_CODED_LITERALS = {0xB0: True, 0xB1: False, 0xB2: None}
_REALS = {0x90: ">e", 0x91: ">f", 0x92: ">d"}
_STRING, _BINARY, _NAME = 0x80, 0x88, 0xB4  # the first code of each family of four lengths
_NO_SPACE = dict.fromkeys(map(ord, " \t\r\n"))
_CHUNK = 4  # what a chunk's code has above that of a final item


def loads(data: bytes) -> Value:
    """One whole value with nothing but white space after it. Raises ``FormatError``."""
    value, end = read_value(data, 0)
    if end != len(data) and _SPACE.fullmatch(data, end) is None:
        raise FormatError("octets after the end of the object")
    return value


def read_value(data: bytes, offset: int) -> tuple[Value, int]:
    """The value that begins at ``offset`` (white space skipped) and the offset after it.

    Raises ``FormatError`` for anything malformed, truncated, duplicated or too deep. The caller
    bounds ``len(data)``.
    """
    reader = _Reader(data, offset)
    return reader.value(0), reader.at


def binary(value: object) -> bytes:
    """The octets of a binary member: base64url without padding, in its canonical form.

    White space is ignored, since published strings are broken into lines (dare §1). Raises
    ``FormatError`` for anything else.
    """
    text = value.translate(_NO_SPACE) if isinstance(value, str) else value
    return un_b64url(text, "a binary member")


class _Reader:
    """A place in a buffer, and whether the item before it was binary-coded.

    After a binary-coded item, and before one, separators may be missing.
    """

    def __init__(self, data: bytes, at: int) -> None:
        self.data = data
        self.at = at
        self.coded = False

    def value(self, depth: int) -> Value:
        if depth > MAX_DEPTH:
            raise FormatError(f"more than {MAX_DEPTH} levels of nesting")
        lead = self.peek()
        if lead == 0x7B:
            return self.members(depth)
        if lead == 0x5B:
            return self.items(depth)
        self.coded = lead >= 0x80
        return self.coded_value(lead) if self.coded else self.text_value(lead)

    def members(self, depth: int) -> dict[str, Value]:
        self.take(b"{")
        members: dict[str, Value] = {}
        self.coded = False
        while not self.takes(b"}"):
            if members:
                self.separator()
            name = self.name()
            if name in members:
                raise FormatError("a member stands twice in an object")
            members[name] = self.value(depth + 1)
        return members

    def items(self, depth: int) -> list[Value]:
        self.take(b"[")
        items: list[Value] = []
        self.coded = False
        while not self.takes(b"]"):
            if items:
                self.separator()
            items.append(self.value(depth + 1))
        return items

    def separator(self) -> None:
        if not self.takes(b",") and not self.coded and self.peek() < 0x80:
            raise FormatError("two items without a separator")

    def name(self) -> str:
        lead = self.peek()
        if lead == 0x22:
            name = self.text()
            self.take(b":")
            return name
        if _STRING <= lead < _STRING + _CHUNK:
            name = _utf8(self.chain(_STRING))
        elif _NAME <= lead < _NAME + _CHUNK:
            self.at += 1
            name = _utf8(self.octets(self.number(1 << (lead - _NAME))))
        else:
            raise FormatError("a member without a name")
        self.takes(b":")
        return name

    # -- text ------------------------------------------------------------------------------------

    def text_value(self, lead: int) -> Value:
        if lead == 0x22:
            return self.text()
        for word, literal in _LITERALS.items():
            if self.data.startswith(word, self.at):
                self.at += len(word)
                return literal
        match = _NUMBER.match(self.data, self.at)
        if match is None:
            raise FormatError("no JSON value begins like this")
        self.at = match.end()
        whole = match[1] is None and match[2] is None
        return int(match[0]) if whole else float(match[0])

    def text(self) -> str:
        match = _TEXT.match(self.data, self.at)
        if match is None:
            raise FormatError("truncated: a string has no end")
        self.at = match.end()
        try:
            text = str(json.loads(_utf8(match[0]), strict=False))
            text.encode()
        except (json.JSONDecodeError, UnicodeEncodeError) as error:
            raise FormatError("a string with a bad escape") from error
        return text

    # -- JSON-B ----------------------------------------------------------------------------------

    def coded_value(self, lead: int) -> Value:
        if lead < _BINARY:
            return _utf8(self.chain(_STRING))
        if lead < _BINARY + 2 * _CHUNK:
            return b64url(self.chain(_BINARY))
        self.at += 1
        if lead in _CODED_LITERALS:
            return _CODED_LITERALS[lead]
        if lead in _REALS:
            form = _REALS[lead]
            return float(struct.unpack(form, self.octets(struct.calcsize(form)))[0])
        width = lead & 7
        if not 0xA0 <= lead <= 0xAF or width in (5, 6):
            raise FormatError(f"the code {lead:02X} is not read here")
        magnitude = self.number(self.number(2) if width == 7 else 1 << width)
        return -magnitude if lead & 8 else magnitude

    def chain(self, family: int) -> bytes:
        """One item, or chunks of one family up to its final item."""
        joined = bytearray()
        chunk = True
        while chunk:
            code = self.octets(1)[0]
            if not family <= code < family + 2 * _CHUNK:
                raise FormatError("a chain of chunks changes its kind")
            chunk = code >= family + _CHUNK
            joined += self.octets(self.number(1 << (code & 3)))
        return bytes(joined)

    def number(self, width: int) -> int:
        return int.from_bytes(self.octets(width), "big")

    # -- octets ----------------------------------------------------------------------------------

    def octets(self, size: int) -> bytes:
        end = self.at + size
        if end > len(self.data):
            raise FormatError("truncated: an item is longer than the object")
        octets = self.data[self.at : end]
        self.at = end
        return octets

    def peek(self) -> int:
        """The next octet that is not white space."""
        space = _SPACE.match(self.data, self.at)
        self.at = space.end() if space else self.at
        if self.at >= len(self.data):
            raise FormatError("truncated: the object has no end")
        return self.data[self.at]

    def takes(self, octet: bytes) -> bool:
        if self.peek() != octet[0]:
            return False
        self.at += 1
        return True

    def take(self, octet: bytes) -> None:
        if not self.takes(octet):
            raise FormatError(f"expected {octet.decode('ascii')}")


def _utf8(octets: bytes) -> str:
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatError("text that is not UTF-8") from error
