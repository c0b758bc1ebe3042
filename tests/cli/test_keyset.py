"""A key that two of three administrators use together, on the command line, over three HSMs."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from mesh_hsm.custody import Hardware
from mesh_hsm.errors import ProviderUnavailableError, UnsupportedError
from mesh_hsm.provider import Capability, DeviceKey, Token, TokenInfo
from mesh_hsm.secret_source import SecretKind, SecretRequest
from mesh_hsm.testing.softhsm import Softhsm
from mesh_hsm.uri import Uri
from mesh_hsm_cli import new_key_set
from mesh_hsm_cli.administrator_secrets import AdministratorSecrets
from mesh_hsm_cli.commands import keyset
from mesh_hsm_cli.new_key_set import NewKeySet
from mesh_hsm_cli.secret_options import CommandSecrets, Variable
from tests.cli.conftest import PASSPHRASE, STORE, Home, Run, World, on_terminal
from tests.simulators.pkcs11.interposer import Action, Interposer, Rule

NAMES = ("anna", "ben", "carla")
PARTS = ["board-AB", "board-AB+AC", "board-AC", "board-BC", "board-BC"]
CREATE = ("keyset", "create", "--name", "board", "--algorithm", "X25519")


@dataclass(frozen=True)
class Board:
    """An administrator of a Mesh, a laptop in it, and the tokens of anna, ben and carla."""

    admin: Home
    laptop: Home
    folder: Path
    pins: dict[str, str]
    uris: dict[str, str]

    def tokens(self, *names: str) -> tuple[str, ...]:
        """Options that name the tokens."""
        return tuple(w for n in names or NAMES for w in ("--token", f"{n}={self.uris[n]}"))

    def given(self, *names: str) -> tuple[str, ...]:
        """Options that say where PINs are: in the environment of every home."""
        return tuple(w for n in names for w in ("--admin-pin-env", f"{n}=PIN_{n}"))

    def create(self, *more: str, **settings: Any) -> Run:
        arguments = (*CREATE, *self.tokens(), *self.given(*NAMES), *more)
        return self.admin.run(*arguments, secrets={"passphrase": STORE}, **settings)

    def decode(self, *names: str, **settings: Any) -> Run:
        return self.admin.run("dare", "decode", "../letter.dare", *self.given(*names), **settings)

    def unplug(self, *names: str) -> None:
        for name in names:
            shutil.move(self.folder / "tokens" / name, self.folder / f"away-{name}")

    def plug_in(self, *names: str) -> None:
        for name in names:
            shutil.move(self.folder / f"away-{name}", self.folder / "tokens" / name)

    def parts(self) -> list[str]:
        keys = self.admin.ok("key", "list", "--json").json["keys"]
        return sorted(key["label"] for key in keys if key["label"].startswith("board"))

    def nothing_is_left(self) -> None:
        assert self.parts() == []
        assert not (self.admin.folder / "board.keyset.dare").exists()
        assert not list((self.admin.state / "keysets").rglob("*.json"))
        assert self.admin.ok("keyset", "list", "--json").json == {"keysets": []}


@pytest.fixture(scope="session")
def _rig(tmp_path_factory: pytest.TempPathFactory) -> Board:
    """Three empty tokens, each in a folder by its owner's name; the homes are others'."""
    try:
        rig = Softhsm("anna")
    except ProviderUnavailableError as error:
        pytest.skip(f"{error} ({error.hint})")
    with rig:
        folder = tmp_path_factory.mktemp("board")
        (folder / "tokens").mkdir()
        made, seen = [rig.token], set[Path]()
        for name in NAMES:
            if name != "anna":
                made.append(rig.add_token(name))
            (new,) = set((rig.folder / "tokens").iterdir()) - seen
            seen.add(new)
            shutil.copytree(new, folder / "tokens" / name)
    home = Home(folder, rig.environment)
    pins = {one.label: one.pin for one in made}
    return Board(home, home, folder, pins, {one.label: one.uri for one in made})


@pytest.fixture(scope="session")
def _empty(_rig: Board, _soft_world: World, tmp_path_factory: pytest.TempPathFactory) -> Board:
    folder = tmp_path_factory.mktemp("empty") / "world"
    shutil.copytree(_soft_world.folder, folder)
    shutil.copytree(_rig.folder / "tokens", folder / "tokens")
    (folder / "letter").write_text("hello")
    return _at(folder, _rig)


@pytest.fixture(scope="session")
def _board(_empty: Board, tmp_path_factory: pytest.TempPathFactory) -> Board:
    board = _copy(_empty, tmp_path_factory.mktemp("board") / "world")
    made = board.create()
    assert made.code == 0, made.err
    board.admin.ok("dare", "encode", "../letter", "-r", "board", "--no-escrow-recipient")
    return board


@pytest.fixture
def empty(_empty: Board, tmp_path: Path) -> Board:
    """The connected world, and three tokens with nothing on them, to be spoilt at will."""
    return _copy(_empty, tmp_path / "world")


@pytest.fixture
def board(_board: Board, tmp_path: Path) -> Board:
    """A key set that is made, and a letter to it."""
    return _copy(_board, tmp_path / "world")


def _copy(board: Board, folder: Path) -> Board:
    shutil.copytree(board.folder, folder)
    return _at(folder, board)


def _at(folder: Path, board: Board) -> Board:
    conf = folder / "softhsm2.conf"
    conf.write_text(f"directories.tokendir = {folder}/tokens\nlog.level = ERROR\n")
    env = board.admin.env | {"SOFTHSM2_CONF": str(conf)}
    env |= {f"PIN_{name}": pin for name, pin in board.pins.items()}
    admin, laptop = Home(folder / "admin", env), Home(folder / "laptop", env)
    return replace(board, admin=admin, laptop=laptop, folder=folder)


# -- what it is for --------------------------------------------------------------------------------


def test_the_promise(board: Board) -> None:
    """Any two open it, no one does, and whoever is missing is named."""
    assert board.parts() == PARTS
    for missing in NAMES:
        two = [name for name in NAMES if name != missing]
        board.unplug(missing)
        opened = board.decode(*two)
        assert (opened.code, opened.out) == (0, "hello"), opened.err
        assert f"opening with {two[0]} and {two[1]}" in opened.err
        board.plug_in(missing)
    for alone in NAMES:
        others = [name for name in NAMES if name != alone]
        board.unplug(*others)
        refused = board.decode(alone)
        assert (refused.code, refused.out) == (8, "")
        expected = f"{alone}'s is here, that of {others[0]} or {others[1]} is needed as well"
        assert expected in refused.err
        board.plug_in(*others)
    board.unplug(*NAMES)
    refused = board.decode()
    assert refused.code == 8
    assert "two of anna, ben and carla: none is here" in refused.err


def test_what_is_said_of_it(board: Board) -> None:
    shown = board.admin.ok("keyset", "show", "board", "--json").json["keyset"]
    assert (shown["trusted"], shown["reason"], shown["algorithm"]) == (True, None, "X25519")
    custody = shown["custody"]
    assert (custody["threshold"], len(custody["shares"])) == (2, 3)
    assert (custody["theft"], custody["loss"]) == ("imported", "imported")
    mesh = board.admin.ok("mesh", "show", "--json").json["mesh"]
    assert shown["dealer"] in mesh["administrators"]
    for admin in shown["administrators"]:
        for part in admin["parts"]:
            assert part["custody"]["known_by"] == [f"the dealer: {shown['dealer']}"]
            assert all(admin["name"] in pair for pair in part["pairs"])
    assert any("nobody can prove" in note for note in shown["notes"])
    spoken = board.admin.ok("keyset", "show", shown["udf"][:14]).out
    assert "part: board-BC, with carla" in spoken
    assert "2 of 3 shares" in spoken
    assert "anna, ben, carla" in board.admin.ok("keyset", "list").out
    said = board.admin.run("keyset", "show", "bored")
    assert (said.code, "keyset list" in said.err) == (4, True)


def test_secrets_are_nowhere(board: Board) -> None:
    """Neither PINs nor private scalars: the parts' octets are on the tokens alone, encrypted."""
    for home in (board.admin, board.laptop):
        for path in home.folder.rglob("*"):
            if path.is_file():
                octets = path.read_bytes()
                assert not any(pin.encode() in octets for pin in board.pins.values()), path
    record = json.loads((board.admin.folder / "board.keyset.dare").read_bytes())
    assert record == board_record(board)["envelope"]


def board_record(board: Board) -> dict[str, Any]:
    (path,) = (board.admin.state / "keysets").glob("*.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_each_is_asked_for_his_own_pin(board: Board) -> None:
    """On the terminal by name; nothing else is tried on a token."""
    talk = [
        (b"(administrator anna): ", f"{board.pins['anna']}\n".encode()),
        (b"(administrator ben): ", f"{board.pins['ben']}\n".encode()),
    ]
    code, seen = on_terminal(board.admin, ("dare", "decode", "../letter.dare"), talk)
    assert code == 0
    assert "hello" in seen
    without = board.decode("ben", "carla")
    assert "opening with ben and carla" in without.err
    lacks = board.decode("carla")
    assert lacks.code == 5
    assert "--admin-pin-fd anna=N" in lacks.err
    given = ("--admin-pin-fd", "ben=0", *board.given("carla"))
    pin = f"{board.pins['ben']}\n".encode()
    assert board.admin.ok("dare", "decode", "../letter.dare", *given, stdin=pin).out == "hello"


def test_a_wrong_pin(board: Board) -> None:
    """Ben's is wrong: his alone is counted, and nothing comes out."""
    wrong = board.decode("anna", "ben", env={"PIN_ben": "0000-0000"})
    assert (wrong.code, wrong.out) == (5, "")
    assert "ben" in wrong.err
    empty = board.decode("anna", "ben", env={"PIN_ben": ""})
    assert empty.code == 5
    assert board.decode("anna", "ben").out == "hello"


def test_a_device_of_one_s_own_comes_first(board: Board) -> None:
    """A file for the laptop and for the board asks no administrator."""
    both = ("dare", "encode", "../letter", "-r", "laptop", "-r", "board", "--force")
    said = board.admin.ok(*both)
    assert "opens it without any administrator" in said.err
    board.laptop.ok("keyset", "add", "../admin/board.keyset.dare")
    opened = board.laptop.ok("dare", "decode", "../letter.dare", secrets={"passphrase": PASSPHRASE})
    assert opened.out == "hello"
    assert "opening with" not in opened.err
    backup = ("dare", "decode", "../letter.dare", "--backup", "../backup.json")
    assert board.admin.ok(*backup, secrets={"passphrase": PASSPHRASE}).out == "hello"


# -- whom to believe -------------------------------------------------------------------------------


def test_on_another_machine_of_the_mesh(board: Board) -> None:
    record = "../admin/board.keyset.dare"
    letter = ("dare", "encode", "../letter", "--force")
    assert board.laptop.run(*letter, "-r", "board").code == 4
    board.laptop.ok(*letter, "-r", record)  # a file does, where its Mesh is known
    board.laptop.ok("keyset", "add", record)
    board.laptop.ok("keyset", "add", record)  # twice is no conflict
    board.laptop.ok(*letter, "-r", "board")
    opened = board.laptop.ok("dare", "decode", "../letter.dare", *board.given("anna", "carla"))
    assert opened.out == "hello"


def test_on_a_machine_that_knows_nobody(board: Board, make_home: Any) -> None:
    """It is no recipient there, and opens what was encrypted all the same."""
    stranger = make_home("stranger", **board.admin.env)
    shutil.copy(board.admin.folder / "board.keyset.dare", stranger.folder)
    shutil.copy(board.folder / "letter.dare", stranger.folder)
    for refused in (
        ("keyset", "add", "board.keyset.dare"),
        ("dare", "encode", "letter.dare", "-r", "./board.keyset.dare"),
    ):
        done = stranger.run(*refused)
        assert done.code == 7
        assert "no administrator of a Mesh that is known here" in done.err
    shown = stranger.ok("keyset", "show", "./board.keyset.dare").out
    assert "trusted:   no: no administrator" in shown
    decode = ("dare", "decode", "letter.dare", *board.given("ben", "carla"))
    assert stranger.run(*decode).code == 8
    assert stranger.ok(*decode, "--keyset", "board.keyset.dare").out == "hello"


def test_an_altered_record_is_no_recipient(board: Board) -> None:
    path = board.admin.folder / "board.keyset.dare"
    header, payload, trailer = json.loads(path.read_text())
    changed = ("A" if payload[400] != "A" else "B").join((payload[:400], payload[401:]))
    path.write_text(json.dumps([header, changed, trailer]))
    done = board.admin.run("dare", "encode", "../letter", "-r", "./board.keyset.dare", "--force")
    assert done.code in (3, 7)


def test_an_administrator_who_is_none_any_more(board: Board) -> None:
    """Nothing is encrypted to what he signed; what was, opens."""
    board.admin.ok(
        *("admin", "add", "--token", "soft:store=new", "--label", "new"),
        secrets={"passphrase": STORE, "new-passphrase": STORE},
    )
    board.admin.ok("admin", "remove", "mesh-administrator", "--yes", secrets={"passphrase": STORE})
    for name in ("board", "./board.keyset.dare"):
        refused = board.admin.run("dare", "encode", "../letter", "-r", name, "--force")
        assert refused.code == 7, refused.err
    assert board.decode("anna", "ben").out == "hello"
    assert "no: no administrator" in board.admin.ok("keyset", "list").out
    found = {one["code"] for one in board.admin.run("doctor", "--json").json["findings"]}
    assert "KEYSET002" in found


def test_one_name_for_a_key_set_and_a_device(board: Board) -> None:
    udf = board_record(board)["udf"]
    (path,) = (board.admin.state / "mesh" / "devices").glob("*.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"label": "board"}))
    encode = ("dare", "encode", "../letter", "--force", "-r")
    assert "of a key set and of a device" in board.admin.run(*encode, "board").err
    board.admin.ok(*encode, udf)


def test_two_key_sets_of_one_name(board: Board) -> None:
    """A second board cannot be made here, nor filed."""
    again = board.create("--out", "second.dare")
    assert again.code == 11
    assert "another key set is called board" in again.err
    (path,) = (board.admin.state / "keysets").glob("*.json")
    path.rename(path.with_name("away"))
    refused = board.create("--out", "second.dare")  # its parts have these labels on the tokens
    assert refused.code == 11
    assert "has a key board-AB+AC already" in refused.err
    assert board.parts() == PARTS


def test_parts_are_not_deleted_by_accident(board: Board) -> None:
    pin = {"pin": board.pins["anna"].encode()}
    kept = board.admin.run("key", "delete", "board-AB+AC", "--yes", secrets=pin)
    assert kept.code == 11
    assert "a part of the key set board: without it" in kept.err
    officer = ("token", "init", board.uris["ben"], "--label", "x", "--erase", "--yes")
    erased = board.admin.run(*officer)
    assert erased.code == 11
    assert "a part of the key set board: without it" in erased.err
    board.admin.ok("key", "delete", "board-AB+AC", "--yes", "--force", secrets=pin)
    assert board.decode("ben", "carla").out == "hello"


# -- making one, or nothing ------------------------------------------------------------------------


REFUSED: dict[str, tuple[tuple[str, ...], int, str]] = {
    "two administrators": (("--token", "anna=anna", "--token", "ben=ben"), 2, "three"),
    "four administrators": (
        tuple(w for n in (*NAMES, "dan") for w in ("--token", f"{n}=anna")),
        2,
        "three",
    ),
    "one name twice": (
        ("--token", "anna=anna", "--token", "anna=ben", "--token", "carla=carla"),
        3,
        "different names",
    ),
    "one token twice": (
        ("--token", "anna=anna", "--token", "ben=anna", "--token", "carla=carla"),
        11,
        "two administrators",
    ),
    "no token of that name": (
        ("--token", "anna=anna", "--token", "ben=ben", "--token", "carla=karla"),
        4,
        "karla",
    ),
    "no name": (("--token", "anna", "--token", "ben=ben", "--token", "carla=carla"), 2, "NAME="),
    "a name that is none": (
        ("--token", "an na=anna", "--token", "ben=ben", "--token", "carla=carla"),
        3,
        "a name is",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_anything_is_done(empty: Board, case: str) -> None:
    tokens, code, said = REFUSED[case]
    done = empty.admin.run(*CREATE, *tokens, *empty.given(*NAMES), secrets={"passphrase": STORE})
    assert done.code == code, done.err
    assert said in done.err
    empty.nothing_is_left()


def test_refused_by_what_is_there(empty: Board) -> None:
    bad = empty.create("--name", "bo/ard")
    assert (bad.code, "a name is" in bad.err) == (3, True)
    curve = empty.create("--algorithm", "Ed25519")
    assert curve.code == 6
    (empty.admin.folder / "there").write_text("mine")
    assert empty.create("--out", "there").code == 11
    assert (empty.admin.folder / "there").read_text() == "mine"
    nobody = empty.laptop.run(*CREATE, *empty.tokens())
    assert (nobody.code, "no Mesh is administered here" in nobody.err) == (4, True)
    empty.nothing_is_left()


def test_the_strongest_curve_in_common(empty: Board) -> None:
    arguments = ("keyset", "create", "--name", "board", *empty.tokens(), *empty.given(*NAMES))
    made = empty.admin.ok(*arguments, "--json", secrets={"passphrase": STORE}).json["keyset"]
    assert made["algorithm"] == "X448"


@pytest.mark.parametrize("wrong", NAMES)
def test_a_wrong_pin_takes_everything_back(empty: Board, wrong: str) -> None:
    """Carla's comes last: by then anna and ben have their parts."""
    done = empty.create(env={f"PIN_{wrong}": "0000-0000"})
    assert done.code == 5
    assert wrong in done.err
    empty.nothing_is_left()
    assert empty.create().code == 0


def test_a_wrong_passphrase_of_the_administrator_takes_everything_back(empty: Board) -> None:
    arguments = (*CREATE, *empty.tokens(), *empty.given(*NAMES))
    done = empty.admin.run(*arguments, secrets={"passphrase": b"another passphrase"})
    assert done.code == 5
    empty.nothing_is_left()


def test_interrupted_at_a_prompt(empty: Board) -> None:
    """Control-C where ben is asked: anna's part is deleted again."""
    talk = [
        (b"(administrator anna): ", f"{empty.pins['anna']}\n".encode()),
        (b"(administrator ben): ", b"\x03"),
    ]
    code, seen = on_terminal(empty.admin, (*CREATE, *empty.tokens()), talk)
    assert code == 130, seen
    empty.nothing_is_left()


@pytest.mark.parametrize("nth", [1, 3, 5])
def test_a_token_that_fails(empty: Board, tmp_path: Path, nth: int) -> None:
    """At the first part, amid ben's, at the last: nothing stays, and what failed is told."""
    interposer = Interposer(Path(empty.admin.env["MESH_HSM_PKCS11_MODULE"]), tmp_path / "module")
    rules = [Rule("C_CreateObject", 2 * nth, Action.FAIL)]  # a part is a private and a public one
    env = {"MESH_HSM_PKCS11_MODULE": str(interposer.path)} | interposer.environment(rules=rules)
    done = empty.create(env=env)
    assert done.code == 10, done.err
    empty.nothing_is_left()


def test_killed_amid_the_parts(empty: Board, tmp_path: Path) -> None:
    """What a killed command left is named by doctor, and deleted by the next."""
    interposer = Interposer(Path(empty.admin.env["MESH_HSM_PKCS11_MODULE"]), tmp_path / "module")
    rules = [Rule("C_CreateObject", 6, Action.KILL_AFTER)]
    env = {"MESH_HSM_PKCS11_MODULE": str(interposer.path)} | interposer.environment(rules=rules)
    assert empty.create(env=env).code == -signal.SIGKILL
    found = [
        one
        for one in empty.admin.run("doctor", "--json").json["findings"]
        if one["code"] == "KEYSET001"
    ]
    assert any("board-AB+AC" in one["problem"] for one in found)
    again = empty.create()
    assert again.code == 0, again.err
    assert "deleted board-AB+AC, left by a command that was interrupted" in again.err
    assert empty.parts() == PARTS
    assert not list((empty.admin.state / "keysets" / "interrupted").iterdir())


DYING = """
import os, signal, sys
from mesh_hsm_cli import main
from mesh_hsm_cli.rollback import Rollback
def leave(self, *error: object) -> None:
    self._notes[0].unlink()
    os.kill(os.getpid(), signal.SIGKILL)
Rollback.__exit__ = leave
sys.exit(main.main(sys.argv[1:]))
"""


def test_parts_of_a_key_set_that_was_written_before_the_command_died_stay(world: World) -> None:
    """Two of its tokens still have a note; the record is there, and may be filed and used."""
    phrases = {f"PIN_{name}": f"the phrase of {name}" for name in NAMES}
    home = Home(world.admin.folder, phrases)
    tokens = tuple(w for n in NAMES for w in ("--token", f"{n}=soft:store={n}"))
    given = tuple(w for n in NAMES for w in ("--admin-pin-env", f"{n}=PIN_{n}"))
    create = ("keyset", "create", "--name", "files", *tokens, *given)
    died = subprocess.run(
        [sys.executable, "-c", DYING, *create, "--passphrase-env", "STORE"],
        cwd=home.folder,
        env=home.environment(STORE=STORE.decode()),
        capture_output=True,
        check=False,
    )
    assert died.returncode == -signal.SIGKILL, died.stderr
    home.ok("keyset", "add", "files.keyset.dare")
    (home.folder / "letter").write_text("hello")
    home.ok("dare", "encode", "letter", "-r", "files", "--no-escrow-recipient")
    home.ok("keyset", "create", "--name", "more", *tokens, *given, secrets={"passphrase": STORE})
    assert home.ok("dare", "decode", "letter.dare", *given[2:]).out == "hello"


# -- where PINs come from --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--admin-pin-fd", "anna"), "NAME=VALUE"),
        (("--admin-pin-fd", "anna=x"), "no file descriptor"),
        (("--admin-pin-env", "=x"), "NAME=VALUE"),
        (("--admin-pin-fd", "anna=3", "--admin-pin-fd", "ben=3"), "one secret, not two"),
        (("--pin-fd", "3", "--admin-pin-fd", "ben=3"), "one secret, not two"),
        (("--admin-pin-fd", "anna=3", "--admin-pin-env", "anna=X"), "two sources"),
        (("--admin-pin-env", "anna=X", "--admin-pin-env", "anna=Y"), "two sources"),
    ],
    ids=" ".join,
)
def test_wrong_sources(home: Home, options: tuple[str, ...], said: str) -> None:
    done = home.run("dare", "decode", "x", *options)
    assert done.code == 2
    assert said in done.err


def test_a_key_that_is_no_part_is_passed_over(board: Board) -> None:
    """Somebody else's X25519 keys on a token, and a damaged set of parts, are no administrator."""
    pin = {"pin": board.pins["ben"].encode()}
    generate = ("key", "generate", "--token", "ben", "--use", "encrypt", "--algorithm", "X25519")
    board.admin.ok(*generate, "--label", "own", secrets=pin)
    assert board.decode("anna", "ben").out == "hello"
    uri = f"{board.uris['ben']};object=board-AB"
    board.admin.ok("key", "delete", uri, "--yes", "--force", secrets=pin)
    assert "opening with anna and carla" in board.decode("anna", "carla").err
    board.unplug("carla")
    assert "that of ben or carla" in board.decode("anna", "ben").err


# -- what no three tokens here show ----------------------------------------------------------------


class Bare(Token):
    """A device that makes keys and takes none from outside."""

    def __init__(self) -> None:
        uri = Uri.parse("bare:")
        self.info = TokenInfo(uri, "bare", "nobody", "none", None, None, Hardware.CLAIMED)

    def capabilities(self) -> frozenset[Capability]:
        return frozenset()

    def keys(self) -> list[DeviceKey]:
        return []

    def key(self, uri: Uri) -> DeviceKey:
        raise NotImplementedError

    generate = delete = key  # type: ignore[assignment]  never called

    def close(self) -> None: ...


def test_a_token_that_takes_nothing_from_outside() -> None:
    wanted = NewKeySet("board", (), None, None, None, Path("out"))
    with pytest.raises(UnsupportedError, match="no keys from outside") as caught:
        new_key_set._specs(dict.fromkeys("ABC", Bare()), wanted)
    assert caught.value.uri == "bare:"


def test_no_curve_in_common(empty: Board) -> None:
    """Tokens that sign alone."""
    conf = Path(empty.admin.env["SOFTHSM2_CONF"])
    conf.write_text(conf.read_text() + "slots.mechanisms = CKM_EC_KEY_PAIR_GEN,CKM_ECDSA\n")
    arguments = ("keyset", "create", "--name", "board", *empty.tokens(), *empty.given(*NAMES))
    done = empty.admin.run(*arguments, secrets={"passphrase": STORE})
    assert done.code == 6
    assert "no curve in common" in done.err


def test_three_key_files(world: World) -> None:
    """They work like devices, each under a passphrase of its own, and are said to be files."""
    home = Home(world.admin.folder, {f"PIN_{name}": f"the phrase of {name}" for name in NAMES})
    tokens = (w for n in NAMES for w in ("--token", f"{n}=soft:store={n}"))
    given = tuple(w for n in NAMES for w in ("--admin-pin-env", f"{n}=PIN_{n}"))
    create = ("keyset", "create", "--name", "files", "--dealer", "dora", *tokens, *given)
    made = home.ok(*create, secrets={"passphrase": STORE})
    assert "anna is a FILE, not a device" in made.err
    assert "known by: the dealer: dora" in made.out
    (home.folder / "letter").write_text("hello")
    home.ok("dare", "encode", "letter", "-r", "files")
    assert home.ok("dare", "decode", "letter.dare", *given[2:]).out == "hello"


def test_parts_of_one_token_that_differ_are_shown_apart(board: Board) -> None:
    shown = board.admin.ok("keyset", "show", "board", "--json").json["keyset"]
    part = shown["administrators"][1]["parts"][0]
    part["custody"] = part["custody"] | {"firmware": "9.9"}
    said = "\n".join(keyset.lines(shown))
    assert said.count("9.9") == 1


@pytest.mark.parametrize("content", [b"", b"hello", b"[1]"])
def test_a_file_that_is_no_key_set_is_no_recipient(board: Board, content: bytes) -> None:
    (board.folder / "x.dare").write_bytes(content)
    for name in ("../x.dare", "../letter.dare"):
        assert board.admin.run("dare", "encode", "../letter", "-r", name, "--force").code in (3, 7)


def test_what_fits_several_key_sets_fits_none(board: Board) -> None:
    (path,) = (board.admin.state / "keysets").glob("*.json")
    shutil.copy(path, path.with_name("copy.json"))
    done = board.admin.run("keyset", "show", "board")
    assert (done.code, "fits 2 key sets" in done.err) == (4, True)


def test_one_answer_serves_all_keys_of_an_administrator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked once, counted aloud; what is no PIN of his is asked as the command asks it."""
    said: list[str] = []
    command = CommandSecrets(said.append)
    command.remembered[SecretKind.OWNER_AUTH, "TPM"] = b"owner"
    command.last_try = True
    monkeypatch.setenv("PIN_ANNA", "2718")
    command.administrators["anna"] = Variable("PIN_ANNA")
    anna = AdministratorSecrets("anna", command)
    for kind in (SecretKind.PIN, SecretKind.NEW_PIN, SecretKind.PIN):
        assert anna.secret(SecretRequest(kind, "key", 3)) == b"2718"
        monkeypatch.delenv("PIN_ANNA", raising=False)
    assert said == 3 * ["key: 3 tries left"]
    assert anna.secret(SecretRequest(SecretKind.OWNER_AUTH, "TPM")) == b"owner"
    assert anna.consents_to_last_try(SecretRequest(SecretKind.PIN, "key", 1))
    assert "2718" not in repr(anna) + repr(command)
    with anna.awaiting_touch("key"):
        pass


def test_whose_device_waits_for_a_touch() -> None:
    waiting: list[str] = []

    class Touching(CommandSecrets):
        @contextmanager
        def awaiting_touch(self, subject: str) -> Iterator[None]:
            waiting.append(subject)
            yield

    with AdministratorSecrets("anna", Touching(print)).awaiting_touch("slot 9d"):
        assert waiting == ["slot 9d (administrator anna)"]
