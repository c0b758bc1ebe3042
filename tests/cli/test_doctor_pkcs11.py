"""doctor and HSMs: what it says is true, what it tells to run works, and nothing is touched."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pkcs11
import pytest

from mesh_hsm.testing.softhsm import Softhsm
from mesh_hsm_pkcs11 import slots
from mesh_hsm_pkcs11.module import Module, forget_modules
from mesh_hsm_pkcs11.pin import Pin
from tests.cli.conftest import Home, MakeHome, Run
from tests.simulators.pkcs11.interposer import Action, Interposer, Rule

SIMULATED = "PKCS11021"
SO_PIN = b"3141-5926"
NEW_PIN = b"1618-0339"
MAKING = ("key", "generate", "--use", "encrypt", "--algorithm", "P-256", "--label", "archive")


@pytest.fixture
def home(make_home: MakeHome, softhsm_token: Softhsm) -> Home:
    """A machine with a SoftHSM and no other module."""
    return make_home("hsm", **softhsm_token.environment)


@pytest.fixture
def interposer(softhsm_token: Softhsm, tmp_path: Path) -> Interposer:
    """Before that SoftHSM, for the commands that are told of it."""
    return Interposer(softhsm_token.module, tmp_path / "interposer")


def doctor(home: Home, **env: str) -> dict[str, dict[str, str]]:
    """What it finds in PKCS #11, by code."""
    found: list[dict[str, str]] = home.run("doctor", "--json", env=env).json["findings"]
    return {one["code"]: one for one in found if one["code"].startswith("PKCS11")}


def follow(home: Home, remedy: str, **secrets: bytes) -> Run:
    """Run the command in a remedy as a shell would, with a name for NAME."""
    command = shlex.split(remedy[remedy.index("mesh-hsm ") :])[1:]
    named = ["new" if word == "NAME" else word for word in command]
    return home.ok(*named, secrets={name.replace("_", "-"): pin for name, pin in secrets.items()})


def everything(folder: Path) -> dict[Path, tuple[int, bytes]]:
    """Every file with its mode and content."""
    return {
        path: (path.stat().st_mode, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def on_the_token(rig: Softhsm) -> list[str]:
    """The labels of all that is stored there, private objects too."""
    forget_modules()
    present = slots.present(Module.load(rig.module))
    slot = next(one.slot for one in present if one.facts.label == rig.label)
    with slot.get_token().open(user_pin=rig.pin) as session:
        found = list(session.get_objects({pkcs11.Attribute.TOKEN: True}))
        return sorted(str(one[pkcs11.Attribute.LABEL]) for one in found)


def test_a_healthy_hsm_gives_a_note_and_no_error(home: Home) -> None:
    done = home.run("doctor")
    assert done.code == 0
    assert f"{SIMULATED} note: the token test is a simulator" in done.out
    assert set(doctor(home)) == {SIMULATED}


def test_a_machine_that_asks_for_no_module_hears_nothing(home: Home) -> None:
    assert doctor(home, MESH_HSM_PKCS11_MODULE="") == {}


def test_a_missing_module_is_an_error_for_whoever_named_it(home: Home) -> None:
    done = home.run("doctor", env={"MESH_HSM_PKCS11_MODULE": "/nowhere/libhsm.so"})
    assert done.code == 1
    assert "PKCS11003 error: there is no PKCS #11 module /nowhere/libhsm.so" in done.out
    said = home.run("token", "list", env={"MESH_HSM_PKCS11_MODULE": "/nowhere/libhsm.so"}).err
    assert "there is no PKCS #11 module /nowhere/libhsm.so (install it, or name another" in said


def test_it_touches_nothing_and_logs_in_nowhere(
    home: Home, softhsm_token: Softhsm, interposer: Interposer, tmp_path: Path
) -> None:
    home.ok(*MAKING, "--token", softhsm_token.uri, secrets={"pin": softhsm_token.pin.encode()})
    before = everything(home.state), everything(softhsm_token.folder)
    log = tmp_path / "calls"
    env = {"MESH_HSM_PKCS11_MODULE": str(interposer.path), **interposer.environment(log=log)}
    assert set(doctor(home, **env)) == {SIMULATED}
    assert (everything(home.state), everything(softhsm_token.folder)) == before
    calls = set(log.read_text().split())
    assert "C_FindObjects" in calls
    changing = ("C_Login", "C_Init", "C_Set", "C_Generate", "C_Create", "C_Copy", "C_Destroy")
    harmless = {"C_Initialize"}
    assert [name for name in calls - harmless if name.startswith(changing)] == []


# -- what it tells to run ------------------------------------------------------------------------


def test_an_empty_token_can_be_initialised_as_it_says(home: Home, softhsm_token: Softhsm) -> None:
    softhsm_token.clear()
    found = doctor(home)
    assert set(found) == {"PKCS11014"}
    follow(home, found["PKCS11014"]["remedy"], new_so_pin=SO_PIN, new_pin=NEW_PIN)
    assert set(doctor(home)) == {SIMULATED}


def test_a_pin_that_is_not_set_can_be_set_as_it_says(home: Home, softhsm_token: Softhsm) -> None:
    softhsm_token.clear()
    forget_modules()
    module = Module.load(softhsm_token.module)
    [empty] = slots.present(module)
    module.cryptoki.init_token(empty.facts.slot_id, Pin(SO_PIN), "it's $HOME")
    found = doctor(home)
    assert set(found) == {"PKCS11015", SIMULATED}
    follow(home, found["PKCS11015"]["remedy"], so_pin=SO_PIN, new_pin=NEW_PIN)
    assert set(doctor(home)) == {SIMULATED}


def test_a_factory_pin_can_be_changed_as_it_says(
    home: Home, softhsm_token: Softhsm, interposer: Interposer
) -> None:
    settings = interposer.environment(quantities={"pin_to_be_changed": 1})
    found = doctor(home, MESH_HSM_PKCS11_MODULE=str(interposer.path), **settings)
    assert set(found) == {"PKCS11018", SIMULATED}
    pin = softhsm_token.pin.encode()
    follow(home, found["PKCS11018"]["remedy"], pin=pin, new_pin=NEW_PIN)
    home.ok(*MAKING, "--token", softhsm_token.uri, secrets={"pin": NEW_PIN})


def test_a_locked_pin_is_an_error(home: Home, interposer: Interposer) -> None:
    settings = interposer.environment(quantities={"tries": 3, "tries_used": 3})
    env = {"MESH_HSM_PKCS11_MODULE": str(interposer.path), **settings}
    assert home.run("doctor", env=env).code == 1
    assert "mesh-hsm pin reset 'pkcs11:" in doctor(home, **env)["PKCS11016"]["remedy"]


# -- keys that were interrupted ------------------------------------------------------------------


def kill_making(
    home: Home,
    rig: Softhsm,
    interposer: Interposer,
    action: Action,
    log: Path,
    features: Sequence[str] = (),
) -> None:
    """Make the key ``archive``, and be killed where it enters the token, not at a trial before."""
    making, pin = (*MAKING, "--token", rig.uri), {"pin": rig.pin.encode()}
    module = {"MESH_HSM_PKCS11_MODULE": str(interposer.path)}
    counting = interposer.environment(features=features, log=log)
    home.ok(*making, secrets=pin, env=module | counting)
    home.ok("key", "delete", "archive", "--yes", secrets=pin)
    last = log.read_text().split().count("C_GenerateKeyPair")
    rules = [Rule("C_GenerateKeyPair", last, action)]
    killing = interposer.environment(features=features, rules=rules)
    done = home.run(*making, secrets=pin, env=module | killing)
    assert done.code == -signal.SIGKILL
    assert on_the_token(rig) == (["archive", "archive"] if action is Action.KILL_AFTER else [])


@pytest.mark.parametrize("action", [Action.KILL, Action.KILL_AFTER])
def test_a_key_whose_making_was_killed_is_named_and_goes(
    home: Home, softhsm_token: Softhsm, interposer: Interposer, tmp_path: Path, action: Action
) -> None:
    kill_making(home, softhsm_token, interposer, action, tmp_path / "calls")
    found = doctor(home)
    assert set(found) == {"PKCS11023", SIMULATED}
    assert found["PKCS11023"]["severity"] == "warning"
    said = "making the key archive on the token test was interrupted"
    assert said in found["PKCS11023"]["problem"]
    assert home.ok("key", "list", "--json").json["keys"] == []
    follow(home, found["PKCS11023"]["remedy"], pin=softhsm_token.pin.encode())
    assert set(doctor(home)) == {SIMULATED}
    assert on_the_token(softhsm_token) == ["new", "new"]


def test_a_token_that_gives_its_own_ids_keeps_no_unnamed_orphan(
    home: Home, softhsm_token: Softhsm, interposer: Interposer, tmp_path: Path
) -> None:
    """Nobody can tell it from a stranger's of that label: it is named, and not destroyed."""
    pin, log = softhsm_token.pin.encode(), tmp_path / "calls"
    kill_making(home, softhsm_token, interposer, Action.KILL_AFTER, log, ["own_ids"])
    token = ("--token", softhsm_token.uri)
    use = ("--use", "encrypt", "--algorithm", "P-256")
    home.ok("key", "generate", *token, *use, "--label", "other", secrets={"pin": pin})
    assert on_the_token(softhsm_token) == ["archive", "archive", "other", "other"]
    found = doctor(home)["PKCS11023"]
    assert "under an id that the token gave" in found["problem"]
    command = shlex.split(found["remedy"].partition(": ")[2].partition(" (")[0])
    command += ["--pin", softhsm_token.pin]
    for half in ("privkey", "pubkey"):
        command[command.index("--type") + 1] = half
        subprocess.run(
            command, check=True, capture_output=True, env=os.environ | softhsm_token.environment
        )
    home.ok("key", "delete", "other", "--yes", secrets={"pin": pin})
    assert set(doctor(home)) == {SIMULATED}
    assert on_the_token(softhsm_token) == []


def test_the_same_command_again_makes_the_key_that_was_interrupted(
    home: Home, softhsm_token: Softhsm, interposer: Interposer, tmp_path: Path
) -> None:
    kill_making(home, softhsm_token, interposer, Action.KILL_AFTER, tmp_path / "calls")
    home.ok(*MAKING, "--token", softhsm_token.uri, secrets={"pin": softhsm_token.pin.encode()})
    assert set(doctor(home)) == {SIMULATED}
    assert on_the_token(softhsm_token) == ["archive", "archive"]


@pytest.mark.parametrize("nth", [1, 2], ids=["private half", "public half"])
def test_a_key_whose_deletion_was_killed_is_named_and_goes(
    home: Home, softhsm_token: Softhsm, interposer: Interposer, nth: int
) -> None:
    pin = softhsm_token.pin.encode()
    home.ok(*MAKING, "--token", softhsm_token.uri, secrets={"pin": pin})
    settings = interposer.environment(rules=[Rule("C_DestroyObject", nth, Action.KILL_AFTER)])
    env = {"MESH_HSM_PKCS11_MODULE": str(interposer.path), **settings}
    deleting = ("key", "delete", "archive", "--yes")
    assert home.run(*deleting, secrets={"pin": pin}, env=env).code == -signal.SIGKILL
    assert on_the_token(softhsm_token) == ["archive"] * (2 - nth)

    found = doctor(home)
    assert set(found) == {"PKCS11023", SIMULATED}
    assert "deleting the key archive on the token test" in found["PKCS11023"]["problem"]
    follow(home, found["PKCS11023"]["remedy"], pin=pin)
    assert set(doctor(home)) == {SIMULATED}
    assert on_the_token(softhsm_token) == ["new", "new"]
