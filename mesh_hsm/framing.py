"""``F(a, b, …)``: the one way in which fields are joined before they are hashed (hsm-1)."""

from __future__ import annotations

from mesh_hsm.errors import FormatError


def F(*fields: bytes | str) -> bytes:  # noqa: N802  the specification's own name
    """Join fields so that no two different lists give the same octets.

    Each field is preceded by its length, two octets big-endian; text is ASCII. hsm-1, first
    section. Raises ``OverflowError`` for a field beyond 65,535 octets: a caller's mistake.
    """
    octets = (field.encode("ascii") if isinstance(field, str) else field for field in fields)
    return b"".join(len(field).to_bytes(2, "big") + field for field in octets)


def fields(octets: bytes) -> list[bytes]:
    """The fields that ``F`` joined, as octets. Raises ``FormatError`` for a truncated one."""
    found, at = [], 0
    while at < len(octets):
        start = at + 2
        at = start + int.from_bytes(octets[at:start], "big")
        if at > len(octets):
            raise FormatError("a framed field is truncated")
        found.append(octets[start:at])
    return found
