"""Administrators and the master key, interrupted at each step: nothing is half done."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import mesh_hsm_cli.administrator
import mesh_hsm_cli.device_update
import mesh_hsm_cli.moving_master
import mesh_hsm_cli.new_administrator
import mesh_hsm_cli.new_mesh
import mesh_hsm_cli.removal
from mesh_hsm.errors import DeviceError, StorageError
from mesh_hsm.provider import KeySpec, Use
from mesh_hsm.secret_source import FixedSecrets, SecretKind
from mesh_hsm.testing.softhsm import Softhsm
from mesh_hsm.uri import Uri
from mesh_hsm_cli import main
from mesh_hsm_cli.records import _Record
from mesh_hsm_software import SoftwareProvider
from mesh_hsm_software.token import SoftwareToken
from tests.cli.conftest import PASSPHRASE, STORE, Home, MakeHome, World
from tests.cli.test_mesh_and_device import FAULTS, Fault, _labels, tree

SECRET = {"passphrase": PASSPHRASE}
TWICE = STORE + b"\n" + STORE  # one line for each store that is opened
BOTH = {"passphrase": PASSPHRASE, "store-passphrase": TWICE}
ADD = ("admin", "add", "--token", "soft:store=card", "--label", "card")
MOVE = ("mesh", "move-master", "--token", "soft:store=card", "--backup", "../backup.json")
STORE_OF_THE_MESH = ("--passphrase-env", "STORE")
COMMANDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "admin add": ("admin", (*ADD, *STORE_OF_THE_MESH, "--new-passphrase-env", "STORE")),
    "admin remove": ("admin", ("admin", "remove", "spare", "--yes", *STORE_OF_THE_MESH)),
    "device update": (
        "laptop",
        ("device", "update", "../mesh.dare", "--passphrase-env", "PHRASE"),
    ),
    "move-master": (
        "admin",
        (*MOVE, "--passphrase-env", "PHRASE", "--store-passphrase-env", "STORE"),
    ),
    "mesh create": (
        "fresh",
        (
            *("mesh", "create", "--no-escrow", "--master-token", "soft:store=card"),
            *("--passphrase-env", "PHRASE", "--store-passphrase-env", "STORE"),
        ),
    ),
}
STEPS: dict[str, list[tuple[Any, str, int]]] = {
    "admin add": [
        (SoftwareToken, "generate", 1),
        (mesh_hsm_cli.new_administrator, "add_administrator", 1),
        (_Record, "save", 1),
    ],
    "admin remove": [
        (mesh_hsm_cli.removal, "remove_administrator", 1),
        (_Record, "save", 1),
    ],
    "device update": [
        (mesh_hsm_cli.device_update, "sign_object", 1),
        (_Record, "save", 1),
    ],
    "move-master": [
        (mesh_hsm_cli.moving_master, "drill_again", 1),
        (SoftwareToken, "import_scalar", 1),
        (mesh_hsm_cli.moving_master, "prove_possession", 1),
        (_Record, "save", 1),
    ],
    "mesh create": [
        (SoftwareToken, "generate", 1),
        (SoftwareToken, "import_scalar", 1),
        (mesh_hsm_cli.new_mesh, "create_profile_master", 1),
        (_Record, "save", 1),
    ],
}
CASES = {
    f"{command}, {step[1]}, {fault}": (command, step, fault)
    for command, steps in STEPS.items()
    for step in steps
    for fault in ("full disk", "terminated")
    if (command, step[1], fault) != ("device update", "save", "terminated")  # it is done then
}


@pytest.fixture(scope="module")
def _ready(_soft_world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A connected world with the administrator ``spare``, and its ProfileMaster in a file."""
    folder = tmp_path_factory.mktemp("ready") / "world"
    shutil.copytree(_soft_world.folder, folder)
    admin = Home(folder / "admin")
    spare = ("admin", "add", "--token", "soft:store=spare", "--label", "spare")
    admin.ok(*spare, secrets={"passphrase": STORE, "new-passphrase": PASSPHRASE})
    admin.ok("mesh", "export", "--out", "../mesh.dare")
    (folder / "fresh").mkdir()
    return folder


@pytest.fixture
def folder(_ready: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(_ready, tmp_path / "world"))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Any:
    """Run a command of the table in this process, so that faults can be made."""
    monkeypatch.setenv("PHRASE", PASSPHRASE.decode())
    monkeypatch.setenv("STORE", STORE.decode())

    def go(command: str) -> int:
        home, arguments = COMMANDS[command]
        monkeypatch.chdir(folder / home)
        monkeypatch.setenv("MESH_HSM_HOME", str(folder / home / "state"))
        try:
            return main.main(arguments)
        except SystemExit as ended:
            return int(str(ended.code))

    return go


@pytest.mark.parametrize("case", CASES)
def test_a_step_that_fails_undoes_the_others(
    folder: Path, run: Any, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    command, (place, name, at), fault = CASES[case]
    error, after, expected = FAULTS[fault]
    before = tree(folder)
    with monkeypatch.context() as patch:
        wrapped = Fault(error, at).around(getattr(place, name), after=after)
        patch.setattr(place, name, wrapped)
        assert run(command) == expected
    left = tree(folder)
    stores = {path for path in left if path.endswith(".keys")}
    assert {n: o for n, o in left.items() if n not in stores} == {
        n: o for n, o in before.items() if n not in stores
    }
    assert _labels(folder, left, stores) == _labels(folder, before, stores)
    assert run(command) == 0


def test_what_was_filed_stands_even_if_it_is_not_noted_as_seen(
    folder: Path, run: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        error = StorageError("no space left")
        patch.setattr(_Record, "save", Fault(error, 2).around(_Record.save, after=False))
        assert run("admin add") == 0
    assert "version 3 is filed, but: no space left" in capsys.readouterr().err
    admin = Home(folder / "admin")
    assert admin.ok("mesh", "show", "--json").json["mesh"]["version"] == 3
    assert run("admin remove") == 0


def test_a_key_that_cannot_be_deleted_is_said(
    folder: Path, run: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home, arguments = COMMANDS["admin remove"]
    monkeypatch.setitem(COMMANDS, "admin remove", (home, (*arguments, "--delete-key")))
    with monkeypatch.context() as patch:
        failing = Fault(DeviceError("vanished")).around(SoftwareToken.delete, after=False)
        patch.setattr(SoftwareToken, "delete", failing)
        assert run("admin remove") == 10
    assert "spare is removed, but its key is still there" in capsys.readouterr().err
    admin = Home(folder / "admin")
    assert len(admin.ok("admin", "list", "--json").json["administrators"]) == 1
    (folder / "admin" / "state" / "providers" / "soft").rename(folder / "unplugged")
    before = tree(folder)
    done = admin.run(
        *("admin", "remove", "mesh-administrator", "--yes", "--delete-key"),
        secrets={"passphrase": STORE},
    )
    assert done.code in (4, 11)
    assert tree(folder) == before


def test_a_device_that_is_not_there_to_delete_from_is_said_first(folder: Path) -> None:
    admin = Home(folder / "admin")
    next(admin.state.rglob("spare.keys")).unlink()
    before = tree(folder)
    done = admin.run(
        *("admin", "remove", "spare", "--yes", "--delete-key", "--json"),
        secrets={"passphrase": STORE},
    )
    assert (done.code, done.error["type"]) == (4, "NotFoundError")
    assert tree(folder) == before


def test_another_key_in_the_place_of_the_administrator_s_is_not_deleted(folder: Path) -> None:
    """A label is free again once its key is gone, and so is a slot whose key was moved."""
    admin = Home(folder / "admin")
    secrets = {"passphrase": PASSPHRASE}
    admin.ok("key", "delete", "spare", "--yes", "--force", secrets=secrets)
    admin.ok(
        *("key", "generate", "--token", "soft:store=spare", "--label", "spare", "--use", "sign"),
        secrets=secrets,
    )
    before = tree(folder)
    done = admin.run(
        *("admin", "remove", "spare", "--yes", "--delete-key", "--json"),
        secrets={"passphrase": STORE + b"\n" + PASSPHRASE},
    )
    assert (done.code, done.error["type"]) == (4, "NotFoundError")
    assert "is another key" in done.error["message"]
    assert tree(folder) == before
    admin.ok("admin", "remove", "spare", "--yes", secrets={"passphrase": STORE})
    assert "spare" in admin.ok("key", "list").out


def test_devices_before_the_one_that_fails_stand(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names, udfs = ("phone", "tablet"), []
    for name in names:
        home = Home(folder / name)
        home.folder.mkdir()
        made = home.ok(
            *("device", "init", "--name", name, "--token", "soft:", "--json"),
            *("--request", f"../{name}.request.dare"),
            secrets=SECRET,
        )
        udfs.append(made.json["device"]["udf"])
    monkeypatch.chdir(folder / "admin")
    monkeypatch.setenv("MESH_HSM_HOME", str(folder / "admin" / "state"))
    monkeypatch.setenv("STORE", STORE.decode())
    confirmed = [word for udf in udfs for word in ("--confirm-udf", udf)]
    labels = [word for name in names for word in ("--label", name)]
    arguments = [
        *("device", "connect", "../phone.request.dare", "../tablet.request.dare"),
        *confirmed,
        *labels,
        *STORE_OF_THE_MESH,
        *("--administrator", "mesh-administrator"),
    ]
    with monkeypatch.context() as patch:
        failing = Fault(DeviceError("vanished"), 2).around(
            mesh_hsm_cli.administrator.connect, after=False
        )
        patch.setattr(mesh_hsm_cli.administrator, "connect", failing)
        assert main.main(arguments) == 10
    assert "connected before it failed: phone" in capsys.readouterr().err
    assert (folder / "admin" / "phone.response.dare").exists()
    assert not (folder / "admin" / "tablet.response.dare").exists()
    listed = Home(folder / "admin").ok("device", "list", "--json").json["devices"]
    assert [one["label"] for one in listed] == ["laptop", "phone"]


# -- killed ----------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from {module} import {name} as place
original = place.{method}
def dying(*arguments, **named):
    {answer}
    os.kill(os.getpid(), signal.SIGKILL)
place.{method} = dying
from mesh_hsm_cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def killed(home: Home, at: str, arguments: tuple[str, ...], *, after: bool) -> None:
    """Run a command that dies before or after it has called ``module:Class.method``."""
    module, _, rest = at.partition(":")
    name, _, method = rest.partition(".")
    answer = "original(*arguments, **named)" if after else "pass"
    script = KILLED.format(module=module, name=name, method=method, answer=answer)
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=home.folder,
        env=home.environment(PHRASE=PASSPHRASE.decode(), STORE=STORE.decode()),
        capture_output=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def codes(home: Home) -> dict[str, str]:
    found = home.run("doctor", "--json").json["findings"]
    return {one["code"]: one["problem"] for one in found}


def test_a_key_that_a_killed_command_left_stays_named_whatever_else_is_done(folder: Path) -> None:
    admin = Home(folder / "admin")
    _, arguments = COMMANDS["admin add"]
    killed(admin, "mesh_hsm_software.token:SoftwareToken.generate", arguments, after=True)
    assert "card" in codes(admin)["MESH001"]
    admin.ok(
        *("admin", "add", "--token", "soft:store=other", "--label", "other"),
        secrets={"passphrase": STORE, "new-passphrase": PASSPHRASE},
    )
    assert "soft:store=card: card" in codes(admin)["MESH001"]


def test_the_next_command_on_that_token_deletes_it(folder: Path) -> None:
    admin = Home(folder / "admin")
    _, arguments = COMMANDS["admin add"]
    killed(admin, "mesh_hsm_software.token:SoftwareToken.generate", arguments, after=True)
    again = admin.ok(*ADD, secrets={"passphrase": TWICE})
    assert "deleted card, left by a command" in again.err
    assert "MESH001" not in codes(admin)


def test_no_plain_key_takes_the_name_of_one_that_will_be_tidied_up(folder: Path) -> None:
    admin = Home(folder / "admin")
    _, arguments = COMMANDS["admin add"]
    killed(admin, "mesh_hsm_software.token:SoftwareToken.generate", arguments, after=True)
    secrets = {"passphrase": STORE}
    admin.ok("key", "delete", "card", "--yes", secrets=secrets)
    make = ("key", "generate", "--token", "soft:store=card", "--use", "sign", "--json", "--label")
    done = admin.run(*make, "card", secrets=secrets)
    assert (done.code, done.error["type"]) == (11, "ConflictError")
    admin.ok(*make, "other", secrets=secrets)
    admin.ok(*ADD, secrets={"passphrase": TWICE})
    assert "other" in admin.ok("key", "list").out
    admin.ok("key", "delete", "other", "--yes", secrets=secrets)


def test_a_key_that_was_filed_before_the_command_died_stays(folder: Path) -> None:
    admin = Home(folder / "admin")
    _, arguments = COMMANDS["admin add"]
    killed(admin, "mesh_hsm_cli.records:MeshRecord.save", arguments, after=True)
    assert "MESH001" in codes(admin)
    admin.ok(
        *("admin", "add", "--token", "soft:store=card", "--label", "more"),
        secrets={"passphrase": TWICE},
    )
    listed = admin.ok("admin", "list", "--json").json["administrators"]
    assert [(one["label"], one["plugged_in"]) for one in listed][2:] == [
        ("card", True),
        ("more", True),
    ]
    assert "MESH001" not in codes(admin)


@pytest.mark.parametrize(
    ("at", "after", "left"),
    [
        ("mesh_hsm_software.token:SoftwareToken.import_scalar", True, "MESH001"),
        ("mesh_hsm_cli.records:MeshRecord.save", False, "MESH001"),
        ("mesh_hsm_cli.records:MeshRecord.save", True, "MESH002"),
        ("mesh_hsm_software.token:SoftwareToken.delete", False, "MESH002"),
    ],
)
def test_a_move_that_was_killed_loses_nothing_and_goes_on(
    folder: Path, at: str, after: bool, left: str
) -> None:
    admin = Home(folder / "admin")
    _, arguments = COMMANDS["move-master"]
    killed(admin, at, arguments, after=after)
    assert left in codes(admin)
    done = admin.ok(*MOVE, "--json", secrets=BOTH).json
    assert done["deleted"] == ["soft:store=mesh;key=mesh-master"]
    assert done["master"]["uri"] == "soft:store=card;key=mesh-master"
    assert not {"MESH001", "MESH002"} & codes(admin).keys()
    labels = [one["label"] for one in admin.ok("key", "list", "--json").json["keys"]]
    assert labels.count("mesh-master") == 1
    admin.ok("admin", "remove", "spare", "--yes", secrets={"passphrase": STORE})


def test_a_move_does_not_go_on_with_another_key_in_the_master_key_s_place(folder: Path) -> None:
    """The software copy may be the last one by then."""
    admin = Home(folder / "admin")
    _, arguments = COMMANDS["move-master"]
    killed(admin, "mesh_hsm_cli.records:MeshRecord.save", arguments, after=True)
    card = {"passphrase": STORE}
    admin.ok("key", "delete", "soft:store=card;key=mesh-master", "--yes", "--force", secrets=card)
    secrets = FixedSecrets({SecretKind.PASSPHRASE: STORE})
    provider = SoftwareProvider(admin.state / "providers" / "soft")  # a program of its own
    with provider.open(Uri.parse("soft:store=card"), secrets) as store:
        store.generate(KeySpec("P-384", Use.SIGN, "mesh-master"))
    before = tree(folder)
    done = admin.run(*MOVE, "--json", secrets=BOTH)
    assert (done.code, done.error["type"]) == (10, "DeviceError")
    assert tree(folder) == before


# -- the master key in a device --------------------------------------------------------------------


def test_the_master_key_moves_into_a_device(folder: Path, softhsm_token: Softhsm) -> None:
    admin = Home(folder / "admin", dict(softhsm_token.environment))
    pin = {"pin": softhsm_token.pin.encode()}
    move = ("mesh", "move-master", "--token", softhsm_token.uri, "--json", "--backup")
    other = Home(folder / "other")
    other.folder.mkdir()
    other.ok("mesh", "create", "--backup-to", "backup.json", secrets=BOTH)
    before = tree(folder)
    for backup, secrets, code in (
        ("../other/backup.json", BOTH, 7),
        ("../backup.json", BOTH | {"passphrase": b"another passphrase"}, 5),
        ("../nothing.json", BOTH, 4),
        ("../request.dare", BOTH, 3),
    ):
        done = admin.run(*move, backup, secrets=pin | secrets)
        assert done.code == code, done.err
        assert tree(folder) == before
    assert admin.ok("key", "list", "--json").json["keys"]
    moved = admin.ok(*move, "../backup.json", secrets=pin | BOTH).json
    custody = moved["master"]["custody"]
    assert (custody["custody"], custody["pin"]) == ("imported", "always")
    assert "offline backup" in custody["known_by"]
    assert moved["deleted"] == ["soft:store=mesh;key=mesh-master"]

    again = admin.ok(*move, "../backup.json", secrets=pin | BOTH).json
    assert again == moved | {"deleted": [], "master": again["master"]}
    elsewhere = admin.run(*MOVE, "--json", secrets=BOTH)
    assert (elsewhere.code, elsewhere.error["type"]) == (11, "ConflictError")

    # Each device gets its own PIN; that of the master key is never tried on another.
    second = softhsm_token.add_token("second")
    add = ("admin", "add", "--token", second.uri, "--label", "card", "--json")
    before = tree(folder)
    wrong = admin.run(*add, secrets={"pin": second.pin.encode()})
    assert (wrong.code, wrong.error["type"]) == (5, "SecretRequiredError")
    assert "--master-pin-fd" in wrong.error["hint"]
    assert tree(folder) == before
    added = admin.ok(
        *add, secrets={"pin": second.pin.encode(), "master-pin": softhsm_token.pin.encode()}
    ).json
    assert added["version"] == 3
    same = ("admin", "add", "--token", softhsm_token.uri, "--label", "beside", "--json")
    assert admin.ok(*same, secrets=pin).json["version"] == 4

    # Without the device the Mesh is still shown, and nothing can be signed.
    bare = Home(admin.folder)
    shown = bare.ok("mesh", "show", "--json")
    assert shown.json["mesh"]["keys"]["master"]["custody"] is None
    assert "not at hand" in bare.ok("mesh", "show").err
    assert bare.run("admin", "remove", "card", "--yes", secrets=pin).code != 0


def test_a_master_key_that_a_device_made(make_home: MakeHome, softhsm_token: Softhsm) -> None:
    home = make_home("hsm", **softhsm_token.environment)
    create = ("mesh", "create", "--master-token", softhsm_token.uri, "--json")
    pin = {"pin": softhsm_token.pin.encode()}
    for more in (("--backup-to", "b"), ()):
        assert home.run(*create, *more, secrets=pin | BOTH).code == 2
    assert tree(home.folder) == {}
    made = home.ok(*create, "--no-escrow", secrets=pin | {"store-passphrase": STORE})
    custody = made.json["mesh"]["keys"]["master"]["custody"]
    assert (custody["custody"], custody["known_by"]) == ("generated", [])
    assert "NO BACKUP" in made.err
    assert home.ok("admin", "list", "--json").json["administrators"][0]["since"] == 1
    assert os.listdir(home.state / "seen") == [f"{made.json['mesh']['udf']}.json"]
