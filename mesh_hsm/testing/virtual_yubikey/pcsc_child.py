"""The program of ``PcscProcess``: a PC/SC service whose devices are in the process that started it.

Open this file when a test talks to its own YubiKey and gets no answer. Its argument is a folder, in
which it makes two sockets: one for libpcsclite, and one to which its parent connects, once to say
what is plugged in and once more for each device. It ends with the first of these connections.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import cast

from mesh_hsm.errors import MeshHsmError
from mesh_hsm.testing.virtual_yubikey.device import Removed, VirtualYubiKey
from mesh_hsm.testing.virtual_yubikey.pcsc_service import PcscService

SOCKET, PARENT = "socket", "parent"
CLIENTS = "clients"


class _Remote:
    """What a reader needs of a device, which is at the other end of ``link``."""

    def __init__(self, link: Connection, reader_name: str, atr: bytes, present: bool) -> None:
        self.reader_name = reader_name
        self.atr = atr
        self.present = present
        self._link = link
        self._line = threading.Lock()
        self._tell: Callable[[], None] = lambda: None

    def transmit(self, command: bytes) -> bytes:
        """Sent there; the answer may take as long as a touch."""
        answer = self._ask(command)
        if answer is None:
            raise Removed
        return answer

    def reset(self) -> None:
        """Sent there."""
        self._ask(None)

    def on_change(self, callback: Callable[[], None]) -> None:
        """What to call when ``move`` was called."""
        self._tell = callback

    def move(self, present: bool) -> None:
        """It was removed, or inserted."""
        self.present = present
        self._tell()

    def _ask(self, command: bytes | None) -> bytes | None:
        with self._line:
            try:
                self._link.send(command)
                return cast("bytes | None", self._link.recv())
            except (EOFError, OSError):
                raise Removed from None


def main(folder: Path) -> None:
    """Serve until the parent hangs up."""
    devices: dict[int, _Remote] = {}
    with (
        PcscService(path=folder / SOCKET) as service,
        Listener(str(folder / PARENT)) as listener,
    ):
        print("ready", flush=True)
        with listener.accept() as parent:
            while True:
                try:
                    number, what = parent.recv()
                except EOFError:
                    return
                try:
                    if isinstance(what, tuple):
                        devices[number] = _Remote(listener.accept(), *what)
                        parent.send(service.add(cast("VirtualYubiKey", devices[number])))
                        continue
                    if what == CLIENTS:
                        parent.send(service.clients)
                        continue
                    if what is None:
                        service.remove(cast("VirtualYubiKey", devices.pop(number)))
                    else:
                        devices[number].move(what)
                    parent.send(None)
                except MeshHsmError as error:
                    parent.send(error)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
