"""The pytest plugin in a project of somebody else's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mesh_hsm.errors import ProviderUnavailableError
from mesh_hsm.testing.softhsm import find_module
from mesh_hsm.testing.virtual_yubikey import pcsc_process

SWTPM = """
def test_it(swtpm):
    assert swtpm.tcti.startswith("swtpm:")
    assert swtpm.handles() == []
"""
SOFTHSM = """
import os

def test_it(softhsm_token):
    assert softhsm_token.uri.startswith("pkcs11:token=test;")
    assert os.environ["SOFTHSM2_CONF"] == str(softhsm_token.conf)
    assert os.environ["MESH_HSM_PKCS11_MODULE"] == str(softhsm_token.module)
"""
YUBIKEY = """
import os
from ykman.device import list_all_devices

def test_it(virtual_yubikey):
    assert virtual_yubikey.uri == "yubikey:serial=30000001"
    assert os.environ.items() >= virtual_yubikey.environment.items()
    assert [info.serial for _, info in list_all_devices()] == [30000001]

def test_a_new_one(factory_yubikey):
    assert factory_yubikey.pin == "123456"
    factory_yubikey.add(30000009)
    assert [info.serial for _, info in list_all_devices()] == [30000001, 30000009]
"""
NOWHERE = {"PATH": "/nowhere", "MESH_HSM_SOFTHSM": "/nowhere", "HIDDEN": "smartcard"}
OPTION = "--require-simulator"
SIMULATORS = [
    ("swtpm", SWTPM, "swtpm"),
    ("softhsm", SOFTHSM, "SoftHSM"),
    ("yubikey", YUBIKEY.split("def test_a_new")[0].replace("from ykman", "# "), "yubikey-manager"),
]


def run(folder: Path, test: str, *options: str, **env: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_theirs.py").write_text(test)
    (folder / "pytest.ini").write_text("[pytest]\n")
    code = (
        f"import os, sys; sys.path[:0] = {sys.path!r}\n"
        "sys.modules.update(dict.fromkeys(os.environ.get('HIDDEN', '').split()))\n"
        "from importlib.metadata import entry_points\n"
        "import pytest\n"
        "known = {point.value for point in entry_points(group='pytest11')}\n"
        "name = 'mesh_hsm.testing.plugin'\n"
        "sys.exit(pytest.main(sys.argv[1:] + ([] if name in known else ['-p', name])))\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code, "-q", "-rs", "-p", "no:cacheprovider", *options],
        cwd=folder,
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(("name", "test", "program"), SIMULATORS)
def test_an_absent_simulator_skips_and_says_so(
    tmp_path: Path, name: str, test: str, program: str
) -> None:
    others = [option for other, *_ in SIMULATORS if other != name for option in (OPTION, other)]
    done = run(tmp_path, test, *others, **NOWHERE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 skipped" in done.stdout
    assert f"{program} is not installed" in done.stdout


@pytest.mark.parametrize(("name", "test", "program"), SIMULATORS)
def test_a_required_simulator_that_is_absent_fails(
    tmp_path: Path, name: str, test: str, program: str
) -> None:
    done = run(tmp_path, test, OPTION, name, **NOWHERE)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"a required simulator is absent: {program} is not installed" in done.stdout


@pytest.mark.skipif(shutil.which("swtpm") is None, reason="swtpm is not installed")
def test_a_software_tpm_is_started_for_the_test(tmp_path: Path) -> None:
    done = run(tmp_path, SWTPM)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_a_throw_away_hsm_is_made_for_the_test(tmp_path: Path) -> None:
    try:
        find_module()
    except ProviderUnavailableError as error:
        pytest.skip(str(error))
    done = run(tmp_path, SOFTHSM)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_a_yubikey_is_plugged_in_for_each_test(tmp_path: Path) -> None:
    pytest.importorskip("ykman", reason="yubikey-manager is not installed")
    done = run(tmp_path, YUBIKEY)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_libpcsclite_is_said_to_be_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pcsc_process, "_LIBRARY", "libnowhere.so.1")
    with pytest.raises(ProviderUnavailableError, match="libpcsclite is not installed"):
        pcsc_process.in_process.__wrapped__()
