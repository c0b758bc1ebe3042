"""BER-TLV, as far as smart cards use it (ISO 7816-4 §5.2.2). Open this to read or write a template.

Tags are integers of one to three octets (0x7C, 0x7F49, 0x5F2F).
"""

from __future__ import annotations

from mesh_hsm.errors import FormatError

_MORE = 0x1F  # low bits of a first tag octet that others follow
_LONGEST = 0xFFFFFF


def encode(tag: int, value: bytes = b"") -> bytes:
    """One tag, the shortest length (``81``, ``82`` and ``83`` forms included), the value.

    Raises ``FormatError`` for a tag that ``decode`` would read differently.
    """
    octets = tag.to_bytes((tag.bit_length() + 7) // 8 or 1, "big")
    if _tag_size(octets) != len(octets):
        raise FormatError(f"{octets.hex()} is not a BER tag")
    return octets + _length(len(value)) + value


def decode(octets: bytes) -> list[tuple[int, bytes]]:
    """Every tag and value of a sequence, in order. Raises ``FormatError`` for a rest."""
    found = []
    while octets:
        tag, value, octets = _first(octets)
        found.append((tag, value))
    return found


def fields(octets: bytes) -> dict[int, bytes]:
    """A sequence whose tags occur once, as a mapping. Raises ``FormatError`` for a repeated tag."""
    pairs = decode(octets)
    found = dict(pairs)
    if len(found) != len(pairs):
        raise FormatError("a tag occurs twice")
    return found


def unwrap(tag: int, octets: bytes) -> bytes:
    """The value of the only TLV, which must have this tag. Raises ``FormatError`` otherwise."""
    pairs = decode(octets)
    if [found for found, _ in pairs] != [tag]:
        raise FormatError(f"expected one TLV of tag {tag:02X}")
    return pairs[0][1]


def _first(octets: bytes) -> tuple[int, bytes, bytes]:
    size = _tag_size(octets)
    tag, rest = int.from_bytes(octets[:size], "big"), octets[size:]
    if not rest:
        raise FormatError("a TLV ends before its length")
    length, rest = rest[0], rest[1:]
    if length >= 0x80:
        count = length - 0x80
        if not 1 <= count <= 3 or len(rest) < count:
            raise FormatError("a TLV's length is indefinite, too long or cut off")
        length, rest = int.from_bytes(rest[:count], "big"), rest[count:]
    if len(rest) < length:
        raise FormatError("a TLV ends before its value")
    return tag, rest[:length], rest[length:]


def _tag_size(octets: bytes) -> int:
    size = 1
    if octets[0] & _MORE == _MORE:
        size = 2
        while octets[size - 1 : size] and octets[size - 1] & 0x80:
            size += 1
    if size > 3 or size > len(octets):
        raise FormatError("a TLV's tag is cut off or longer than three octets")
    return size


def _length(size: int) -> bytes:
    if size < 0x80:
        return bytes([size])
    if size > _LONGEST:
        raise FormatError("a TLV's value is longer than three octets can say")
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([0x80 + len(octets)]) + octets
