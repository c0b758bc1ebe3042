"""A software TPM for tests: started, reset, exchanged and listened to at will.

Open this file to write a test or a benchmark that needs a TPM 2.0. Needs the programs ``swtpm``
and, for an EK certificate, ``swtpm_setup`` with ``swtpm_localca`` (Debian: swtpm, swtpm-tools).
"""

from __future__ import annotations

import hashlib
import shutil
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from mesh_hsm.errors import DeviceError, ProviderUnavailableError
from mesh_hsm.testing.tpm_wire import Command, Tap, command, send

_ALREADY_STARTED = 0x100
_CLEAR = struct.pack(">H", 0)
_LOCKOUT, _OWNER = 0x4000000A, 0x40000001
_CONTROL_INIT = struct.pack(">II", 2, 0)  # CMD_INIT without flags
_SHA256 = 0x000B
_PATIENCE = 10.0  # seconds for swtpm to open its sockets; it takes a few milliseconds


class Swtpm:
    """One software TPM in a folder of its own. A context manager; ``tcti`` is how to reach it.

    ``tries``, ``recovery`` and ``lockout_recovery`` (seconds) are its dictionary-attack
    parameters. With ``ek_certificate`` it is manufactured with certificates of a local authority,
    whose certificates are then in ``authority``.
    """

    def __init__(
        self,
        *,
        ek_certificate: bool = False,
        tries: int = 5,
        recovery: int = 1000,
        lockout_recovery: int = 1000,
    ) -> None:
        if shutil.which("swtpm") is None:
            raise ProviderUnavailableError("swtpm is not installed", hint="apt install swtpm")
        # Socket paths end at 107 octets, so pytest's long folders will not do.
        self.folder = Path(tempfile.mkdtemp(prefix="mesh-hsm-swtpm-"))
        self.socket = self.folder / "tpm"
        self.authority = self.folder / "authority"
        self._ek_certificate = ek_certificate
        self._dictionary_attack = (tries, recovery, lockout_recovery)
        self._process: subprocess.Popen[bytes] | None = None
        self._number = 0
        try:
            self._new_state()
        except BaseException:
            self.remove()
            raise

    # -- life ------------------------------------------------------------------------------------

    @property
    def tcti(self) -> str:
        """The TCTI string that reaches it."""
        return f"swtpm:path={self.socket}"

    @property
    def state(self) -> Path:
        """The folder of its present state: what makes it this TPM and no other."""
        return self.folder / f"state{self._number}"

    def start(self) -> None:
        """Start the program and the TPM. The PCRs are as after a boot."""
        for path in (self.socket, self._control):
            path.unlink(missing_ok=True)
        self._process = subprocess.Popen(  # noqa: S603  a fixed program, no shell
            [  # noqa: S607  found on PATH, as its users do
                "swtpm",
                "socket",
                "--tpm2",
                *("--tpmstate", f"dir={self.state}"),
                *("--server", f"type=unixio,path={self.socket}"),
                *("--ctrl", f"type=unixio,path={self._control}"),
                *("--flags", "not-need-init"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._wait()
        self._startup()

    def stop(self, *, orderly: bool = True) -> None:
        """End the program; ``orderly=False`` is a power loss (no TPM2_Shutdown)."""
        if self._process is None:
            return
        if orderly:
            send(self.socket, command(Command.SHUTDOWN, body=_CLEAR))
        self._process.kill()
        self._process.wait()
        self._process = None

    def restart(self, *, orderly: bool = True) -> None:
        """Power off and on: sessions, transient objects and PCR values are gone."""
        self.stop(orderly=orderly)
        self.start()

    def reset(self) -> None:
        """TPM reset under a running connection, without TPM2_Shutdown."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
            control.connect(str(self._control))
            control.sendall(_CONTROL_INIT)
            if control.recv(4) != bytes(4):
                raise DeviceError("swtpm refused to reset")
        self._startup()

    def exchange_state(self) -> None:
        """Another TPM answers from now on, as if the mainboard had been changed."""
        self.stop()
        self._number += 1
        self._new_state()
        self.start()
        self.set_dictionary_attack(*self._dictionary_attack)

    def put_back(self, number: int = 0) -> None:
        """The TPM of an earlier state answers again; 0 is the first one."""
        self.stop()
        self._number = number
        self.start()

    def __enter__(self) -> Self:
        try:
            self.start()
            self.set_dictionary_attack(*self._dictionary_attack)
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.remove()

    def remove(self) -> None:
        """End the program and delete the state."""
        self.stop(orderly=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- what a test does to it ------------------------------------------------------------------

    def set_dictionary_attack(self, tries: int, recovery: int, lockout_recovery: int) -> None:
        """TPM2_DictionaryAttackParameters with the empty lockoutAuth."""
        body = struct.pack(">III", tries, recovery, lockout_recovery)
        send(self.socket, command(Command.DICTIONARY_ATTACK_PARAMETERS, (_LOCKOUT,), body, True))

    def end_lockout(self) -> None:
        """TPM2_DictionaryAttackLockReset with the empty lockoutAuth."""
        send(self.socket, command(Command.DICTIONARY_ATTACK_LOCK_RESET, (_LOCKOUT,), b"", True))

    def set_owner_password(self, password: bytes) -> None:
        """TPM2_HierarchyChangeAuth of an owner hierarchy that has none yet."""
        body = struct.pack(">H", len(password)) + password
        send(self.socket, command(Command.HIERARCHY_CHANGE_AUTH, (_OWNER,), body, True))

    def set_lockout_password(self, password: bytes) -> None:
        """TPM2_HierarchyChangeAuth of a lockoutAuth that is still empty."""
        body = struct.pack(">H", len(password)) + password
        send(self.socket, command(Command.HIERARCHY_CHANGE_AUTH, (_LOCKOUT,), body, True))

    def extend_pcr(self, index: int, event: bytes = b"another firmware") -> None:
        """TPM2_PCR_Extend of the SHA-256 bank."""
        body = struct.pack(">IH", 1, _SHA256) + hashlib.sha256(event).digest()
        send(self.socket, command(Command.PCR_EXTEND, (index,), body, True))

    def handles(self) -> list[int]:
        """Every loaded object and session in it, whoever loaded it."""
        found: list[int] = []
        for first in (0x80000000, 0x02000000, 0x03000000):
            body = struct.pack(">III", 1, first, 64)
            answer = send(self.socket, command(Command.GET_CAPABILITY, body=body))
            (count,) = struct.unpack_from(">I", answer, 5)
            found += struct.unpack_from(f">{count}I", answer, 9)
        return found

    @contextmanager
    def tapped(self) -> Iterator[Tap]:
        """A tap on its wire; reach the TPM by ``tap_tcti`` meanwhile."""
        path = self.folder / "tap"
        control = path.with_name("tap.ctrl")
        control.symlink_to(self._control)
        try:
            with Tap(path, self.socket) as tap:
                yield tap
        finally:
            control.unlink()

    @property
    def tap_tcti(self) -> str:
        """The TCTI string that leads through the tap."""
        return f"swtpm:path={self.folder / 'tap'}"

    # -- inside ----------------------------------------------------------------------------------

    @property
    def _control(self) -> Path:
        return self.socket.with_name("tpm.ctrl")  # where the swtpm TCTI looks for it

    def _startup(self) -> None:
        send(self.socket, command(Command.STARTUP, body=_CLEAR), also=(_ALREADY_STARTED,))

    def _wait(self) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not (_listens(self.socket) and _listens(self._control)):
            if self._process is None or self._process.poll() is not None:
                raise DeviceError("swtpm ended as soon as it was started")
            if time.monotonic() > deadline:
                raise DeviceError("swtpm did not open its sockets")
            time.sleep(0.002)

    def _new_state(self) -> None:
        self.state.mkdir()
        if self._ek_certificate:
            self._manufacture()

    def _manufacture(self) -> None:
        self.authority.mkdir(exist_ok=True)
        configuration = self.folder / "localca.conf"
        configuration.write_text(
            f"statedir = {self.authority}\n"
            f"signingkey = {self.authority}/signing-key.pem\n"
            f"issuercert = {self.authority}/issuer-cert.pem\n"
            f"certserial = {self.authority}/serial\n"
        )
        options = self.folder / "localca.options"
        options.write_text(
            "--platform-manufacturer mesh-hsm\n--platform-version 1\n--platform-model rig\n"
        )
        setup = self.folder / "setup.conf"
        setup.write_text(
            f"create_certs_tool = {shutil.which('swtpm_localca')}\n"
            f"create_certs_tool_config = {configuration}\n"
            f"create_certs_tool_options = {options}\n"
        )
        made = subprocess.run(  # noqa: S603  a fixed program, no shell
            [
                *("swtpm_setup", "--tpm2", "--create-ek-cert", "--lock-nvram"),
                *("--tpmstate", f"dir://{self.state}", "--config", str(setup)),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            raise DeviceError(f"swtpm_setup failed: {made.stdout[-300:]!r}")


def _listens(path: Path) -> bool:
    # A socket's file is there a moment before anybody listens at it.
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        return connection.connect_ex(str(path)) == 0
