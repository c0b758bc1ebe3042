"""A virtual YubiKey: the device that transports hold and tests control.

Open this to see what a test can do to it. ``transmit`` is the only door to the card. Not a
security device: its keys lie in the memory of a test process.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from mesh_hsm.errors import FormatError, UnsupportedError
from mesh_hsm.testing.virtual_yubikey.card import Application, Card
from mesh_hsm.testing.virtual_yubikey.choices import OURS, Choices
from mesh_hsm.testing.virtual_yubikey.clock import Clock
from mesh_hsm.testing.virtual_yubikey.faults import Faults, Loss
from mesh_hsm.testing.virtual_yubikey.hardware import Hardware, Version
from mesh_hsm.testing.virtual_yubikey.management import YUBIKEY_5, Capability, Management
from mesh_hsm.testing.virtual_yubikey.piv import storage
from mesh_hsm.testing.virtual_yubikey.piv.application import Piv
from mesh_hsm.testing.virtual_yubikey.piv.attestation_identity import AttestationFault, identity
from mesh_hsm.testing.virtual_yubikey.piv.state import PivState
from mesh_hsm.testing.virtual_yubikey.status import Refused
from mesh_hsm.testing.virtual_yubikey.touch import Finger, TouchSensor
from mesh_hsm.testing.virtual_yubikey.trace import Record

SERIALS: Final = range(30_000_000, 30_100_000)
"""Serial numbers of simulators. Others are refused, so that none passes for a real device."""
OLDEST: Final[Version] = (4, 3, 0)
_FIPS: Final = 0x80
_FORMAT: Final = "mesh-hsm virtual YubiKey SIMULATOR state, 1"


class Removed(Exception):  # noqa: N818  what happened, not a mistake
    """The device is not plugged in, or was pulled out before it could answer."""


class VirtualYubiKey:
    """One simulated YubiKey, as it leaves the factory and plugged in.

    ``firmware`` decides what it can do: 4.3 (attestation), 5.3 (metadata), 5.4.2 (AES management
    key), 5.7 (Ed25519, X25519, RSA-3072 and 4096, MOVE, AES-192 as factory management key).
    ``fips`` only sets the bit in the form factor. ``choices`` are the answers that no document
    gives; ``choices.OTHERS`` shows whether a host leans on one. Raises ``UnsupportedError`` for a
    serial number outside ``SERIALS`` and for firmware that no version string could say.
    """

    atr = bytes.fromhex("3BFD1300008131FE158073C021C057597562694B657940")

    def __init__(
        self,
        serial: int = 30_000_001,
        firmware: Version = (5, 7, 1),
        *,
        form_factor: int = 0x03,
        fips: bool = False,
        supported: Capability = YUBIKEY_5,
        enabled: Capability = Capability.PIV,
        choices: Choices = OURS,
    ) -> None:
        if serial not in SERIALS:
            raise UnsupportedError(
                f"{serial} is no serial number of a simulator",
                hint=f"take one from {SERIALS.start} to {SERIALS.stop - 1}",
            )
        if firmware < OLDEST or max(firmware) > 9:
            raise UnsupportedError("firmware is 4.3.0 to 9.9.9, one digit each")
        self.serial, self.firmware = serial, firmware
        self.reader_name = f"Yubico YubiKey CCID (virtual {serial})"
        self.clock = Clock()
        self.present = True
        self.latency = 0.0
        """Real seconds that each command takes at least."""
        self.trace: list[Record] = []
        self._sensor = TouchSensor(self.clock)
        self._hardware = Hardware(
            serial, firmware, form_factor | (_FIPS if fips else 0), self._sensor, choices
        )
        self._piv = Piv(self._hardware)
        management = Management(self._hardware, supported, enabled)
        applications: list[Application] = (
            [management, self._piv] if Capability.PIV in enabled else [management]
        )
        self._card = Card(applications, choices)
        self._faults = Faults()
        self._callbacks: list[Callable[[], None]] = []
        self._lock = threading.RLock()  # again, for a callback of a touch that pulls the plug

    # -- for transports --------------------------------------------------------------------------

    def transmit(self, command: bytes) -> bytes:
        """A command APDU in, response data and SW1 SW2 out. Blocks while a touch is waited for.

        Raises ``Removed`` when the device is not plugged in or goes away meanwhile.
        """
        with self._lock:
            if not self.present:
                raise Removed
            response, loss = self._exchange(command)
            self.trace.append(Record.of(command, response))
        if loss is not None:
            self._notify()
        if response is None:
            raise Removed
        return response

    def reset(self) -> None:
        """The card is reset: the security state is gone. A wait for a touch ends without one."""
        self._sensor.interrupt()
        with self._lock:
            self._card.reset()
            self._sensor.resume()

    def remove(self) -> None:
        """Pull the plug, also in the middle of a command. Nothing happens if it is out already."""
        if self._unplug():
            self._notify()

    def insert(self) -> None:
        """Plug in again. Nothing happens if it is in already."""
        with self._lock:
            if self.present:
                return
            self._card.reset()
            self._sensor.forget()
            self._sensor.resume()
            self.present = True
        self._notify()

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call this after every removal and insertion, from whichever thread it happened in."""
        self._callbacks.append(callback)

    # -- for tests -------------------------------------------------------------------------------

    @property
    def state(self) -> PivState:
        """What survives power loss, to look at or to write without a command."""
        return self._piv.context.state

    @property
    def touch(self) -> Finger:
        """Who touches the sensor; see ``touch.Finger``."""
        return self._sensor.finger

    @touch.setter
    def touch(self, finger: Finger) -> None:
        self._sensor.finger = finger

    @property
    def touch_timeout(self) -> float:
        """Seconds of the simulator's clock after which an untouched command is refused."""
        return self._sensor.timeout

    @touch_timeout.setter
    def touch_timeout(self, seconds: float) -> None:
        self._sensor.timeout = seconds

    @property
    def waiting_for_touch(self) -> bool:
        """Whether the card is waiting just now; ``touch_wanted`` is the event."""
        return self._sensor.wanted.is_set()

    @property
    def touch_wanted(self) -> threading.Event:
        """Set while the card waits for a touch, so that a test can wait for that."""
        return self._sensor.wanted

    @property
    def apdus(self) -> int:
        """How many commands have come."""
        return len(self.trace)

    @property
    def operations(self) -> Counter[tuple[int, str]]:
        """(slot, ``Operation``): how often a key was made, used, attested or moved."""
        return self._hardware.operations

    def unplug_at(self, n: int) -> None:
        """Go away when the n-th command from now comes, before it is processed. 1 is the next."""
        self._faults.lose(n, Loss.BEFORE)

    def power_loss_after(self, n: int, answered: bool) -> None:
        """Go away when the n-th command from now was processed, before or after its answer."""
        self._faults.lose(n, Loss.ANSWERED if answered else Loss.UNANSWERED)

    def fail_next(self, ins: int, sw: int, times: int = 1) -> None:
        """Answer the next commands of this instruction with ``sw``, without processing them."""
        self._faults.fail(ins, sw, times)

    def stop_failing(self) -> None:
        """Forget what was ordered with the three above and has not happened yet."""
        self._faults.clear()

    @property
    def attestation_fault(self) -> AttestationFault | None:
        """What is wrong with its attestations; None for an honest device."""
        return self._piv.context.attestation_fault

    @attestation_fault.setter
    def attestation_fault(self, fault: AttestationFault | None) -> None:
        with self._lock:
            self._piv.context.attestation_fault = fault
            self.state.set_identity(identity(self.serial, fault))

    def save(self) -> bytes:
        """The persistent state, secrets included: a private format, for ``load`` alone."""
        with self._lock:
            return json.dumps({"format": _FORMAT, **self._who(), **self._dump()}).encode()

    def load(self, saved: bytes) -> None:
        """Take over a state that a device of this serial and firmware saved; a reset follows.

        Raises ``FormatError`` for anything else, and nothing is changed.
        """
        try:
            content = json.loads(saved)
            if content["format"] != _FORMAT or any(
                content[name] != value for name, value in self._who().items()
            ):
                raise FormatError("the state of another device, or no state at all")
            state = storage.load(content["piv"])
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError("the saved state is damaged") from error
        with self._lock:
            self._piv.context.state = state
        self.reset()

    # -- inside ----------------------------------------------------------------------------------

    def _exchange(self, command: bytes) -> tuple[bytes | None, Loss | None]:
        if self.latency:
            time.sleep(self.latency)
        loss = self._faults.next()
        if loss is Loss.BEFORE:
            self._unplug()
            return None, loss
        response = self._answer(command)
        if not self.present:  # somebody else pulled the plug, and has told everybody
            return None, None
        if loss is not None:
            self._unplug()
        return (None if loss is Loss.UNANSWERED else response), loss

    def _answer(self, command: bytes) -> bytes:
        try:
            self._faults.check(command)
        except Refused as refused:
            return refused.status.to_bytes(2, "big")
        return self._card.exchange(command)

    def _unplug(self) -> bool:
        # Without the lock: a command that waits for a touch holds it.
        was, self.present = self.present, False
        self._sensor.interrupt()
        return was

    def _notify(self) -> None:
        for callback in list(self._callbacks):
            callback()

    def _who(self) -> dict[str, object]:
        return {"serial": self.serial, "firmware": list(self.firmware)}

    def _dump(self) -> dict[str, object]:
        return {"piv": storage.dump(self.state)}
