"""PIV slots: their names, which use each is for, and which are there. SP 800-73-4 Part 1 §3."""

from __future__ import annotations

from typing import Final

from yubikit.piv import SLOT

from mesh_hsm.errors import FormatError
from mesh_hsm.provider import Use

OURS: Final = tuple(slot for slot in SLOT if slot is not SLOT.ATTESTATION)
"""Every slot that may hold a key of ours: 9A, 9C, 9D, 9E and the twenty retired ones."""

_FIRST: Final = {
    Use.SIGN: SLOT.SIGNATURE,
    Use.AUTHENTICATE: SLOT.AUTHENTICATION,
    Use.ENCRYPT: SLOT.KEY_MANAGEMENT,
}
_RETIRED: Final = tuple(slot for slot in OURS if SLOT.RETIRED1 <= slot <= SLOT.RETIRED20)


def preferred(use: Use) -> tuple[SLOT, ...]:
    """Where a key of this use goes: PIV's own slot for it, then the retired ones."""
    return (_FIRST[use], *_RETIRED)


def parse(text: str) -> SLOT:
    """``9c`` or ``82``, in hexadecimal as everybody writes them. Raises ``FormatError``."""
    try:
        slot = SLOT(int(text, 16)) if len(text) == 2 else None
    except ValueError:
        slot = None
    if slot not in OURS:
        raise FormatError(f"{text!r} is no PIV slot", hint="9a, 9c, 9d, 9e, or 82 to 95")
    return slot


def name(slot: SLOT) -> str:
    """As it stands in a URI: ``9c``."""
    return f"{int(slot):02x}"
