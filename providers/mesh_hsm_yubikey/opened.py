"""What a token and its keys share while it is open: card, PIN, management key.

Open this file for what closing a token ends.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from yubikit.piv import PivSession

from mesh_hsm.errors import DeviceError
from mesh_hsm.provider import TokenInfo
from mesh_hsm.secret_source import SecretSource
from mesh_hsm_yubikey.card import Card, Hold
from mesh_hsm_yubikey.device import Device
from mesh_hsm_yubikey.login import Login
from mesh_hsm_yubikey.management import Management

R = TypeVar("R")


class Opened:
    """One opening of a YubiKey. ``roots`` is the folder of roots besides Yubico's."""

    def __init__(
        self, info: TokenInfo, device: Device, card: Card, secrets: SecretSource, roots: Path
    ) -> None:
        self.info = info
        self.roots = roots
        self.device = device
        self.card = card
        self.login = Login(card, secrets)
        self.management = Management(card, self.login)
        self._closed = False

    def run(self, doing: str, work: Callable[[Hold], R]) -> R:
        """``Card.run``, unless this was closed: ``DeviceError``."""
        self.check_open()
        return self.card.run(doing, work)

    def manage(self, doing: str, work: Callable[[PivSession], R]) -> R:
        """The same with the management key proved: for whatever writes to the card."""
        self.check_open()
        pin = self.management.prepare()

        def managed(hold: Hold) -> R:
            self.management.prove(hold, pin)
            hold.seen.clear()  # slots are about to change
            return work(hold.piv)

        return self.card.run(doing, managed)

    def check_open(self) -> None:
        """Raise ``DeviceError`` once closed."""
        if self._closed:
            raise DeviceError("the YubiKey has been closed", uri=str(self.info.uri))

    def close(self) -> None:
        """Forget PIN and management key, and give the reader up. Twice is harmless."""
        if not self._closed:
            self._closed = True
            self.login.forget()
            self.management.forget()
            self.card.release()
