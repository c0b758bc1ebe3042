"""Command APDUs in their short and extended forms (ISO 7816-3 §12.1). No I/O.

Open this to see how a command is read. An absent Le is kept as ``None``: hosts leave it out and
still expect all there is.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Self

from mesh_hsm.errors import FormatError

SHORT_MAX, EXTENDED_MAX = 256, 65_536
_HEADER = struct.Struct("4B")
_U16 = struct.Struct(">H")


@dataclass(frozen=True)
class Command:
    """One command. ``le`` is 1 to 65,536 or None; ``data`` is not shown, since it may be a PIN."""

    cla: int
    ins: int
    p1: int
    p2: int
    data: bytes = field(default=b"", repr=False)
    le: int | None = None
    extended: bool = False

    @classmethod
    def decode(cls, octets: bytes) -> Self:
        """Read any of the four cases. Raises ``FormatError`` where the lengths contradict."""
        if len(octets) < _HEADER.size:
            raise FormatError("a command has at least four octets")
        cla, ins, p1, p2 = octets[: _HEADER.size]
        data, le, extended = _body(octets[_HEADER.size :])
        return cls(cla, ins, p1, p2, data, le, extended)

    def encode(self) -> bytes:
        """The octets that ``decode`` reads as this command; extended only where it says so.

        Raises ``FormatError`` for more data or a larger Le than the form can say.
        """
        most, size = (EXTENDED_MAX, 2) if self.extended else (SHORT_MAX, 1)
        if len(self.data) >= most or not 1 <= (self.le or 1) <= most:
            raise FormatError("more data or a larger Le than this form of a command can say")
        octets = _HEADER.pack(self.cla, self.ins, self.p1, self.p2)
        if self.extended and (self.data or self.le):
            octets += b"\0"
        if self.data:
            octets += len(self.data).to_bytes(size, "big") + self.data
        if self.le:
            octets += (self.le % most).to_bytes(size, "big")
        return octets

    @property
    def answer_limit(self) -> int:
        """How many octets go out at once; without Le, as many as the form allows.

        Four octets without data ask for no more than a short answer.
        """
        if self.le is not None:
            return self.le
        return EXTENDED_MAX if self.extended else SHORT_MAX


def _body(body: bytes) -> tuple[bytes, int | None, bool]:
    """Data, Le and whether the form is the extended one."""
    if not body:
        return b"", None, False
    if len(body) == 1:
        return b"", body[0] or SHORT_MAX, False
    if body[0]:
        return *_split(body, 1, body[0], 1), False
    if len(body) < 3:
        raise FormatError("an extended length is cut off")
    (length,) = _U16.unpack_from(body, 1)
    if len(body) == 3:
        return b"", length or EXTENDED_MAX, True
    return *_split(body, 3, length, 2), True


def _split(body: bytes, start: int, length: int, le_size: int) -> tuple[bytes, int | None]:
    data, rest = body[start : start + length], body[start + length :]
    if not length or len(data) < length or len(rest) not in (0, le_size):
        raise FormatError("Lc and Le do not fit the command's length")
    if not rest:
        return data, None
    return data, int.from_bytes(rest, "big") or 1 << 8 * le_size
