"""Tokens of other modules than SoftHSM: NSS through p11-kit's proxy, a TPM through tpm2-pkcs11.

Open this file to see how the provider is put before a module that speaks another dialect. Debian:
libnss3, libnss3-tools, p11-kit; libtpm2-pkcs11-1, swtpm, tpm2-abrmd, libtss2-tcti-tabrmd0, dbus.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from subprocess import Popen
from types import TracebackType
from typing import Self, TypeVar

import pytest

from mesh_hsm.errors import DeviceError, ProviderUnavailableError
from mesh_hsm.testing import softhsm_maker
from mesh_hsm.testing.swtpm import Swtpm

LIBRARY_FOLDERS = (
    "/usr/lib/*/pkcs11",
    "/usr/lib/*",
    "/usr/lib64/pkcs11",
    "/usr/lib64",
    "/usr/lib",
    "/usr/local/lib",
)
PATIENCE = 10.0  # seconds for tpm2-abrmd to start; it takes a few milliseconds


class Rig:
    """A token with a PIN: ``uri``, ``pin``, and the ``environment`` that leads to it alone.

    A context manager; whoever uses the module in this process ends it (C_Finalize) before the rig.
    """

    uri: str
    environment: dict[str, str]

    def __init__(self) -> None:
        # Not in pytest's folder, where the last three runs stay: nothing of a token is left behind.
        self.folder = Path(tempfile.mkdtemp(prefix="mesh-hsm-pkcs11-"))
        self.pin = f"{secrets.randbelow(10**8):08}"
        self._ends = ExitStack()
        self._ends.callback(shutil.rmtree, self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._ends.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ends.close()

    def start(self) -> None:
        """Make the token."""
        raise NotImplementedError


class Nss(Rig):
    """NSS's own database. It must be told where that is (x-init-reserved), which p11-kit does.

    p11-kit reads a user's configuration for ordinary users only, and once in a process. So there is
    no such rig for root, and one that serves many tests is made ``anew`` instead of another.
    """

    uri = (
        "pkcs11:token=NSS%20Certificate%20DB;manufacturer=Mozilla%20Foundation;model=NSS%203;"
        "serial=0000000000000000"
    )

    def __init__(self) -> None:
        proxy = _library("p11-kit-proxy.so", "p11-kit-modules p11-kit")
        softoken = _library("libsoftokn3.so", "libnss3")
        _need("certutil", "libnss3-tools")
        super().__init__()
        self._softoken = softoken
        self._database = self.folder / "database"
        self.environment = {
            "MESH_HSM_PKCS11_MODULE": str(proxy),
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            # Else 10,000 rounds for each private object that is written or read.
            "NSS_MAX_MP_PBE_ITERATION_COUNT": "1",
        }

    def start(self) -> None:
        """Make the database, and the configuration of p11-kit that names it and nothing else."""
        modules = self.folder / "config" / "pkcs11" / "modules"
        modules.mkdir(parents=True)
        (modules.parent / "pkcs11.conf").write_text("user-config: only\n")
        (modules / "nss.module").write_text(
            f"module: {self._softoken}\n"
            f"x-init-reserved: configdir='sql:{self._database}' certPrefix='' keyPrefix='' "
            "secmod='secmod.db' flags=\n"
        )
        self.anew()

    def anew(self) -> None:
        """Empty the database, while no process uses it."""
        shutil.rmtree(self._database, ignore_errors=True)
        self._database.mkdir()
        password = self.folder / "password"
        password.write_text(f"{self.pin}\n")
        try:
            _run(
                ["certutil", "-N", "-d", f"sql:{self._database}", "-f", str(password)],
                environment=self.environment,
            )
        finally:
            password.unlink()


class Tpm2(Rig):
    """A software TPM behind tpm2-pkcs11, which unloads no key: a resource manager must do it.

    The module reaches that through a program of its own. GLib, which would speak D-Bus in this
    process, ends the process when the bus ends.
    """

    uri = "pkcs11:token=rig;manufacturer=IBM;model=SW%20%20%20TPM;serial=0000000000000000"
    tries = 5
    recovery = 1000

    def __init__(self) -> None:
        module = _library("libtpm2_pkcs11.so", "libtpm2-pkcs11-1")
        for program, package in (
            ("tpm2-abrmd", "tpm2-abrmd"),
            ("tpm2_send", "tpm2-tools"),
            ("dbus-daemon", "dbus"),
        ):
            _need(program, package)
        super().__init__()
        self.swtpm = self._ends.enter_context(Swtpm(tries=self.tries, recovery=self.recovery))
        self.module = module
        self.environment = {
            "MESH_HSM_PKCS11_MODULE": str(module),
            "DBUS_SESSION_BUS_ADDRESS": f"unix:path={self.folder / 'bus'}",
            "TPM2_PKCS11_STORE": str(self.folder / "store"),
            "TPM2_PKCS11_TCTI": "cmd:tpm2_send -T tabrmd:bus_type=session",
            "TSS2_LOG": "all+none",
        }

    def start(self) -> None:
        """Start a bus and the resource manager on it, and make the token."""
        self._start_bus()
        self._start_manager()
        (self.folder / "store").mkdir()
        pins = {"pin": self.pin, "so_pin": f"{secrets.randbelow(10**8):08}"}
        _run(
            [sys.executable, "-I", softhsm_maker.__file__],
            environment=self.environment,
            said=json.dumps({"module": str(self.module), "label": "rig", **pins}),
        )

    def _start_bus(self) -> None:
        address = self.environment["DBUS_SESSION_BUS_ADDRESS"]
        bus = self._program(
            ["dbus-daemon", "--session", "--nofork", "--print-address", f"--address={address}"],
            stdout=subprocess.PIPE,
        )
        assert bus.stdout is not None
        if not bus.stdout.readline():
            raise DeviceError("dbus-daemon ended as soon as it was started")

    def _start_manager(self) -> None:
        tcti = f"--tcti={self.swtpm.tcti}"
        manager = self._program(["tpm2-abrmd", "--session", "--allow-root", tcti])
        ask = ["dbus-send", "--session", "--print-reply", "--dest=org.freedesktop.DBus", "/"]
        ask += ["org.freedesktop.DBus.NameHasOwner", "string:com.intel.tss2.Tabrmd"]
        deadline = time.monotonic() + PATIENCE
        while "true" not in _run(ask, environment=self.environment):
            if manager.poll() is not None:
                raise DeviceError("tpm2-abrmd ended as soon as it was started")
            if time.monotonic() > deadline:
                raise DeviceError("tpm2-abrmd did not come onto its bus")

    def _program(self, command: list[str], stdout: int = subprocess.DEVNULL) -> Popen[bytes]:
        program = Popen(
            command,
            stdout=stdout,
            stderr=subprocess.DEVNULL,
            env=os.environ | self.environment,
        )
        self._ends.enter_context(program)
        self._ends.callback(program.terminate)
        return program


R = TypeVar("R", bound=Rig)


def skipped_if_absent(rig: type[R]) -> R:
    """The rig, not started; or the test is skipped, since something is not installed."""
    try:
        return rig()
    except ProviderUnavailableError as error:
        pytest.skip(f"{error} ({error.hint})")


def _library(name: str, packages: str) -> Path:
    for folder in LIBRARY_FOLDERS:
        for path in sorted(Path("/").glob(f"{folder[1:]}/{name}")):
            return path.resolve()
    raise ProviderUnavailableError(f"{name} is not installed", hint=f"apt install {packages}")


def _need(program: str, package: str) -> None:
    if shutil.which(program) is None:
        raise ProviderUnavailableError(f"{program} is not installed", hint=f"apt install {package}")


def _run(command: list[str], *, environment: dict[str, str], said: str = "") -> str:
    done = subprocess.run(
        command,
        input=said,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise DeviceError(f"{command[0]} failed: {done.stdout!r} {done.stderr[-300:]!r}")
    return done.stdout
