"""A real pcscd of one's own, whose readers hold virtual YubiKeys through the vpcd driver.

Open this file to see whether something holds for the daemon that users have, and not only for our
own service. Needs Linux with user namespaces, no root, and Debian's pcscd and vsmartcard-vpcd.
pcscd's socket is always /run/pcscd/pcscd.comm: it is started where /run is a folder of the rig's.
The system's own pcscd is neither needed nor touched, nor are the machine's own readers.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Self, cast

from mesh_hsm.errors import DeviceError, ProviderUnavailableError
from mesh_hsm.testing.virtual_yubikey.device import VirtualYubiKey
from mesh_hsm.testing.virtual_yubikey.pcsc_service import SOCKET_VARIABLE
from mesh_hsm.testing.virtual_yubikey.vpcd import SLOTS, VpcdReader

_DRIVER = Path("/usr/lib/pcsc/drivers/serial/libifdvpcd.so")
_NAME = "Yubico YubiKey CCID (virtual, vpcd)"
_SBIN = "/usr/sbin"
_PATIENCE = 20.0  # seconds for pcscd to start; it takes half a second
_READY, _CARD = b"daemon ready", b"Card ATR:"
_SCRIPT = 'mount --bind "$1" /run && shift && exec setpriv --pdeathsig TERM "$@"'


class Pcscd:
    """A running daemon with two ``devices``, which are not to be removed. A context manager.

    ``environment`` leads a process to it; ``readers`` are the names under which it finds them.
    The driver has two slots and needs a card in both. Raises ``ProviderUnavailableError`` where
    something is not installed, ``DeviceError`` where the daemon does not start.
    """

    def __init__(self, devices: Sequence[VirtualYubiKey]) -> None:
        pcscd = _program()
        self._stack = ExitStack()
        self._folder = Path(tempfile.mkdtemp(prefix="mesh-hsm-pcscd-"))
        self._stack.callback(shutil.rmtree, self._folder, ignore_errors=True)
        try:
            reader = self._stack.enter_context(VpcdReader(devices))
            self.readers = [f"{_NAME} 00 {slot:02X}" for slot in range(SLOTS)]
            self._write_configuration(reader.port)
            self._start(pcscd)
        except BaseException:
            self.close()
            raise

    @property
    def environment(self) -> dict[str, str]:
        """The variable by which libpcsclite finds this daemon and no other."""
        return {SOCKET_VARIABLE: str(self._folder / "run" / "pcscd" / "pcscd.comm")}

    def close(self) -> None:
        """End it. The devices are left as they are."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- inside ----------------------------------------------------------------------------------

    def _write_configuration(self, port: int) -> None:
        for name in ("run", "drivers", "readers"):
            (self._folder / name).mkdir()
        (self._folder / "readers" / "virtual").write_text(
            f'FRIENDLYNAME "{_NAME}"\n'
            f"DEVICENAME localhost:{port}\n"
            f"LIBPATH {_DRIVER}\n"
            f"CHANNELID {port:#x}\n"
        )

    def _start(self, pcscd: str) -> None:
        process = subprocess.Popen(  # noqa: S603  fixed programs, and a script of our own
            [
                *("unshare", "--user", "--map-root-user", "--mount"),
                *("sh", "-c", _SCRIPT, "sh", str(self._folder / "run")),
                *(pcscd, "--foreground", "--info", "--config", str(self._folder / "readers")),
            ],
            # No USB drivers: the machine's own readers are not ours.
            env=os.environ | {"PCSCLITE_HP_DROPDIR": str(self._folder / "drivers")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        log = _Log(cast("IO[bytes]", process.stdout))
        self._stack.callback(log.close)
        self._stack.callback(_end, process)
        if not log.shows({_READY: 1, _CARD: SLOTS}):
            raise DeviceError(f"pcscd has not started: {log.last!r}")


class _Log:
    """What the daemon says, read so that it never has to wait."""

    def __init__(self, output: IO[bytes]) -> None:
        self._output = output
        self._seen = b""
        self._ended = False
        self._more = threading.Condition()
        self._thread = threading.Thread(target=self._read, name="pcscd log", daemon=True)
        self._thread.start()

    @property
    def last(self) -> str:
        """The end of it."""
        return self._seen.decode(errors="replace").strip()[-300:]

    def shows(self, wanted: dict[bytes, int]) -> bool:
        """Whether each has come so many times before the daemon ends or takes too long."""

        def come() -> bool:
            return all(self._seen.count(words) >= times for words, times in wanted.items())

        with self._more:
            self._more.wait_for(lambda: come() or self._ended, _PATIENCE)
            return come()

    def close(self) -> None:
        """The daemon has ended."""
        self._thread.join()
        self._output.close()

    def _read(self) -> None:
        while more := os.read(self._output.fileno(), 65_536):
            with self._more:
                self._seen += more
                self._more.notify_all()
        with self._more:
            self._ended = True
            self._more.notify_all()


def _program() -> str:
    pcscd = shutil.which("pcscd", path=f"{os.environ.get('PATH', os.defpath)}:{_SBIN}")
    if pcscd is None:
        raise ProviderUnavailableError("pcscd is not installed", hint="apt install pcscd")
    if not _DRIVER.exists():
        raise ProviderUnavailableError(
            "the vpcd driver is not installed", hint="apt install vsmartcard-vpcd"
        )
    return pcscd


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait()
