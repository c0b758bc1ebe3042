"""A Mesh and a device, from nothing to connected: confirmed, refused, undone, repeated."""

from __future__ import annotations

import json
import shutil
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import mesh_hsm_cli.administrator
import mesh_hsm_cli.new_device
import mesh_hsm_cli.new_mesh
import mesh_hsm_cli.own_device
import mesh_hsm_cli.rollback
from mesh_hsm.curves import P384
from mesh_hsm.errors import ConflictError, DeviceError, StorageError
from mesh_hsm.mesh import create_profile_master
from mesh_hsm.uri import Uri
from mesh_hsm_cli import main
from mesh_hsm_cli.administrator import own_mesh
from mesh_hsm_cli.records import _Record
from mesh_hsm_cli.rollback import Rollback
from mesh_hsm_cli.session import Session
from mesh_hsm_software.token import SoftwareToken
from tests.cli.conftest import PASSPHRASE, STORE, Home, MakeHome, World

SECRET = {"passphrase": PASSPHRASE}
BOTH = {"passphrase": PASSPHRASE, "store-passphrase": STORE}
CREATE = ("mesh", "create", "--backup-to", "backup.json")
INIT = ("device", "init", "--name", "laptop", "--token", "soft:")
STRANGER = "MAAA-BBBB-CCCC-DDDD-EEEE-FFFF-GGGG"


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but locks."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "lock" not in path.name
    }


def test_the_whole_way(world: World) -> None:
    listed = world.admin.ok("device", "list", "--json").json["devices"]
    assert [(one["label"], one["status"], one["composite"]) for one in listed] == [
        ("laptop", "connected", "proved")
    ]
    shown = world.laptop.ok("device", "show", "--json", secrets=SECRET).json["device"]
    assert (shown["mesh"], shown["composite"]) == (world.mesh, "proved")
    assert shown["combined"]["encryption"]["custody"]["composite"] == "proved"
    assert world.laptop.ok("mesh", "show", "--json").json["mesh"]["udf"] == world.mesh
    people = world.laptop.ok("device", "show", secrets=SECRET).out
    assert "composite:   proved" in people
    assert "ProfileSignature, Encryption, Signature, Authentication" in people


def test_both_sides_show_the_same_witness(make_home: MakeHome) -> None:
    home = make_home()
    mesh = home.ok(*CREATE, "--json", secrets=BOTH).json["mesh"]["udf"]
    device = home.ok(*INIT, "--json", secrets=SECRET).json["device"]["udf"]
    issued = home.ok(
        *("device", "connect", "laptop.request.dare", "--out", "r", "--confirm-udf", device),
        "--json",
        secrets={"passphrase": STORE},
    ).json
    activated = home.ok(
        *("device", "activate", "r", "--out", "c", "--confirm-udf", mesh, "--json"),
        secrets=SECRET,
    ).json
    assert issued["witness"] == activated["witness"]
    assert issued["device"]["label"] == device.split("-")[0]


def test_everything_kept_is_the_owner_s_alone(world: World) -> None:
    for path in [*world.laptop.state.rglob("*"), world.laptop.state, *world.folder.glob("*.dare")]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 or path.parent.name == "providers"
    assert stat.S_IMODE((world.folder / "backup.json").stat().st_mode) == 0o600


def test_no_escrow_is_said_loudly(home: Home) -> None:
    done = home.ok("mesh", "create", "--no-escrow", "--json", secrets=BOTH)
    assert done.json["mesh"]["escrow"] == []
    assert done.json["mesh"]["backup"] is None
    assert "NO BACKUP" in done.err
    codes = {one["code"] for one in home.run("doctor", "--json").json["findings"]}
    assert "BACKUP001" in codes


def test_a_software_device_is_said_loudly(home: Home) -> None:
    assert "FILE, not a device" in home.ok(*INIT, secrets=SECRET).err


def test_without_a_tpm_nothing_is_made_in_software(home: Home) -> None:
    nowhere = {"MESH_HSM_TPM2_TCTI": "swtpm:path=/nonexistent"}
    done = home.run("device", "init", "--name", "laptop", "--json", secrets=SECRET, env=nowhere)
    assert (done.code, done.error["type"]) == (9, "ProviderUnavailableError")
    assert "--token soft:" in done.error["hint"]
    assert tree(home.folder) == {}


# -- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize("udf", [STRANGER, "MAAA", "", "not a udf!"])
def test_connect_refuses_a_udf_that_the_screen_does_not_show(world: World, udf: str) -> None:
    before = tree(world.folder)
    done = world.admin.run(
        *("device", "connect", "../request.dare", "--out", "../new.dare", "--replace"),
        *("--confirm-udf", udf),
        secrets={"passphrase": STORE},
    )
    assert done.code in (3, 5, 7)
    assert tree(world.folder) == before


def test_activate_refuses_another_mesh_than_the_confirmed_one(make_home: MakeHome) -> None:
    home = make_home()
    home.ok(*CREATE, secrets=BOTH)
    device = home.ok(*INIT, "--json", secrets=SECRET).json["device"]["udf"]
    home.ok(
        *("device", "connect", "laptop.request.dare", "--out", "r", "--confirm-udf", device),
        secrets={"passphrase": STORE},
    )
    before = tree(home.folder)
    done = home.run(
        *("device", "activate", "r", "--out", "c", "--confirm-udf", STRANGER, "--json"),
        secrets=SECRET,
    )
    assert (done.code, done.error["type"]) == (7, "VerificationError")
    assert tree(home.folder) == before


def test_nobody_to_confirm_means_no(world: World) -> None:
    before = tree(world.folder)
    done = world.admin.run(
        "device", "connect", "../request.dare", "--out", "../new.dare", "--replace"
    )
    assert done.code == 5
    assert "--confirm-udf" in done.err
    assert tree(world.folder) == before


AGAIN: dict[str, Callable[[World], tuple[Home, tuple[str, ...]]]] = {
    "mesh create": lambda w: (w.admin, ("mesh", "create", "--backup-to", "new.json")),
    "device init": lambda w: (w.laptop, (*INIT, "--request", "new.dare")),
    "device connect": lambda w: (
        w.admin,
        ("device", "connect", "../request.dare", "--out", "new.dare", "--confirm-udf", w.device),
    ),
    "device activate": lambda w: (
        w.laptop,
        ("device", "activate", "../response.dare", "--out", "new.dare", "--confirm-udf", w.mesh),
    ),
    "a label in use": lambda w: (
        w.admin,
        (
            *("device", "connect", "../other/laptop.request.dare", "--out", "new.dare"),
            *("--confirm-udf", STRANGER, "--label", "laptop"),
        ),
    ),
}


@pytest.mark.parametrize("case", AGAIN)
def test_again_refuses_to_overwrite(world: World, case: str) -> None:
    home, arguments = AGAIN[case](world)
    other = Home(world.folder / "other")
    other.folder.mkdir()
    if case == "a label in use":
        other.ok(*INIT, secrets=SECRET)
    before = tree(world.folder)
    done = home.run(*arguments, "--json", secrets=SECRET)
    assert (done.code, done.error["type"]) == (11, "ConflictError")
    assert done.error["hint"]
    assert tree(world.folder) == before


FILES: dict[str, Callable[[World, str], tuple[Home, tuple[str, ...]]]] = {
    "backup": lambda w, file: (w.laptop, ("mesh", "create", "--backup-to", file)),
    "request": lambda w, file: (w.admin, (*INIT, "--request", file)),
    "response": lambda w, file: (
        w.admin,
        (
            *("device", "connect", "../request.dare", "--out", file, "--replace"),
            *("--confirm-udf", w.device),
        ),
    ),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_of_that_name_is_not_overwritten(world: World, case: str) -> None:
    (world.folder / "precious").write_text("mine")
    home, arguments = FILES[case](world, "../precious")
    before = tree(world.folder)
    assert home.run(*arguments, secrets=SECRET).code == 11
    assert tree(world.folder) == before


def test_accepting_again_changes_nothing(world: World) -> None:
    before = tree(world.admin.state)
    world.admin.ok("device", "accept", "../connection.dare")
    assert tree(world.admin.state) == before


def test_a_replaced_response_makes_the_earlier_one_stale(world: World) -> None:
    world.admin.ok(
        *("device", "connect", "../request.dare", "--out", "../second.dare", "--replace"),
        *("--confirm-udf", world.device, "--label", "laptop"),
        secrets={"passphrase": STORE},
    )
    listed = world.admin.ok("device", "list", "--json").json["devices"]
    assert [one["status"] for one in listed] == ["issued"]
    stale = world.admin.run("device", "accept", "../connection.dare", "--json")
    assert (stale.code, stale.error["type"]) == (7, "VerificationError")


def test_swapped_and_foreign_files(world: World) -> None:
    stranger = Home(world.folder / "stranger")
    stranger.folder.mkdir()
    other_mesh = stranger.ok(*CREATE, "--json", secrets=BOTH).json["mesh"]["udf"]
    device = stranger.ok(*INIT, "--json", secrets=SECRET).json["device"]["udf"]
    stranger.ok(
        *("device", "connect", "laptop.request.dare", "--out", "r", "--confirm-udf", device),
        secrets={"passphrase": STORE},
    )
    expected = {
        # A response that was made for another device.
        "another device's response": world_fresh_laptop(world).run(
            *("device", "activate", "../stranger/r", "--out", "c", "--confirm-udf", other_mesh),
            "--json",
            secrets=SECRET,
        ),
        # A connection of a Mesh that is not ours.
        "foreign connection": stranger.run("device", "accept", "../connection.dare", "--json"),
        # A request where a response belongs, and so on.
        "request as response": world_fresh_laptop(world, "two").run(
            *("device", "activate", "../request.dare", "--out", "c", "--confirm-udf", world.mesh),
            "--json",
            secrets=SECRET,
        ),
        "response as connection": world.admin.run("device", "accept", "../response.dare", "--json"),
        "connection as request": world.admin.run(
            *("device", "connect", "../connection.dare", "--out", "n", "--replace", "--json"),
            *("--confirm-udf", world.device),
            secrets={"passphrase": STORE},
        ),
    }
    found = {name: done.code for name, done in expected.items()}
    assert found == {
        "another device's response": 7,
        "foreign connection": 7,
        "request as response": 3,
        "response as connection": 3,
        "connection as request": 3,
    }


def world_fresh_laptop(world: World, name: str = "fresh") -> Home:
    """A device that waits for its activation, beside the connected one."""
    home = Home(world.folder / name)
    home.folder.mkdir()
    home.ok(*INIT, secrets=SECRET)
    return home


def test_steps_before_their_time(home: Home) -> None:
    assert home.run("mesh", "show").code == 4
    assert home.run("device", "show").code == 4
    assert home.run("device", "list").code == 4
    home.ok(*INIT, secrets=SECRET)
    (home.folder / "r").write_text("[]")
    assert home.run("device", "accept", "r").code == 4
    waiting = home.run("doctor", "--json").json["findings"]
    assert "DEVICE001" in {one["code"] for one in waiting}


# -- records ---------------------------------------------------------------------------------------

DAMAGE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no object": lambda value: [value],
    "another format": lambda value: value | {"format": "mesh-hsm/9 device record"},
    "a member missing": lambda value: {n: v for n, v in value.items() if n != "keys"},
    "a member more": lambda value: value | {"extra": 1},
    "a member of another type": lambda value: value | {"name": 7},
    "keys of another type": lambda value: value | {"keys": {"profile": 7}},
    "a key of another name": lambda value: value | {"keys": value["keys"] | {"extra": "soft:"}},
    "a key missing": lambda value: value | {"keys": {}},
    "a seed that is no base64": lambda value: value | {"seed": "not base64"},
    "truncated": lambda value: json.dumps(value)[:-20],
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_record_is_a_format_error(world: World, case: str) -> None:
    path = world.laptop.state / "device" / "record.json"
    damaged = DAMAGE[case](json.loads(path.read_text()))
    path.write_text(damaged if isinstance(damaged, str) else json.dumps(damaged))
    done = world.laptop.run("device", "show", "--json", secrets=SECRET)
    assert (done.code, done.error["type"]) == (3, "FormatError")
    findings = world.laptop.run("doctor", "--json")
    assert findings.code == 1
    assert "STATE003" in {one["code"] for one in findings.json["findings"]}


@pytest.mark.parametrize("member", ["request", "connection", "master", "pins", "seed", "udf"])
def test_a_part_of_the_record_cannot_be_changed_alone(world: World, member: str) -> None:
    """hsm-1 §6.4. Each part of another, equally valid device's record is refused in ours."""
    other = world.folder / "other"
    other.mkdir()
    connected = _connected_like(world, other)
    mine = world.laptop.state / "device" / "record.json"
    record = json.loads(mine.read_text())
    record[member] = json.loads((connected / "device" / "record.json").read_text())[member]
    mine.write_text(json.dumps(record))
    done = world.laptop.run("device", "show", "--json", secrets=SECRET)
    assert done.code in (7, 10), done.out
    assert done.error["type"] in ("VerificationError", "DeviceError")


def test_a_profile_that_was_not_pinned_is_refused_even_if_the_master_signed_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """hsm-1 §6.4, §7: the pin is of the octets, not of the name alone."""
    monkeypatch.setenv("MESH_HSM_HOME", str(world.admin.state))
    session = Session()
    session.secrets.offered.add("passphrase")
    session.secrets.sources["passphrase"] = FixedSource(STORE)
    record, profile = own_mesh(session)
    uri = Uri.parse(record.master)
    with session.open(uri) as store:
        again = create_profile_master(
            store.key(uri),
            [*profile.value.administrator_signature, P384.base],  # one more than was confirmed
            profile.value.escrow_encryption,
            now=datetime(2026, 1, 1, tzinfo=UTC),
        )
    assert again.value.udf == world.mesh
    path = world.laptop.state / "device" / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"master": again.envelope}))
    done = world.laptop.run("device", "show", "--json", secrets=SECRET)
    assert (done.code, done.error["type"]) == (7, "VerificationError")
    assert "not the one that was pinned" in done.error["message"]


class FixedSource:
    """A door through which one secret enters, for commands run in this process."""

    def __init__(self, secret: bytes) -> None:
        self.secret = secret

    def read(self) -> bytes:
        return self.secret


def test_a_key_of_that_label_is_neither_replaced_nor_undone(home: Home) -> None:
    """Undoing must not take a key that was there before."""
    made = home.ok(
        *("key", "generate", "--token", "soft:", "--use", "sign", "--label", "laptop-sign"),
        "--json",
        secrets=SECRET,
    ).json["key"]
    done = home.run(*INIT, "--json", secrets=SECRET)
    assert (done.code, done.error["type"]) == (11, "ConflictError")
    assert home.ok("key", "list", "--json").json["keys"] == [made]
    assert not (home.folder / "laptop.request.dare").exists()


def _connected_like(world: World, folder: Path) -> Path:
    from tests.cli.conftest import connect

    return connect(folder, "soft:", SECRET).laptop.state


# -- undone ----------------------------------------------------------------------------------------


class Fault:
    """Makes the nth call of a function fail, once."""

    def __init__(self, error: BaseException, at: int = 1) -> None:
        self.error = error
        self.at = at
        self.calls = 0

    def around(self, function: Callable[..., Any], *, after: bool) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            if self.calls == self.at and not after:
                raise self.error
            answer = function(*args, **kwargs)
            if self.calls == self.at:
                raise self.error
            return answer

        return wrapped


STEPS: dict[str, list[tuple[Any, str, int]]] = {
    "mesh create": [
        (mesh_hsm_cli.new_mesh, "seal_backup", 1),
        (mesh_hsm_cli.rollback, "write_atomic", 1),
        (mesh_hsm_cli.new_mesh, "drill", 1),
        (SoftwareToken, "import_scalar", 1),
        (SoftwareToken, "import_scalar", 2),
        (mesh_hsm_cli.new_mesh, "create_profile_master", 1),
        (_Record, "save", 1),
    ],
    "device init": [
        *((SoftwareToken, "generate", at) for at in (1, 2, 3, 4)),
        (SoftwareToken, "seal", 1),
        (mesh_hsm_cli.new_device, "create_request", 1),
        (mesh_hsm_cli.rollback, "write_atomic", 1),
        (_Record, "save", 1),
    ],
    "device connect": [
        (mesh_hsm_cli.administrator, "connect", 1),
        (mesh_hsm_cli.rollback, "write_atomic", 1),
        (_Record, "save", 1),
    ],
    "device activate": [
        (SoftwareToken, "unseal", 1),
        (mesh_hsm_cli.own_device, "activate", 1),
        (SoftwareToken, "seal", 1),
        (mesh_hsm_cli.rollback, "write_atomic", 1),
        (_Record, "save", 1),
    ],
    "device accept": [(mesh_hsm_cli.administrator, "accept", 1), (_Record, "save", 1)],
}
# Before the step a full disk, after it a signal; the other two once for each command.
FAULTS: dict[str, tuple[BaseException, bool, int]] = {
    "full disk": (StorageError("no space left"), False, 12),
    "terminated": (SystemExit(143), True, 143),
    "device error": (DeviceError("vanished"), False, 10),
    "Ctrl-C": (KeyboardInterrupt(), True, 130),
}
CASES = {
    f"{command}, {step[1]} {step[2]}, {fault}": (command, step, fault)
    for command, steps in STEPS.items()
    for step in steps
    for fault in FAULTS
    if fault in ("full disk", "terminated") or step is steps[0]
    if (command, step[1], fault) != ("device accept", "save", "terminated")  # it is done then
}


def test_a_file_that_came_meanwhile_is_neither_replaced_nor_removed(tmp_path: Path) -> None:
    path, said = tmp_path / "backup.json", list[str]()
    path.write_bytes(b"theirs")
    with pytest.raises(ConflictError), Rollback(said.append) as undo:
        undo.write_new(path, b"ours")
    assert path.read_bytes() == b"theirs"
    assert said == []


@pytest.fixture(scope="module")
def halfway(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Homes as each command finds them, by command."""
    base = tmp_path_factory.mktemp("halfway")
    home = Home(base / "now")
    home.folder.mkdir()

    def snapshot(command: str) -> None:
        shutil.copytree(home.folder, base / command)

    snapshot("mesh create")
    mesh = home.ok(*CREATE, "--json", secrets=BOTH).json["mesh"]["udf"]
    snapshot("device init")
    device = home.ok(*INIT, "--json", secrets=SECRET).json["device"]["udf"]
    snapshot("device connect")
    home.ok(*_arguments("device connect", mesh, device), secrets={"passphrase": STORE})
    snapshot("device activate")
    home.ok(*_arguments("device activate", mesh, device), secrets=SECRET)
    snapshot("device accept")
    (base / "udfs").write_text(f"{mesh} {device}")
    return base


def _arguments(command: str, mesh: str, device: str) -> tuple[str, ...]:
    return {
        "mesh create": CREATE,
        "device init": INIT,
        "device connect": (
            *("device", "connect", "laptop.request.dare", "--out", "r", "--confirm-udf", device),
        ),
        "device activate": ("device", "activate", "r", "--out", "c", "--confirm-udf", mesh),
        "device accept": ("device", "accept", "c"),
    }[command]


@pytest.mark.parametrize("case", CASES)
def test_a_step_that_fails_undoes_the_others(
    halfway: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    """In this process, so that a fault can be made where no simulator makes one."""
    command, (place, name, at), fault = CASES[case]
    error, after, expected = FAULTS[fault]
    folder = tmp_path / "home"
    shutil.copytree(halfway / command, folder)
    mesh, device = (halfway / "udfs").read_text().split()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MESH_HSM_HOME", str(folder / "state"))
    monkeypatch.setenv("PHRASE", PASSPHRASE.decode())
    monkeypatch.setenv("STORE", STORE.decode())
    options = {
        "mesh create": ("--passphrase-env", "PHRASE", "--store-passphrase-env", "STORE"),
        "device connect": ("--passphrase-env", "STORE"),
        "device accept": (),
    }.get(command, ("--passphrase-env", "PHRASE"))
    arguments = [*_arguments(command, mesh, device), *options]
    before = tree(folder)
    wrapped = Fault(error, at).around(getattr(place, name), after=after)
    with monkeypatch.context() as patch:
        patch.setattr(place, name, wrapped)
        try:
            code = main.main(arguments)
        except SystemExit as ended:
            code = int(str(ended.code))
    assert code == expected
    left = tree(folder)
    stores = {path for path in left if path.endswith(".keys")}
    assert {n: o for n, o in left.items() if n not in stores} == {
        n: o for n, o in before.items() if n not in stores
    }
    assert _labels(folder, left, stores) == _labels(folder, before, stores)
    assert main.main(arguments) == 0


def _labels(folder: Path, files: dict[str, bytes], stores: set[str]) -> list[str]:
    """The keys in every store: a store may have been rewritten, its keys must be the same."""
    return sorted(
        label
        for path in stores & files.keys()
        for label in json.loads(files[path])["public"]["keys"]
    )
