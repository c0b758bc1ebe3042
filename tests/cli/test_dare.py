"""Files: for whom, by whom, where they go, and what never happens to a file that does not check."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mesh_hsm.errors import ConflictError
from mesh_hsm_cli.paths import output_stream
from tests.cli.conftest import PASSPHRASE, PROGRAM, STORE, Home, World, connect, on_terminal

SECRET = {"passphrase": PASSPHRASE}
TEXT = b"only the laptop can read this\n" * 1000


@pytest.fixture
def letter(world: World) -> World:
    (world.admin.folder / "letter").write_bytes(TEXT)
    world.admin.ok("dare", "encode", "letter", "-r", "laptop", "-o", "../letter.dare")
    return world


def test_to_the_laptop_and_back(letter: World) -> None:
    done = letter.laptop.ok("dare", "decode", "../letter.dare", "-o", "back", secrets=SECRET)
    assert (letter.laptop.folder / "back").read_bytes() == TEXT
    assert "authenticated: yes" in done.out


def test_the_backup_opens_it_too(letter: World) -> None:
    letter.admin.ok(
        *("dare", "decode", "../letter.dare", "-o", "back", "--backup", "../backup.json"),
        secrets=SECRET,
    )
    assert (letter.admin.folder / "back").read_bytes() == TEXT


def test_not_for_the_backup(world: World) -> None:
    (world.admin.folder / "letter").write_bytes(TEXT)
    world.admin.ok("dare", "encode", "letter", "-r", "laptop", "--no-escrow-recipient")
    done = world.admin.run(
        *("dare", "decode", "letter.dare", "-o", "back", "--backup", "../backup.json", "--json"),
        secrets=SECRET,
    )
    assert (done.code, done.error["type"]) == (8, "DecryptionError")
    assert not (world.admin.folder / "back").exists()


def test_through_pipes(world: World) -> None:
    sealed = subprocess.run(
        [*PROGRAM, "dare", "encode", "-", "-r", "laptop"],
        input=TEXT,
        cwd=world.admin.folder,
        env=world.admin.environment(),
        capture_output=True,
        check=True,
    ).stdout
    assert TEXT[:20] not in sealed
    opened = world.laptop.ok("dare", "decode", "-", secrets=SECRET, stdin=sealed)
    assert opened.out.encode() == TEXT


def test_standard_input_is_read_from_where_it_stands(world: World) -> None:
    (world.admin.folder / "letter").write_bytes(b"a line\n" + TEXT)
    with (world.admin.folder / "letter").open("rb") as file:
        os.lseek(file.fileno(), 7, os.SEEK_SET)
        sealed = subprocess.run(
            [*PROGRAM, "dare", "encode", "-", "-r", "laptop"],
            stdin=file,
            cwd=world.admin.folder,
            env=world.admin.environment(),
            capture_output=True,
            check=True,
        ).stdout
    opened = world.laptop.ok("dare", "decode", "-", secrets=SECRET, stdin=sealed)
    assert opened.out.encode() == TEXT


def test_a_pipe_gets_nothing_before_everything_was_checked(letter: World) -> None:
    data = bytearray((letter.folder / "letter.dare").read_bytes())
    data[-40] ^= 1  # in the tag, or in the text behind it
    done = letter.laptop.run("dare", "decode", "-", secrets=SECRET, stdin=bytes(data))
    assert done.code in (3, 8)
    assert done.out == ""


@pytest.mark.parametrize("prefix", ["label", "UDF", "beginning of the UDF", "connection"])
def test_names_of_a_recipient(letter: World, prefix: str) -> None:
    name = {
        "label": "laptop",
        "UDF": letter.device,
        "beginning of the UDF": letter.device[:9],
        "connection": "../connection.dare",
    }[prefix]
    for home in (letter.admin, letter.laptop):
        (home.folder / "note").write_bytes(b"x")
        home.ok("dare", "encode", "note", "-r", name)
        report = home.ok("dare", "info", "note.dare", "--json").json["report"]
        assert len(report["recipients"]) == 2
        letter.laptop.ok("dare", "decode", f"{home.folder}/note.dare", secrets=SECRET)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("tablet", 4),
        ("../request.dare", 7),
        ("../nothing.dare", 4),
        ("../backup.json", 7),
    ],
)
def test_names_of_nobody(letter: World, name: str, code: int) -> None:
    assert letter.admin.run("dare", "encode", "letter", "-r", name).code == code
    assert not (letter.admin.folder / "letter.dare").exists()


def test_signed_by_the_device_and_verified_by_the_administrator(letter: World) -> None:
    for name in ("device", "laptop", letter.device[:9]):
        letter.laptop.ok(
            *("dare", "encode", "../letter.dare", "--sign", name, "-o", "signed", "--force"),
            secrets=SECRET,
        )
        report = letter.admin.ok("dare", "verify", "../laptop/signed", "--json").json["report"]
        assert [one["status"] for one in report["signers"]] == ["verified"]
    shown = letter.admin.ok("dare", "verify", "../laptop/signed").out
    assert "(verified)" in shown


def test_a_signature_of_nobody_we_know_is_not_verified(letter: World) -> None:
    stranger = Home(letter.folder / "stranger")
    stranger.folder.mkdir()
    stranger.ok(
        "key", "generate", "--token", "soft:", "--use", "sign", "--label", "me", secrets=SECRET
    )
    stranger.ok("dare", "encode", "../letter.dare", "--sign", "me", "-o", "signed", secrets=SECRET)
    done = letter.admin.run("dare", "verify", "../stranger/signed", "--json")
    assert (done.code, done.error["type"]) == (7, "CannotVerifyError")
    assert letter.laptop.run("dare", "decode", "../stranger/signed", "-o", "x").code == 7
    assert not (letter.laptop.folder / "x").exists()


@pytest.mark.parametrize(
    "key", ["laptop-profile", "laptop-sign", "laptop-encrypt", "soft:key=laptop-profile"]
)
def test_a_base_key_never_signs_for_strangers(letter: World, key: str) -> None:
    done = letter.laptop.run(
        *("dare", "encode", "../letter.dare", "--sign", key, "-o", "x", "--json"), secrets=SECRET
    )
    assert (done.code, done.error["type"]) == (6, "UnsupportedError")
    assert not (letter.laptop.folder / "x").exists()


@pytest.mark.parametrize("key", ["pending-profile", "pending-sign"])
def test_nor_before_its_device_is_activated(home: Home, key: str) -> None:
    home.ok(*("device", "init", "--name", "pending", "--token", "soft:"), secrets=SECRET)
    (home.folder / "letter").write_bytes(TEXT)
    done = home.run(
        *("dare", "encode", "letter", "--sign", key, "-o", "x", "--json"), secrets=SECRET
    )
    assert (done.code, done.error["type"]) == (6, "UnsupportedError")
    assert not (home.folder / "x").exists()


def test_an_unsigned_file_cannot_be_verified(letter: World) -> None:
    done = letter.admin.run("dare", "verify", "../letter.dare", "--json")
    assert (done.code, done.error["type"]) == (7, "CannotVerifyError")


def test_armor(letter: World) -> None:
    letter.admin.ok("dare", "encode", "letter", "-r", "laptop", "--armor", "-o", "text.dare")
    assert (letter.admin.folder / "text.dare").read_bytes().isascii()
    opened = letter.laptop.ok("dare", "decode", "../admin/text.dare", secrets=SECRET)
    assert opened.out.encode() == TEXT


def test_interop_is_the_published_form(letter: World) -> None:
    letter.admin.ok("dare", "encode", "letter", "-r", "laptop", "--interop", "-o", "old.dare")
    info = letter.admin.ok("dare", "info", "old.dare", "--json").json["report"]
    assert info["form"] == "published"
    refused = letter.laptop.run("dare", "decode", "../admin/old.dare", "-o", "x", secrets=SECRET)
    assert refused.code != 0
    assert not (letter.laptop.folder / "x").exists()
    letter.laptop.ok(
        *("dare", "decode", "../admin/old.dare", "-o", "x", "--allow-unauthenticated"),
        secrets=SECRET,
    )
    assert (letter.laptop.folder / "x").read_bytes() == TEXT


def test_an_existing_file_is_replaced_by_force_alone(letter: World) -> None:
    precious = letter.laptop.folder / "precious"
    precious.write_text("mine")
    arguments = ("dare", "decode", "../letter.dare", "-o", "precious")
    assert letter.laptop.run(*arguments, secrets=SECRET).code == 11
    assert precious.read_text() == "mine"
    letter.laptop.ok(*arguments, "--force", secrets=SECRET)
    assert precious.read_bytes() == TEXT


def test_a_file_that_came_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with (
        pytest.raises(ConflictError),
        output_stream(str(target), force=False, binary=True) as sink,
    ):
        sink.write(target.write_bytes(b"theirs") * b"ours")
    assert target.read_bytes() == b"theirs"


def test_an_existing_file_survives_a_failure_even_with_force(letter: World) -> None:
    precious = letter.laptop.folder / "precious"
    precious.write_text("mine")
    data = bytearray((letter.folder / "letter.dare").read_bytes())
    data[len(data) // 2] ^= 1
    (letter.folder / "broken.dare").write_bytes(data)
    done = letter.laptop.run(
        "dare", "decode", "../broken.dare", "-o", "precious", "--force", secrets=SECRET
    )
    assert done.code == 8
    assert precious.read_text() == "mine"


def test_a_file_for_somebody_else_asks_for_no_secret(letter: World) -> None:
    other = Home(letter.folder / "other")
    other.folder.mkdir()

    elsewhere = connect(other.folder, "soft:", SECRET)
    done = elsewhere.laptop.run(
        "dare", "decode", letter.folder / "letter.dare", "--json", "-o", "x"
    )
    assert (done.code, done.error["type"]) == (8, "DecryptionError")


def test_an_administrator_without_a_device_is_told_so(letter: World) -> None:
    done = letter.admin.run("dare", "decode", "../letter.dare", "-o", "x")
    assert done.code == 8


def test_what_standard_output_gets_when_nobody_signed(letter: World) -> None:
    done = letter.laptop.ok("dare", "decode", "../letter.dare", secrets=SECRET)
    assert done.out.encode() == TEXT
    assert "not signed" in done.err


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Zoë wrote\tthis.\n", 0),
        ("\x1b]0;pwned\x07", 6),
        ("\x9b2J", 6),  # CSI as one character
        ("\x00", 6),
        pytest.param("x" * 32767 + "\x9b2J", 6, id="cut in two by the pieces that are written"),
    ],
)
def test_other_people_s_text_does_not_steer_the_terminal(
    world: World, text: str, code: int
) -> None:
    (world.admin.folder / "note").write_text(text)
    world.admin.ok("dare", "encode", "note", "-r", "laptop")
    arguments = ("dare", "decode", "../admin/note.dare")
    ended, seen = on_terminal(world.laptop, arguments, [(b"default: ", PASSPHRASE + b"\n")])
    assert ended == code, seen
    assert (text.strip() in seen) == (code == 0)


# -- storage that fails, and interruptions ---------------------------------------------------------


def test_a_full_disk_leaves_nothing(world: World) -> None:
    import resource

    (world.admin.folder / "big").write_bytes(os.urandom(4 << 20))

    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, 2 << 20))  # room for coverage data

    done = world.admin.run("dare", "encode", "big", "-r", "laptop", "--json", preexec_fn=small)
    assert (done.code, done.error["type"]) == (12, "StorageError")
    assert sorted(path.name for path in world.admin.folder.iterdir()) == ["big", "state"]


def test_a_full_standard_output_is_exit_code_12(letter: World) -> None:
    with open("/dev/full", "wb") as full:
        done = letter.laptop.run("dare", "decode", "../letter.dare", secrets=SECRET, stdout=full)
    assert done.code == 12
    assert "Traceback" not in done.err


def test_a_reader_that_goes_away_is_exit_code_141(letter: World) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = letter.laptop.run("dare", "decode", "../letter.dare", secrets=SECRET, stdout=writer)
    finally:
        os.close(writer)
    assert done.code == 141
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129), (signal.SIGKILL, -9)],
)
def test_an_interrupted_write_leaves_the_old_file(
    world: World, number: signal.Signals, code: int
) -> None:
    precious = world.admin.folder / "out.dare"
    precious.write_text("mine")
    process = subprocess.Popen(
        [*PROGRAM, "dare", "encode", "-", "-r", "laptop", "-o", "out.dare", "--force"],
        cwd=world.admin.folder,
        env=world.admin.environment(),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A test run in the background ignores SIGINT, and its children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdin is not None
    process.stdin.write(os.urandom(3 << 20))
    process.stdin.flush()
    _until(lambda: any(path.suffix == ".tmp" for path in world.admin.folder.iterdir()))
    process.send_signal(number)
    _, errors = process.communicate()
    assert process.returncode == code
    assert precious.read_text() == "mine"
    assert b"Traceback" not in errors
    if number is not signal.SIGKILL:
        assert sorted(p.name for p in world.admin.folder.iterdir()) == ["out.dare", "state"]


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_locked_state_is_exit_code_12(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from filelock import FileLock

    from mesh_hsm_cli import main, state

    monkeypatch.setattr(state, "LOCK_SECONDS", 0)
    monkeypatch.setenv("MESH_HSM_HOME", str(world.admin.state))
    with FileLock(world.admin.state / "lock"):
        assert main.main(["device", "accept", str(world.folder / "connection.dare")]) == 12


def test_a_state_folder_that_is_a_link_is_refused(world: World, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(world.admin.state)
    done = world.admin.run(
        "device", "accept", "../connection.dare", env={"MESH_HSM_HOME": str(link)}
    )
    assert done.code == 12


# -- hostile inputs: each has its error class and its exit code -----------------------------------

GARBAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda good: b"",
    "truncated": lambda good: good[: len(good) // 2],
    "one octet": lambda good: good[:1],
    "random": lambda good: bytes(range(256)) * 8,
    "text": lambda good: b"this is not an envelope\n",
    "JSON of another kind": lambda good: b'{"format": "mesh-hsm/1 passphrase file"}',
    "deeply nested": lambda good: b"[" * 100_000,
    "zeros": lambda good: bytes(len(good)),
}
READERS: dict[str, Callable[[World], tuple[Home, tuple[str, ...], str]]] = {
    "dare decode": lambda w: (w.laptop, ("dare", "decode", "FILE", "-o", "x"), "letter.dare"),
    "dare verify": lambda w: (w.laptop, ("dare", "verify", "FILE"), "letter.dare"),
    "dare info": lambda w: (w.laptop, ("dare", "info", "FILE"), "letter.dare"),
    "device connect": lambda w: (
        w.admin,
        (
            *("device", "connect", "FILE", "--out", "x", "--replace"),
            *("--confirm-udf", w.device),
        ),
        "request.dare",
    ),
    "device accept": lambda w: (w.admin, ("device", "accept", "FILE"), "connection.dare"),
    "dare decode --backup": lambda w: (
        w.admin,
        ("dare", "decode", "../letter.dare", "-o", "x", "--backup", "FILE"),
        "backup.json",
    ),
}


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_is_a_format_error_everywhere(letter: World, garbage: str) -> None:
    for case, make in READERS.items():
        home, arguments, original = make(letter)
        bad = letter.folder / "bad.dare"
        bad.write_bytes(GARBAGE[garbage]((letter.folder / original).read_bytes()))
        done = home.run(
            *(str(bad) if one == "FILE" else one for one in arguments), "--json", secrets=None
        )
        kind = done.error["type"]
        assert (done.code, kind) == (3, "FormatError"), f"{case}: {done.err}"
        assert not (home.folder / "x").exists()


def test_a_truncated_key_file(letter: World) -> None:
    keys = letter.laptop.state / "providers" / "soft" / "default.keys"
    keys.write_bytes(keys.read_bytes()[:-100])
    done = letter.laptop.run(
        "dare", "decode", "../letter.dare", "-o", "x", "--json", secrets=SECRET
    )
    assert (done.code, done.error["type"]) == (3, "FormatError")


def test_a_key_file_of_another_device(letter: World) -> None:
    name = Path("providers") / "soft" / "default.keys"
    other = Home(letter.folder / "other")
    other.folder.mkdir()
    other.ok("device", "init", "--name", "laptop", "--token", "soft:", secrets=SECRET)
    (letter.laptop.state / name).write_bytes((other.state / name).read_bytes())
    done = letter.laptop.run(
        "dare", "decode", "../letter.dare", "-o", "x", "--json", secrets=SECRET
    )
    assert (done.code, done.error["type"]) == (10, "DeviceError")


def test_wrong_passphrases(letter: World) -> None:
    wrong = {"passphrase": b"not this passphrase"}
    decode = ("dare", "decode", "../letter.dare", "-o", "x", "--json")
    for home, more in ((letter.laptop, ()), (letter.admin, ("--backup", "../backup.json"))):
        done = home.run(*decode, *more, secrets=wrong)
        assert (done.code, done.error["type"]) == (5, "WrongSecretError")
        assert STORE.decode() not in done.err


def test_a_device_as_input_or_output(letter: World) -> None:
    assert letter.laptop.run("dare", "info", "/dev/null").code == 3
    assert letter.laptop.run("dare", "info", letter.folder).code in (3, 12)
    assert letter.admin.run("dare", "encode", "letter", "-r", "laptop", "-o", "no/where").code == 12
