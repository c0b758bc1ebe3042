"""Which PINs a token takes at all: none other is sent to it, where it would cost a try."""

from __future__ import annotations

from mesh_hsm.errors import FormatError
from mesh_hsm_pkcs11.pin import Pin
from mesh_hsm_pkcs11.slots import Found

_LONGEST = 255


def why_not(pin: Pin, found: Found) -> str | None:
    """Why this cannot be a PIN of the token; None if it can. Lengths are in octets."""
    try:
        _ = pin.text
    except FormatError as error:
        return str(error)
    shortest, longest = max(found.shortest_pin, 1), found.longest_pin or _LONGEST
    if shortest <= len(pin) <= longest:
        return None
    return f"this token's PINs have {shortest} to {longest} octets"
