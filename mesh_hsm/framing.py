"""``F(a, b, …)``: the one way in which fields are joined before they are hashed (hsm-1)."""

from __future__ import annotations


def F(*fields: bytes | str) -> bytes:  # noqa: N802  the specification's own name
    """Join fields so that no two different lists give the same octets.

    Each field is preceded by its length, two octets big-endian; text is ASCII. hsm-1, first
    section. Raises ``OverflowError`` for a field beyond 65,535 octets: a caller's mistake.
    """
    octets = (field.encode("ascii") if isinstance(field, str) else field for field in fields)
    return b"".join(len(field).to_bytes(2, "big") + field for field in octets)
