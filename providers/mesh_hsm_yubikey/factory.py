"""Which secrets are still those of the factory, as the card itself says: nothing is tried.

Open this file for what is refused on a YubiKey that nobody has made his own.
"""

from __future__ import annotations

from typing import Final

from yubikit.piv import PivSession

from mesh_hsm.errors import UnsupportedError
from mesh_hsm_yubikey import slot_state
from mesh_hsm_yubikey.slots import OURS

SECRETS: Final = ("PIN", "PUK", "management key")


def still_factory(piv: PivSession) -> list[str]:
    """Of ``SECRETS`` those that are. Empty too where the firmware cannot say."""
    if not slot_state.tells(piv):
        return []
    told = (
        piv.get_pin_metadata().default_value,
        piv.get_puk_metadata().default_value,
        piv.get_management_key_metadata().default_value,
    )
    return [name for name, is_default in zip(SECRETS, told, strict=True) if is_default]


def refuse(piv: PivSession, uri: str) -> None:
    """Raise ``UnsupportedError`` while any of them is."""
    if found := still_factory(piv):
        raise UnsupportedError(
            f"the YubiKey still has its factory {' and '.join(found)}, which everybody knows",
            hint=f"mesh-hsm token init '{uri}' --label NAME, or ykman piv access",
            uri=uri,
        )


def is_new(piv: PivSession) -> bool:
    """Whether the card itself says that it is as it left the factory; below 5.3 it says nothing."""
    if not slot_state.tells(piv) or not piv.get_pin_metadata().default_value:
        return False
    return len(still_factory(piv)) == len(SECRETS) and not any(
        slot_state.read(piv, slot) is not None for slot in OURS
    )
