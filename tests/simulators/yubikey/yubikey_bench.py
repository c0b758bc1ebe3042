"""A YubiKey on the conformance kit's bench: a virtual one, or one that a person plugged in.

Open this file for what the kit erases, and who agreed to that.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from yubikit.piv import SLOT

from mesh_hsm.custody import Hardware, PinPolicy
from mesh_hsm.provider import Provider
from mesh_hsm.secret_source import FixedSecrets, SecretKind
from mesh_hsm.testing.conformance import Bench, CountedPin
from mesh_hsm.testing.virtual_yubikey import VirtualYubiKey
from mesh_hsm.uri import Uri
from mesh_hsm_yubikey import catalogue, slot_state
from mesh_hsm_yubikey.card import card_of
from mesh_hsm_yubikey.directory import Directory
from mesh_hsm_yubikey.provider import YubiKeyProvider
from mesh_hsm_yubikey.slots import OURS

PIN, PUK = b"246813", b"24681357"


class CardBench(Bench):
    """The YubiKey with this serial number, its PIV application erased and set up anew."""

    answers = {  # noqa: RUF012  the base class says Mapping
        SecretKind.PIN: PIN,
        SecretKind.NEW_PIN: PIN,
        SecretKind.PUK: PUK,
        SecretKind.NEW_PUK: PUK,
    }
    counted_pin = CountedPin(PinPolicy.ONCE, 3, None)
    new_secret = b"975312"
    wrong_secret = b"00000000"

    def __init__(self, serial: int, folder: Path) -> None:
        self.folder = folder
        self.uri = Uri("yubikey", (("serial", str(serial)),))
        self.card = card_of(serial)
        info = self.provider().initialise(self.uri, "bench", FixedSecrets(self.answers), erase=True)
        self.hardware: Hardware = info.hardware

    def provider(self) -> Provider:
        return YubiKeyProvider(self.folder)

    def leftovers(self) -> Collection[object]:
        """Keys that no entry accounts for, not even as one that was being made.

        What was cut off while the YubiKey is away can only be tidied up once it is back: that the
        next step does so is tested with the provider.
        """

        def look(hold):
            found = catalogue.read(hold.piv) or Directory()
            known = {one.slot for one in found.entries} | {slot for slot, _ in found.spent}
            return [
                SLOT(slot).name
                for slot in OURS
                if slot not in known and slot_state.read(hold.piv, slot) is not None
            ]

        return self.card.run("be looked at", look)

    def absent(self, uri: Uri) -> Uri:
        return uri.with_attribute("slot", "95")

    def end_lockout(self) -> None:
        self.provider().reset_pin(self.uri, FixedSecrets(self.answers, last_try=True))


class YubiKeyBench(CardBench):
    """A virtual one, which can be pulled out at every command."""

    def __init__(self, device: VirtualYubiKey, folder: Path) -> None:
        self.device = device
        super().__init__(device.serial, folder)

    @contextmanager
    def failing(self, step: int) -> Iterator[None]:
        """It is pulled out at the ``step``-th command, and plugged in again afterwards."""
        self.device.unplug_at(step + 1)
        try:
            yield
        finally:
            self.device.stop_failing()
            self.device.insert()

    def restart(self) -> bool:
        self.device.remove()
        self.device.insert()
        return True
