"""The little DER that a TPM key file needs. Open this file for tags and lengths only."""

from __future__ import annotations

from mesh_hsm.errors import FormatError

BOOLEAN, INTEGER, OCTETS, OID, UTF8, SEQUENCE = 0x01, 0x02, 0x04, 0x06, 0x0C, 0x30
EXPLICIT = 0xA0
"""Context-specific, constructed: add the tag's number."""


def tlv(tag: int, content: bytes) -> bytes:
    """One DER element with content below 65,536 octets."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + content


def integer(value: int) -> bytes:
    """A non-negative INTEGER."""
    return tlv(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def elements(content: bytes) -> list[tuple[int, bytes]]:
    """The elements of a constructed content: tags and contents. ``FormatError`` unless DER."""
    found = []
    while content:
        if len(content) < 2:
            raise FormatError("a truncated key file")
        size, start = content[1], 2
        if size >= 0x80:
            start += size & 0x7F
            size = int.from_bytes(content[2:start], "big")
        body = content[start : start + size]
        # Encoding it again finds truncation, indefinite and overlong lengths at once.
        if tlv(content[0], body) != content[: start + size] or len(body) != size:
            raise FormatError("a key file that is not DER")
        found.append((content[0], body))
        content = content[start + size :]
    return found
