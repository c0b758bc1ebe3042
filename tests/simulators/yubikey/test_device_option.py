"""``--device SERIAL``: nothing is erased unless somebody types that very number at a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from mesh_hsm.testing.virtual_yubikey.rig import YubiKeyRig

ROOT = Path(__file__).parents[3]
ONE_TEST = "tests/conformance/test_yubikey_device.py::TestDevice::test_asking_needs_no_secret"


def kit(rig: YubiKeyRig, serial: int, typed: str | None) -> tuple[int, str]:
    """Run one test of the kit on a terminal; its exit code and what was shown."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", ONE_TEST]
    command += ["--device", str(serial)]
    if typed is None:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | rig.environment,
            capture_output=True,
            text=True,
            start_new_session=True,
        )
        return done.returncode, done.stdout
    pid, screen = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execve(sys.executable, command, os.environ | rig.environment)
    shown = b""
    try:
        while chunk := os.read(screen, 4096):
            shown += chunk
            if shown.endswith(b"to go on: "):
                os.write(screen, typed.encode() + b"\n")
    except OSError:  # the other side of a terminal closed
        pass
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode()


@pytest.mark.parametrize("typed", ["30000002", None])
def test_nothing_is_erased_without_the_number(
    virtual_yubikey: YubiKeyRig, typed: str | None
) -> None:
    before = virtual_yubikey.device.save()
    code, shown = kit(virtual_yubikey, virtual_yubikey.first.serial, typed)
    assert code == 1
    assert "nothing was erased" in shown
    assert virtual_yubikey.device.save() == before


def test_what_will_be_lost_is_said_and_the_number_lets_it(virtual_yubikey: YubiKeyRig) -> None:
    before = virtual_yubikey.device.save()
    serial = virtual_yubikey.first.serial
    code, shown = kit(virtual_yubikey, serial, str(serial))
    assert f"ERASES the PIV application of YubiKey {serial}" in shown
    assert code == 0, shown
    assert virtual_yubikey.device.save() != before


def test_another_device_is_not_touched(virtual_yubikey: YubiKeyRig) -> None:
    before = virtual_yubikey.device.save()
    code, shown = kit(virtual_yubikey, 30_000_099, "30000099")
    assert code == 1
    assert "no YubiKey with serial number 30000099 is plugged in" in shown
    assert virtual_yubikey.device.save() == before
