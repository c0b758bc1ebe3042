"""A PC/SC service for the very process that the virtual YubiKeys are in: a test and its devices.

Open this file when a test talks to its own YubiKey. libpcsclite asks once in the life of a process
where its service is, so a process has one, and what is plugged into it changes.

The service is a process of its own. Were it a thread, it would now and then wait for ever: pyscard
holds the interpreter's lock while it calls SCardFreeMemory, which waits for another thread's
SCardEstablishContext, which waits for the service, which waits for the interpreter's lock.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from multiprocessing.connection import Client, Connection
from pathlib import Path
from socket import SHUT_RDWR, socket
from types import TracebackType
from typing import IO, Any, Self, cast

from mesh_hsm.errors import (
    ConflictError,
    DeviceError,
    MeshHsmError,
    NotFoundError,
    ProviderUnavailableError,
)
from mesh_hsm.testing.virtual_yubikey import pcsc_child
from mesh_hsm.testing.virtual_yubikey.device import Removed, VirtualYubiKey
from mesh_hsm.testing.virtual_yubikey.pcsc_service import SOCKET_VARIABLE

_LIBRARY = "libpcsclite.so.1"
_USER_SCOPE = 0


class PcscProcess:
    """As ``PcscService``, but in another process; the devices are in this one."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="mesh-hsm-pcsc-"))
        self._numbers = itertools.count(1)
        self._devices: dict[int, tuple[VirtualYubiKey, Connection]] = {}
        self._talking = threading.Lock()
        # -P: the working folder may hold modules of any name.
        self._process = subprocess.Popen(  # noqa: S603  a program of our own, no shell
            [sys.executable, "-P", "-m", pcsc_child.__name__, str(self._folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the tests; they end it
        )
        self._output = cast("IO[bytes]", self._process.stdout)
        if not self._output.readline():
            self._remove()
            raise DeviceError(
                "the private PC/SC service has not started",
                hint="it says why on standard error; TMPDIR may be too long a path for a socket",
            )
        self._control = self._connect()

    @property
    def environment(self) -> dict[str, str]:
        """The variable by which libpcsclite finds this service and no other."""
        return {SOCKET_VARIABLE: str(self._folder / pcsc_child.SOCKET)}

    def add(self, device: VirtualYubiKey) -> str:
        """Plug it in; return the reader's name. Raises ``ConflictError``, as ``PcscService``."""
        if any(one is device for one, _ in self._devices.values()):
            raise ConflictError("this device is plugged in already")
        number = next(self._numbers)
        with self._talking:
            self._control.send((number, (device.reader_name, device.atr, device.present)))
            link = self._connect()
            name: str = self._answer()
        self._devices[number] = device, link
        device.on_change(functools.partial(self._changed, number))
        threading.Thread(
            target=_serve, args=(device, link), name="virtual YubiKey", daemon=True
        ).start()
        return name

    def remove(self, device: VirtualYubiKey) -> None:
        """Unplug it: its reader is no more. Raises ``NotFoundError`` for one that is not here."""
        for number, (one, link) in self._devices.items():
            if one is device:
                del self._devices[number]
                self._ask(number, None)
                _hang_up(link)
                return
        raise NotFoundError("this device is not plugged in")

    def close(self) -> None:
        """End it and every client's connection. The devices are left as they are."""
        self._devices.clear()
        self._control.close()
        self._remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def clients(self) -> int:
        """How many PC/SC contexts there are at this moment."""
        number: int = self._ask(0, pcsc_child.CLIENTS)
        return number

    # -- inside ----------------------------------------------------------------------------------

    def _changed(self, number: int) -> None:
        if number in self._devices:
            self._ask(number, self._devices[number][0].present)

    def _ask(self, number: int, what: bool | str | None) -> Any:
        with self._talking:
            self._control.send((number, what))
            return self._answer()

    def _answer(self) -> Any:
        answer = self._control.recv()
        if isinstance(answer, MeshHsmError):
            raise answer
        return answer

    def _connect(self) -> Connection:
        return Client(str(self._folder / pcsc_child.PARENT))

    def _remove(self) -> None:
        self._output.close()
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


def _hang_up(link: Connection) -> None:
    """End the conversation, also one that somebody is waiting in."""
    with suppress(OSError), socket(fileno=os.dup(link.fileno())) as end:
        end.shutdown(SHUT_RDWR)


def _serve(device: VirtualYubiKey, link: Connection) -> None:
    """Do what the service asks of this device until it is unplugged; None is a reset."""
    with link:
        while True:
            try:
                command: bytes | None = link.recv()
            except (EOFError, OSError):
                return
            answer: bytes | None = None
            try:
                if command is None:
                    device.reset()
                else:
                    answer = device.transmit(command)
            except Removed:
                answer = None
            try:
                link.send(answer)
            except OSError:
                return


@functools.cache
def in_process() -> PcscProcess:
    """The service that libpcsclite in this process, and in those it starts, talks to.

    Raises ``ProviderUnavailableError`` without libpcsclite, ``DeviceError`` where it has been
    used before, and talks to another service for good.
    """
    library = _load_libpcsclite()
    service = PcscProcess()
    atexit.register(service.close)
    os.environ |= service.environment
    context = ctypes.c_long()
    library.SCardEstablishContext(_USER_SCOPE, None, None, ctypes.byref(context))
    if not service.clients():
        raise DeviceError(
            "this process has used another PC/SC service already",
            hint="start the tests in a process that has not looked for smart cards",
        )
    library.SCardReleaseContext(context)
    return service


def _load_libpcsclite() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise ProviderUnavailableError(
            "libpcsclite is not installed", hint="apt install libpcsclite1"
        ) from error
    library.SCardEstablishContext.argtypes = [
        ctypes.c_ulong,
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.POINTER(ctypes.c_long),
    ]
    library.SCardReleaseContext.argtypes = [ctypes.c_long]
    return library
