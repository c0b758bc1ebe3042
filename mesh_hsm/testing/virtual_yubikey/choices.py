"""What neither the standards nor Yubico say, and this simulator had to choose.

Independent PIV implementations differ in exactly these. Open this to prove that a host does not
lean on one of them: make the device with ``OTHERS`` instead of ``OURS``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mesh_hsm.testing.virtual_yubikey.status import Status


@dataclass(frozen=True)
class Choices:
    """Status words by occasion, and one rule."""

    nothing_selected: int = Status.CONDITIONS_NOT_SATISFIED
    unknown_slot: int = Status.WRONG_SLOT
    short_pin: int = Status.CONDITIONS_NOT_SATISFIED
    last_try: int = Status.TRIES_LEFT
    """Answers the wrong try that blocks; later ones are 6983 anyway."""
    bad_point: int = Status.WRONG_DATA
    cannot_attest: int = Status.WRONG_DATA
    """A key that was imported, or is not there."""
    always_means_each_use: bool = True
    """PIN policy "always" wants VERIFY just before each use (SP 800-73-4); else once is enough."""


OURS: Final = Choices()
OTHERS: Final = Choices(
    nothing_selected=Status.UNKNOWN_INSTRUCTION,
    unknown_slot=Status.WRONG_P1P2,
    short_pin=Status.WRONG_DATA,
    last_try=Status.BLOCKED,
    bad_point=Status.CONDITIONS_NOT_SATISFIED,
    cannot_attest=Status.NOT_FOUND,
    always_means_each_use=False,
)
"""The other answer to each, as some other card might give it."""
