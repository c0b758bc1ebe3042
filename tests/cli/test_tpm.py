"""The command line over a TPM: PINs and their tries, other TPMs, PCRs, what is said of it all."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mesh_hsm.errors import DeviceError
from mesh_hsm.testing.swtpm import Swtpm
from mesh_hsm_cli import main
from mesh_hsm_tpm2.token import Tpm2Token
from tests.cli.conftest import PASSPHRASE, PIN, Home, World, connect, on_terminal

WRONG = b"3141-5926"
RIGHT = {"pin": PIN}


@pytest.fixture
def tpm() -> Iterator[Swtpm]:
    """A TPM that locks after three wrong PINs."""
    if shutil.which("swtpm") is None:
        pytest.skip("swtpm is not installed (apt install swtpm)")
    with Swtpm(tries=3, recovery=600, lockout_recovery=1200) as rig:
        yield rig


@pytest.fixture
def laptop(tpm: Swtpm, tmp_path: Path) -> Home:
    """A machine with that TPM, and a key in it."""
    folder = tmp_path / "laptop"
    folder.mkdir()
    home = Home(folder, {"MESH_HSM_TPM2_TCTI": tpm.tcti})
    (folder / "letter").write_text("hello")
    home.ok(
        "key", "generate", "--token", "tpm2:", "--use", "sign", "--label", "mine", secrets=RIGHT
    )
    return home


def sign(home: Home, pin: bytes, *more: str) -> Any:
    """Use the key."""
    arguments = ("dare", "encode", "letter", "--sign", "mine", "-o", "x", "--force", "--json")
    return home.run(*arguments, *more, secrets={"pin": pin})


def test_wrong_pins_to_the_lockout_and_back(laptop: Home, tpm: Swtpm) -> None:
    first = sign(laptop, WRONG)
    assert (first.code, first.error["type"]) == (5, "WrongSecretError")
    assert "3 tries left" in first.err.splitlines()[0]
    assert first.error["attempts_remaining"] == 2

    second = sign(laptop, WRONG)
    assert "2 tries left" in second.err.splitlines()[0]
    assert second.error["attempts_remaining"] == 1

    # The last one is not spent without consent, right or wrong.
    for pin in (WRONG, PIN):
        unasked = sign(laptop, pin)
        assert (unasked.code, unasked.error["type"]) == (5, "LastTryError")

    spent = sign(laptop, WRONG, "--use-last-try")
    assert "1 try left" in spent.err.splitlines()[0]
    assert spent.code == 5
    assert spent.error["type"] in ("WrongSecretError", "LockedOutError")

    locked = sign(laptop, PIN, "--use-last-try")
    assert (locked.code, locked.error["type"]) == (5, "LockedOutError")
    assert 0 < locked.error["recovery_seconds"] <= 1200
    told = laptop.run("dare", "encode", "letter", "--sign", "mine", "-o", "x", secrets=RIGHT)
    assert "hint:" in told.err
    findings = laptop.run("doctor", "--json")
    assert findings.code == 1
    assert "TPM004" in {one["code"] for one in findings.json["findings"]}
    assert not (laptop.folder / "x").exists()

    tpm.end_lockout()
    assert sign(laptop, PIN).code == 0


@pytest.mark.parametrize(
    ("answer", "code"), [(b"y\n", 0), (b"n\n", 5), (b"\n", 5)], ids=["yes", "no", "default"]
)
def test_the_last_try_is_asked_for_on_a_terminal(laptop: Home, answer: bytes, code: int) -> None:
    for _ in range(2):
        sign(laptop, WRONG)
    talk = [(b"[y/N]: ", answer)] + ([(b"PIN of mine: ", PIN + b"\n")] if code == 0 else [])
    ended, seen = on_terminal(
        laptop, ("dare", "encode", "letter", "--sign", "mine", "-o", "y"), talk
    )
    assert ended == code, seen


def test_tries_left_are_said_on_a_terminal_before_the_pin(laptop: Home) -> None:
    code, seen = on_terminal(
        laptop,
        ("dare", "encode", "letter", "--sign", "mine", "-o", "y"),
        [(b"3 tries left", b""), (b"PIN of mine: ", PIN + b"\n")],
    )
    assert code == 0, seen
    assert PIN.decode() not in seen


def test_an_empty_lockout_password_is_reported(laptop: Home) -> None:
    shown = laptop.ok("key", "show", "mine", "--json").json["key"]["custody"]
    assert shown["dictionary_attack"]["lockout_auth_set"] is False
    assert "local root can reset" in laptop.ok("key", "show", "mine").out
    findings = laptop.ok("doctor", "--json").json["findings"]
    assert {"TPM005", "TPM008"} <= {one["code"] for one in findings}
    assert "TPM005" in laptop.ok("doctor").out


def test_a_changed_pin_is_the_one_that_works(laptop: Home) -> None:
    new = b"a new and longer PIN"
    laptop.ok("pin", "change", "mine", secrets={"pin": PIN, "new-pin": new})
    assert sign(laptop, PIN).code == 5
    assert sign(laptop, new).code == 0


def test_keys_with_pins_of_their_own_are_not_changed_as_one(laptop: Home) -> None:
    done = laptop.run("pin", "change", "--token", "tpm2:", "--json", secrets=RIGHT)
    assert (done.code, done.error["type"]) == (6, "UnsupportedError")
    assert sign(laptop, PIN).code == 0


def test_a_new_pin_of_one_key_is_asked_as_such(laptop: Home) -> None:
    new = b"a new and longer PIN\n"
    code, seen = on_terminal(
        laptop,
        ("pin", "change", "mine"),
        [(b"PIN of mine: ", PIN + b"\n"), (b"New PIN of mine: ", new), (b"again: ", new)],
    )
    assert code == 0, seen


def test_a_tpm_has_no_security_officer(laptop: Home) -> None:
    init = ("token", "init", "tpm2:", "--label", "x", "--erase", "--yes", "--json")
    assert laptop.run(*init).error["type"] == "UnsupportedError"
    assert laptop.run("pin", "reset", "tpm2:", "--json").error["type"] == "UnsupportedError"


def test_without_pin(laptop: Home) -> None:
    laptop.ok(
        *("key", "generate", "--token", "tpm2:", "--use", "sign", "--label", "open", "--no-pin")
    )
    laptop.ok("dare", "encode", "letter", "--sign", "open")


def test_a_changed_pcr_is_a_policy_error(laptop: Home, tpm: Swtpm) -> None:
    laptop.ok(
        *("key", "generate", "--token", "tpm2:", "--use", "sign", "--label", "bound"),
        *("--pcrs", "16"),
        secrets=RIGHT,
    )
    shown = laptop.ok("key", "show", "bound").out
    assert "16 (sha256)" in shown
    bound = ("dare", "encode", "letter", "--sign", "bound", "--force", "--json")
    laptop.ok(*bound, secrets=RIGHT)
    tpm.extend_pcr(16)
    done = laptop.run(*bound, secrets=RIGHT)
    assert (done.code, done.error["type"]) == (5, "PolicyError")
    findings = laptop.ok("doctor", "--json").json["findings"]
    assert "TPM006" in {one["code"] for one in findings}


def test_another_tpm_is_told_from_a_wrong_pin(laptop: Home, tpm: Swtpm) -> None:
    tpm.exchange_state()
    done = sign(laptop, PIN)
    assert done.error["type"] in ("VerificationError", "DeviceError")
    assert done.code in (7, 10)
    tpm.put_back()
    assert sign(laptop, PIN).code == 0


# -- a device -------------------------------------------------------------------------------------


@pytest.fixture
def world(tpm: Swtpm, tmp_path: Path) -> World:
    """An administrator, and a laptop connected by its TPM."""
    return connect(tmp_path, "tpm2:", RIGHT, MESH_HSM_TPM2_TCTI=tpm.tcti)


def test_the_promise(world: World, tpm: Swtpm) -> None:
    """A file for the laptop opens with its TPM, or with the backup, and in no other way."""
    (world.folder / "letter").write_text("hello")
    world.admin.ok("dare", "encode", "../letter", "-r", "laptop")
    opened = world.laptop.ok("dare", "decode", "../letter.dare", secrets=RIGHT)
    assert opened.out == "hello"
    assert "laptop-encrypt: 3 tries left" in opened.err

    combined = world.laptop.ok("device", "show", "--json").json["device"]["combined"]
    for use in ("encryption", "authentication"):
        custody = combined[use]["custody"]
        assert (custody["theft"], custody["composite"]) == ("generated", "proved")
        assert [share["custody"] for share in custody["shares"]] == ["generated", "sealed"]

    tpm.exchange_state()
    stolen = world.laptop.run("dare", "decode", "../letter.dare", "-o", "x", secrets=RIGHT)
    assert stolen.code in (7, 10)
    assert not (world.laptop.folder / "x").exists()
    codes = {one["code"] for one in world.laptop.run("doctor", "--json").json["findings"]}
    assert "DEVICE002" in codes

    backup = ("--backup", "../backup.json")
    recovered = world.admin.ok(
        "dare", "decode", "../letter.dare", *backup, secrets={"passphrase": PASSPHRASE}
    )
    assert recovered.out == "hello"

    tpm.put_back()
    assert world.laptop.ok("dare", "decode", "../letter.dare", secrets=RIGHT).out == "hello"


def test_the_device_s_pin_is_changed_as_a_whole(world: World) -> None:
    new = b"a new and longer PIN"
    changed = world.laptop.ok("pin", "change", "--json", secrets={"pin": PIN, "new-pin": new}).json[
        "changed"
    ]
    assert len(changed) == 4
    (world.folder / "letter").write_text("hello")
    world.laptop.ok("dare", "encode", "../letter", "-r", "laptop")
    assert world.laptop.run("dare", "decode", "../letter.dare", secrets=RIGHT).code == 5
    world.laptop.ok("dare", "decode", "../letter.dare", secrets={"pin": new})


def test_a_pin_change_that_fails_says_what_it_changed(
    world: World, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """In this process: no simulator fails at the third key of four."""
    _in_process(world.laptop, monkeypatch)
    calls = []
    real: Callable[..., None] = Tpm2Token.change_pin

    def failing(token: Tpm2Token, uri: Any) -> None:
        calls.append(uri)
        if len(calls) == 3:
            raise DeviceError("vanished")
        real(token, uri)

    monkeypatch.setattr(Tpm2Token, "change_pin", failing)
    assert main.main(["pin", "change", "--pin-env", "OLD", "--new-pin-env", "NEW"]) == 10
    said = capfd.readouterr().err
    assert "changed before it failed: tpm2:key=laptop-profile, tpm2:key=laptop-encrypt" in said


@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_no_orphan_in_the_tpm_after_a_failed_init(
    tpm: Swtpm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    home = Home(tmp_path, {"MESH_HSM_TPM2_TCTI": tpm.tcti})
    _in_process(home, monkeypatch)
    calls = []
    real: Callable[..., Any] = Tpm2Token.generate

    def failing(token: Tpm2Token, spec: Any) -> Any:
        calls.append(spec)
        made = real(token, spec)
        if len(calls) == at:
            raise DeviceError("vanished")
        return made

    init = ["device", "init", "--name", "laptop", "--pin-env", "OLD", "--persistent"]
    with monkeypatch.context() as patch:
        patch.setattr(Tpm2Token, "generate", failing)
        assert main.main(init) == 10
    assert home.ok("key", "list", "--json").json == {"keys": []}
    assert tpm.handles() == []
    assert main.main(init) == 0
    assert len(home.ok("key", "list", "--json").json["keys"]) == 4
    assert tpm.handles() == []


def test_another_storage_root_than_the_pinned_one_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """In this process: as if the provider's records had been exchanged along with the TPM."""
    _in_process(world.laptop, monkeypatch)
    monkeypatch.setattr(Tpm2Token, "root_name", "000b" + "00" * 32)
    assert main.main(["device", "show"]) == 7
    assert "not the TPM that the device was made with" in capfd.readouterr().err


def _in_process(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home.folder)
    monkeypatch.setenv("MESH_HSM_HOME", str(home.state))
    for name, value in home.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OLD", PIN.decode())
    monkeypatch.setenv("NEW", "a new and longer PIN")


def test_a_tpm_that_goes_away(laptop: Home, tpm: Swtpm) -> None:
    tpm.stop()
    done = sign(laptop, PIN)
    assert done.code in (4, 9)
    assert "Traceback" not in done.err
    listed = laptop.ok("key", "list")
    assert "doctor" in listed.err
    findings = laptop.run("doctor", "--json").json["findings"]
    assert {"TPM001", "TPM003"} & {one["code"] for one in findings}


def test_what_the_tpm_says_it_can_do(laptop: Home) -> None:
    shown = laptop.ok("token", "show", "tpm2:", "--json").json
    assert shown["token"]["hardware"] == "simulator"
    able = {(one["algorithm"], one["primitive"]) for one in shown["capabilities"]}
    assert ("P-384", "agree, full point") in able
    assert "tpm2:" in laptop.ok("token", "list").out
