"""``mesh-hsm testing yubikey``: what COMMAND finds, what comes back, and that nothing stays."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.cli.conftest import Home

pytest.importorskip("ykman", reason="yubikey-manager is not installed")

RUNNER = ("testing", "yubikey")
LOOK = """
import json, os
from ykman.device import list_all_devices
from yubikit.core import TRANSPORT
from yubikit.core.smartcard import SmartCardConnection
from yubikit.piv import KEY_TYPE, PIN_POLICY, SLOT, TOUCH_POLICY, PivSession
from ykman.piv import get_pivman_protected_data
def number(serial):
    return next((s for s in ("", "_2", "_3")
        if os.environ.get(f"MESH_HSM_TEST_TOKEN{s}") == f"yubikey:serial={serial}"), None)
seen = []
for device, info in list_all_devices():
    suffix = number(info.serial)
    with device.open_connection(SmartCardConnection) as connection:
        piv = PivSession(connection)
        piv.verify_pin(os.environ[f"MESH_HSM_TEST_PIN{suffix}"])
        piv.change_puk(os.environ[f"MESH_HSM_TEST_PUK{suffix}"], "00000000")
        piv.authenticate(get_pivman_protected_data(piv).key)
        key = piv.generate_key(
            SLOT.CARD_AUTH, KEY_TYPE.ECCP256, PIN_POLICY.NEVER, TOUCH_POLICY.ALWAYS)
        try:
            piv.calculate_secret(SLOT.CARD_AUTH, key)
            touched = True
        except Exception as error:
            touched = str(error)
    seen.append([info.serial, suffix, str(info.version), touched])
print(json.dumps({"seen": seen, "environment": dict(os.environ)}))
"""


def look(home: Home, *options: str, **env: str) -> dict[str, Any]:
    command = (*RUNNER, *options, "--", sys.executable, "-c", LOOK)
    seen: dict[str, Any] = json.loads(home.ok(*command, env=env).out)
    return seen


def test_the_command_finds_a_yubikey_that_its_secrets_open(home: Home) -> None:
    seen = look(home, PCSCLITE_CSOCK_NAME="/the/users/own")
    assert seen["seen"] == [[30000001, "", "5.7.1", True]]
    environment = seen["environment"]
    folder = Path(environment["MESH_HSM_HOME"]).parent
    assert Path(environment["XDG_DATA_HOME"]).is_relative_to(folder)
    assert environment["PATH"] == f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    assert not folder.exists()
    assert not Path(environment["PCSCLITE_CSOCK_NAME"]).parent.exists()


def test_several_of_older_firmware_that_nobody_touches(home: Home) -> None:
    options = ("--count", "3", "--serial", "30000040", "--firmware", "5.4", "--touch", "never")
    seen = look(home, *options)["seen"]
    assert [each[:3] for each in seen] == [
        [30000040, "", "5.4.3"],
        [30000041, "_2", "5.4.3"],
        [30000042, "_3", "5.4.3"],
    ]
    assert all("6982" in each[3] for each in seen)


def test_json_leaves_standard_output_to_one_object(home: Home) -> None:
    done = home.run(*RUNNER, "--json", "--count", "2", "--", "sh", "-c", "echo hello; exit 3")
    assert done.code == done.json["exit_code"] == 3
    assert done.json["tokens"] == ["yubikey:serial=30000001", "yubikey:serial=30000002"]
    notice = json.loads(done.err.splitlines()[0])["notice"]
    assert "SIMULATOR" in notice
    assert done.err.splitlines()[1:] == ["hello"]


def test_it_says_on_stderr_alone_that_it_is_a_simulator(home: Home) -> None:
    done = home.ok(*RUNNER, "echo", "--json", "-h")
    assert done.out == "--json -h\n"
    assert done.err.startswith("SIMULATOR: ")


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--serial", "12345678", "true"), 6, "12345678 is no serial number of a simulator"),
        (("--count", "17", "true"), 2, "1<=x<=16"),
        (("--firmware", "5.8", "true"), 2, "'5.8' is not one of"),
        ((), 2, "Missing argument 'COMMAND...'"),
        (("/nowhere/program",), 4, "/nowhere/program cannot be run"),
    ],
    ids=lambda x: str(x),
)
def test_what_cannot_be_is_said_and_nothing_stays(
    home: Home, options: tuple[str, ...], code: int, said: str
) -> None:
    with TemporaryDirectory(prefix="y-") as folder:  # pytest's are too long for a socket
        done = home.run(*RUNNER, *options, env={"TMPDIR": folder})
        assert list(Path(folder).iterdir()) == []
    assert done.code == code
    assert said in done.err


def test_a_temporary_folder_that_is_too_long_is_said(home: Home) -> None:
    folder = home.folder / ("x" * 100)
    folder.mkdir()
    done = home.run(*RUNNER, "true", env={"TMPDIR": str(folder)})
    assert done.code == 12
    assert "AF_UNIX path too long" in done.err
    assert "hint: set TMPDIR to a shorter path" in done.err
    assert list(folder.iterdir()) == []
