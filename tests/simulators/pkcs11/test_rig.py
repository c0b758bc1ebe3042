"""The SoftHSM rig and its fixture, through bare python-pkcs11: what they say is so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pkcs11
import pytest
from pkcs11.exceptions import PinIncorrect

from mesh_hsm.errors import DeviceError, FormatError, ProviderUnavailableError
from mesh_hsm.testing import softhsm_maker
from mesh_hsm.testing.softhsm import Softhsm, find_module, look_again
from mesh_hsm.uri import Uri


@pytest.fixture(autouse=True)
def _bare(softhsm_token: Softhsm) -> Iterator[None]:
    """Skips where there is no SoftHSM; leaves it to the next test to initialise it, as it likes."""
    yield
    pkcs11.lib(str(softhsm_token.module)).finalize()


def labels(rig: Softhsm) -> set[str]:
    return {
        token.label.rstrip("\0 ")
        for token in pkcs11.lib(str(rig.module)).get_tokens()
        if token.flags & pkcs11.TokenFlag.TOKEN_INITIALIZED
    }


def seen_by_a_new_process(rig: Softhsm) -> set[str]:
    code = (
        "import os, json, pkcs11\n"
        "tokens = pkcs11.lib(os.environ['MESH_HSM_PKCS11_MODULE']).get_tokens()\n"
        "print(json.dumps([token.label.rstrip('\\0 ') for token in tokens]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | rig.environment,
        capture_output=True,
        check=True,
    )
    return set(json.loads(done.stdout)) - {""}


def run_pytest(folder: Path, test: str) -> subprocess.CompletedProcess[str]:
    """Run tests of somebody else's in a process of their own; ``folder`` is its TMPDIR, too."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_theirs.py").write_text(textwrap.dedent(test))
    environment = {k: v for k, v in os.environ.items() if k != "SOFTHSM2_CONF"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=folder,
        env=environment | {"TMPDIR": str(folder)},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("label", ["first", "second", "third"])
def test_each_test_has_a_token_of_its_own(softhsm_token: Softhsm, label: str) -> None:
    assert labels(softhsm_token) == {"test"}
    token = pkcs11.lib(str(softhsm_token.module)).get_token(token_label="test")
    assert token.serial.decode() == softhsm_token.serial
    session = token.open(rw=True, user_pin=softhsm_token.pin)  # and is not closed
    assert list(session.get_objects()) == []
    session.generate_key(pkcs11.KeyType.AES, 128, label=label, store=True)


def test_a_test_that_fails_leaves_nothing_to_the_next(tmp_path: Path) -> None:
    done = run_pytest(
        tmp_path,
        """
        import os, pkcs11
        from mesh_hsm.testing.softhsm import find_module

        def use(rig, monkeypatch):
            token = pkcs11.lib(str(rig.module)).get_token(token_label="test")
            assert token.serial.decode() == rig.serial
            token.open(rw=True, user_pin=rig.pin)
            monkeypatch.setenv("SOFTHSM2_CONF", "/nowhere")

        def test_fails(softhsm_token, monkeypatch):
            use(softhsm_token, monkeypatch)
            raise ValueError

        def test_passes(softhsm_token, monkeypatch):
            use(softhsm_token, monkeypatch)

        def test_without():
            assert "SOFTHSM2_CONF" not in os.environ
            found = pkcs11.lib(str(find_module())).get_tokens()
            assert not any(token.flags & pkcs11.TokenFlag.TOKEN_INITIALIZED for token in found)
        """,
    )
    assert "1 failed, 2 passed in" in done.stdout, done.stdout + done.stderr
    assert list(tmp_path.glob("mesh-hsm-softhsm-*")) == []


def test_provider_and_bare_binding_take_turns_in_one_process(tmp_path: Path) -> None:
    done = run_pytest(
        tmp_path,
        """
        import pkcs11
        import pytest
        from mesh_hsm_pkcs11 import Pkcs11Provider

        KEPT = []  # as a program under test may keep it

        @pytest.mark.parametrize("turn", range(3))
        def test_provider(softhsm_token, tmp_path, turn):
            found = [info.serial for info in Pkcs11Provider(tmp_path).tokens() if info.initialised]
            assert found == [softhsm_token.serial]

        @pytest.mark.parametrize("turn", range(3))
        def test_binding(softhsm_token, turn):
            if not KEPT:
                KEPT.append(pkcs11.lib(str(softhsm_token.module)))
            token = KEPT[0].get_token(token_label="test")
            assert token.serial.decode() == softhsm_token.serial

        def test_provider_again(softhsm_token, tmp_path):
            test_provider(softhsm_token, tmp_path, 3)
            test_binding(softhsm_token, 3)
        """,
    )
    assert "7 passed" in done.stdout, done.stdout + done.stderr


def test_both_pins_open_it_and_others_do_not(softhsm_token: Softhsm) -> None:
    token = pkcs11.lib(str(softhsm_token.module)).get_token(token_label="test")
    with token.open(user_pin=softhsm_token.pin):
        pass
    with token.open(rw=True, so_pin=softhsm_token.so_pin):
        pass
    with pytest.raises(PinIncorrect):
        token.open(user_pin=softhsm_token.so_pin)


def test_the_uri_names_the_token_and_holds_no_pin(softhsm_token: Softhsm) -> None:
    uri = Uri.parse(softhsm_token.uri)
    assert str(uri) == softhsm_token.uri
    assert uri.attributes == (
        ("token", "test"),
        ("manufacturer", "SoftHSM project"),
        ("model", "SoftHSM v2"),
        ("serial", softhsm_token.serial),
    )
    shown = softhsm_token.uri + repr(softhsm_token) + repr(softhsm_token.token)
    assert softhsm_token.pin not in shown
    assert softhsm_token.so_pin not in shown


def test_the_folder_is_closed_to_others_and_is_removed() -> None:
    with Softhsm() as rig:
        folders = [rig.folder, *(path for path in rig.folder.rglob("*") if path.is_dir())]
        assert len(folders) == 3
        assert {oct(folder.stat().st_mode & 0o777) for folder in folders} == {"0o700"}
    assert not rig.folder.exists()


def test_pins_are_never_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    run = subprocess.run

    def watched(arguments: list[str], **settings: object) -> object:
        seen.append(arguments)
        return run(arguments, **settings)  # type: ignore[call-overload]  # passed on as they are

    monkeypatch.setattr(subprocess, "run", watched)
    with Softhsm() as rig:
        assert len(seen) == 1
        assert not any(pin in word for word in seen[0] for pin in (rig.pin, rig.so_pin))


def test_more_tokens_are_seen_by_new_processes_and_by_this_one_once_it_looks_again(
    softhsm_token: Softhsm,
) -> None:
    assert labels(softhsm_token) == {"test"}
    other = softhsm_token.add_token("näxt; one")
    assert other.pin != softhsm_token.pin
    assert other.serial != softhsm_token.serial
    assert seen_by_a_new_process(softhsm_token) == {"test", "näxt; one"}
    assert labels(softhsm_token) == {"test"}
    look_again(softhsm_token.module)
    assert labels(softhsm_token) == {"test", "näxt; one"}
    softhsm_token.clear()
    assert seen_by_a_new_process(softhsm_token) == set()


def test_two_softhsms_do_not_know_each_other() -> None:
    with Softhsm("one") as one, Softhsm("two") as two:
        assert seen_by_a_new_process(one) == {"one"}
        assert seen_by_a_new_process(two) == {"two"}


def test_its_own_settings_are_heard_and_forgotten(softhsm_token: Softhsm) -> None:
    def token() -> pkcs11.Token:
        return pkcs11.lib(str(softhsm_token.module)).get_token(token_label="test")

    assert pkcs11.Mechanism.ECDH1_DERIVE in token().slot.get_mechanisms()
    with Softhsm(removable=True, mechanisms=["CKM_ECDSA", "CKM_SHA256"]) as rig:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in rig.environment.items():
                patch.setenv(name, value)
            look_again(rig.module)
        assert token().slot.flags & pkcs11.SlotFlag.REMOVABLE_DEVICE
        assert len(token().slot.get_mechanisms()) == 2
    look_again(softhsm_token.module)
    assert not token().slot.flags & pkcs11.SlotFlag.REMOVABLE_DEVICE
    assert pkcs11.Mechanism.ECDH1_DERIVE in token().slot.get_mechanisms()


def test_looking_again_loads_nothing_and_initialises_nothing() -> None:
    code = (
        "import ctypes\n"
        "from mesh_hsm.testing.softhsm import Softhsm, look_again\n"
        "with Softhsm() as rig:\n"
        "    look_again(rig.module)\n"
        "    assert str(rig.module.resolve()) not in open('/proc/self/maps').read()\n"
        "    library = ctypes.CDLL(str(rig.module))\n"
        "    look_again(rig.module)\n"
        "    assert library.C_Finalize(None) == 0x190, 'it was initialised'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("label", ["", "x" * 33, "ä" * 17], ids=len)
def test_a_label_that_does_not_fit_is_refused(label: str) -> None:
    with pytest.raises(FormatError, match="1 to 32 octets"):
        Softhsm(label)


@pytest.mark.parametrize("named", ["", "/nowhere/libsofthsm2.so", "libsofthsm2.so"])
def test_an_absent_softhsm_is_said(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_HSM_SOFTHSM", named)
    with pytest.raises(ProviderUnavailableError, match="SoftHSM is not installed") as caught:
        Softhsm()
    assert caught.value.hint == "apt install softhsm2"


def test_what_is_no_module_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_HSM_SOFTHSM", __file__)
    with pytest.raises(DeviceError, match="cannot be used"):
        Softhsm()


def test_a_refusal_names_the_call_and_no_pin() -> None:
    asked = {"module": str(find_module()), "label": "x", "pin": "1", "so_pin": "2718-2818"}
    with Softhsm() as rig:
        done = subprocess.run(
            [sys.executable, "-I", softhsm_maker.__file__],
            input=json.dumps(asked),
            env=os.environ | rig.environment,
            capture_output=True,
            text=True,
        )
    assert json.loads(done.stdout) == {"call": "C_InitPIN", "code": 0xA2}  # CKR_PIN_LEN_RANGE
    assert done.returncode == 1


def test_what_softhsm_refuses_is_said() -> None:
    with Softhsm() as rig:
        rig.clear()
        (rig.folder / "tokens").rmdir()
        with pytest.raises(DeviceError, match=r"refused C_Initialize \(0x5\)"):
            rig.add_token("more")
