"""The card's side of vpcd, the reader driver of the vsmartcard project, for a real pcscd.

Open this file when a virtual YubiKey answers the private PC/SC service but not a real daemon. It
listens on loopback; the driver connects (``DEVICENAME localhost:PORT``). Messages have a length,
two octets big-endian; those of one octet are controls, the others APDUs.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Sequence
from contextlib import suppress
from socket import (
    AF_INET,
    IPPROTO_TCP,
    SHUT_RDWR,
    SOCK_STREAM,
    TCP_NODELAY,
    TCP_QUICKACK,
    socket,
)
from types import TracebackType
from typing import Self

from mesh_hsm.errors import UnsupportedError
from mesh_hsm.testing.virtual_yubikey.device import Removed, VirtualYubiKey

_LOOPBACK = "127.0.0.1"
SLOTS = 2
_PATIENCE = 1.0  # seconds for a slot's thread to end; one that waits for a touch is left alone


class Control(enum.IntEnum):
    """Messages of one octet."""

    POWER_OFF = 0
    POWER_ON = 1
    RESET = 2
    ATR = 4


def message(content: bytes) -> bytes:
    """As it goes over the wire."""
    return len(content).to_bytes(2, "big") + content


class VpcdReader:
    """The stock driver's two slots, and the ``devices`` in them. A context manager.

    The driver is to connect to ``port``; it looks for its second card at the next one. Driver 3.3
    aborts its daemon when a card goes or is missing: two devices, which stay.
    """

    def __init__(self, devices: Sequence[VirtualYubiKey]) -> None:
        if len(devices) != SLOTS:
            raise UnsupportedError(f"a vpcd reader holds {SLOTS} cards, not {len(devices)}")
        listeners = _adjacent_listeners()
        self.port: int = listeners[0].getsockname()[1]
        self._slots = [_Slot(*pair) for pair in zip(listeners, devices, strict=True)]

    def close(self) -> None:
        """Hang up and free the ports. The devices are left as they are."""
        for slot in self._slots:
            slot.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Slot:
    """Who connects while the device is out is let in and sent away: a refusal would make the
    driver (3.3) close file descriptors that are not its own."""

    def __init__(self, listener: socket, device: VirtualYubiKey) -> None:
        self._listener = listener
        self._device = device
        self._driver: socket | None = None
        device.on_change(self._hang_up)
        self._thread = threading.Thread(target=self._serve, name="vpcd slot", daemon=True)
        self._thread.start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(SHUT_RDWR)  # which ends accept()
        self._hang_up()
        self._thread.join(_PATIENCE)
        self._listener.close()

    def _hang_up(self) -> None:
        driver = self._driver
        if driver:
            with suppress(OSError):
                driver.shutdown(SHUT_RDWR)  # which ends recv()

    def _serve(self) -> None:
        with suppress(OSError):  # the listener was shut down
            while True:
                driver, _ = self._listener.accept()
                with driver, suppress(OSError):
                    self._driver = driver
                    if self._device.present:
                        driver.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
                        _converse(driver, self._device)


def _converse(driver: socket, device: VirtualYubiKey) -> None:
    """Until either side hangs up."""
    while True:
        length = _read(driver, 2)
        content = _read(driver, int.from_bytes(length, "big")) if length else None
        if content is None:
            return
        try:
            answer = _answer(device, content)
        except Removed:
            return
        if answer is not None:
            driver.sendall(message(answer))


def _answer(device: VirtualYubiKey, content: bytes) -> bytes | None:
    if len(content) > 1:
        return device.transmit(content)
    match content[0] if content else None:
        case Control.POWER_OFF | Control.RESET:
            device.reset()
        case Control.ATR:
            return device.atr
    return None


def _read(driver: socket, count: int) -> bytes | None:
    """Exactly so many octets; None where the connection ends before."""
    octets = b""
    while len(octets) < count:
        # Forgotten after each read; without it every answer waits 40 ms for an acknowledgement.
        driver.setsockopt(IPPROTO_TCP, TCP_QUICKACK, 1)
        more = driver.recv(count - len(octets))
        if not more:
            return None
        octets += more
    return octets


def _adjacent_listeners() -> list[socket]:
    while True:
        first = _listener(0)
        port: int = first.getsockname()[1]
        with suppress(OSError, OverflowError):  # the next port is taken, or there is none
            return [first, _listener(port + 1)]
        first.close()


def _listener(port: int) -> socket:
    end = socket(AF_INET, SOCK_STREAM)
    try:
        end.bind((_LOOPBACK, port))
        end.listen()
    except BaseException:
        end.close()
        raise
    return end
