"""Doors for secrets: descriptor, named variable, terminal; attempts left; consent to the last."""

from __future__ import annotations

import os
import re
import select
import signal

import pytest

from mesh_hsm.errors import SecretRequiredError
from mesh_hsm.secret_source import SecretKind, SecretRequest
from mesh_hsm_cli import secret_options, terminal
from mesh_hsm_cli.secret_options import CommandSecrets
from tests.cli.conftest import PASSPHRASE, PROGRAM, Home, on_terminal

GENERATE = ("key", "generate", "--token", "soft:", "--use", "sign", "--algorithm", "P-256")


def test_a_passphrase_by_descriptor_makes_a_store_that_it_opens(home: Home) -> None:
    home.ok(*GENERATE, "--label", "a", secrets={"passphrase": PASSPHRASE})
    home.ok(*GENERATE, "--label", "b", secrets={"passphrase": PASSPHRASE})
    wrong = home.run(*GENERATE, "--label", "c", "--json", secrets={"passphrase": b"quite another"})
    assert (wrong.code, wrong.error["type"]) == (5, "WrongSecretError")


def test_a_passphrase_by_named_variable(home: Home) -> None:
    home.ok(*GENERATE, "--label", "a", secrets={"passphrase": PASSPHRASE})
    env = {"MY_PHRASE": PASSPHRASE.decode()}
    home.ok(*GENERATE, "--label", "b", "--passphrase-env", "MY_PHRASE", env=env)
    # A variable that nobody named is never read, whatever it is called.
    guessed = {"MESH_HSM_PASSPHRASE": PASSPHRASE.decode()}
    assert home.run(*GENERATE, "--label", "c", env=guessed).code == 5


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "there is no terminal to ask on"),
        (["--passphrase-env", "UNSET"], "UNSET is not set"),
        (["--passphrase-env", "\udcff"], "\\xdcff is not set"),
        (["--passphrase-fd", "99"], "file descriptor 99 cannot be read"),
        (["--passphrase-fd", "9999999999"], "file descriptor 9999999999 cannot be read"),
    ],
    ids=["no source", "unset variable", "no text", "closed descriptor", "no descriptor"],
)
def test_without_a_secret_nothing_is_made(home: Home, options: list[str], said: str) -> None:
    done = home.run(*GENERATE, "--label", "a", *options)
    assert done.code == 5
    assert said in done.err
    assert "key list" not in done.err
    assert home.ok("key", "list", "--json").json == {"keys": []}


def test_the_hint_names_the_option(home: Home) -> None:
    assert "--passphrase-fd" in home.run(*GENERATE, "--label", "a").err


def test_a_secret_of_more_than_a_line_is_refused(home: Home) -> None:
    done = home.run(*GENERATE, "--label", "a", secrets={"passphrase": b"x" * 2000})
    assert done.code == 5
    assert "at most 1024 octets" in done.err


def test_a_descriptor_is_read_to_the_line_s_end_and_no_further() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"first\nsecond\n")
    os.close(writer)
    assert secret_options.Descriptor(reader).read() == b"first"
    assert os.read(reader, 100) == b"second\n"
    os.close(reader)


def test_no_secret_in_any_output_even_when_debugging(home: Home) -> None:
    debug = {"MESH_HSM_DEBUG": "1"}
    done = home.run(*GENERATE, "--label", "a", secrets={"passphrase": b"short"}, env=debug)
    assert done.code == 5
    assert "Traceback" not in done.err  # ours names places; see the next line
    assert "secret_options" in done.err or "passphrase_file" in done.err
    assert "short" not in re.sub("a new passphrase needs|too short", "", done.err)
    source = CommandSecrets(print, sources={"pin": secret_options.Descriptor(3)})
    assert "remembered" not in repr(source)


# -- attempts left, and the last one ---------------------------------------------------------------


def answering(secret: bytes, said: list[str]) -> CommandSecrets:
    reader, writer = os.pipe()
    os.write(writer, secret + b"\n")
    os.close(writer)
    descriptor = secret_options.Descriptor(reader)
    return CommandSecrets(said.append, offered={"pin"}, sources={"pin": descriptor})


@pytest.mark.parametrize(
    ("left", "words"), [(3, "laptop-encrypt: 3 tries left"), (1, "laptop-encrypt: 1 try left")]
)
def test_tries_left_are_said_before_the_pin_is_used(left: int, words: str) -> None:
    said: list[str] = []
    secrets = answering(b"1234", said)
    assert secrets.secret(SecretRequest(SecretKind.PIN, "laptop-encrypt", left)) == b"1234"
    assert said == [words]


def test_one_pin_serves_all_keys_of_a_command() -> None:
    secrets = answering(b"1234", [])
    for subject in ("laptop-encrypt", "laptop-sign"):
        assert secrets.secret(SecretRequest(SecretKind.PIN, subject)) == b"1234"


def test_a_typed_passphrase_of_one_store_is_not_tried_on_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def ask(prompt: str) -> bytes:
        asked.append(prompt)
        return b"typed"

    monkeypatch.setattr(terminal, "present", lambda: True)
    monkeypatch.setattr(terminal, "ask_hidden", ask)
    secrets = CommandSecrets(print, offered={"passphrase"})
    for subject in ("store a", "store b", "store a"):
        assert secrets.secret(SecretRequest(SecretKind.PASSPHRASE, subject)) == b"typed"
    assert asked == ["Passphrase of store a", "Passphrase of store b"]


def test_one_line_of_a_descriptor_serves_backup_and_store(home: Home) -> None:
    home.ok("mesh", "create", "--backup-to", "b", secrets={"passphrase": PASSPHRASE})
    assert home.ok("mesh", "show", "--json").json["mesh"]["backup"]


def test_a_new_pin_never_falls_back_to_the_old_one() -> None:
    secrets = answering(b"1234", [])
    secrets.offered.add("new-pin")
    with pytest.raises(SecretRequiredError):
        secrets.secret(SecretRequest(SecretKind.NEW_PIN, "laptop-encrypt"))


def test_the_last_try_is_refused_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "present", lambda: False)
    request = SecretRequest(SecretKind.PIN, "laptop-encrypt", 1)
    assert not CommandSecrets(print).consents_to_last_try(request)
    assert CommandSecrets(print, last_try=True).consents_to_last_try(request)


# -- on a terminal ---------------------------------------------------------------------------------


def test_a_new_passphrase_is_asked_twice_without_echo(home: Home) -> None:
    code, seen = on_terminal(
        home,
        (*GENERATE, "--label", "a"),
        [(b"default: ", PASSPHRASE + b"\n"), (b"again: ", PASSPHRASE + b"\n")],
    )
    assert code == 0, seen
    assert PASSPHRASE.decode() not in seen
    home.ok(*GENERATE, "--label", "b", secrets={"passphrase": PASSPHRASE})


def test_two_different_entries_make_nothing(home: Home) -> None:
    code, seen = on_terminal(
        home,
        (*GENERATE, "--label", "a"),
        [(b"default: ", PASSPHRASE + b"\n"), (b"again: ", b"something else\n")],
    )
    assert code == 5
    assert "the two entries differ" in seen
    assert home.ok("key", "list", "--json").json == {"keys": []}


def test_an_empty_entry_is_no_secret(home: Home) -> None:
    code, seen = on_terminal(
        home, (*GENERATE, "--label", "a"), [(b"default: ", b"\n"), (b"again: ", b"\n")]
    )
    assert code == 5
    assert "no new passphrase" in seen


def test_ctrl_c_at_a_question_is_exit_code_130(home: Home) -> None:
    code, seen = on_terminal(home, (*GENERATE, "--label", "a"), [(b"default: ", b"\x03")])
    assert code == 130
    assert "Traceback" not in seen
    assert home.ok("key", "list", "--json").json == {"keys": []}


@pytest.mark.parametrize(
    ("answer", "kept"), [(b"y\n", False), (b"n\n", True), (b"\n", True)], ids=["y", "n", "default"]
)
def test_deleting_asks_and_keeps_by_default(home: Home, answer: bytes, kept: bool) -> None:
    home.ok(*GENERATE, "--label", "a", secrets={"passphrase": PASSPHRASE})
    talk = [(b"[y/N]: ", answer)] + ([] if kept else [(b"default: ", PASSPHRASE + b"\n")])
    code, seen = on_terminal(home, ("key", "delete", "a"), talk)
    assert code == (11 if kept else 0), seen
    assert len(home.ok("key", "list", "--json").json["keys"]) == int(kept)


def test_binary_output_to_a_terminal_is_refused(home: Home) -> None:
    home.ok(*GENERATE, "--label", "a", secrets={"passphrase": PASSPHRASE})
    (home.folder / "letter").write_text("hello")
    code, seen = on_terminal(
        home,
        ("dare", "encode", "letter", "--sign", "a", "-o", "-"),
        [],
    )
    assert code == 6
    assert "this is binary data" in seen


def test_terminated_while_asking_leaves_nothing(home: Home) -> None:
    pid, screen = os.forkpty()
    if pid == 0:  # pragma: no cover  the child is another program
        os.chdir(home.folder)
        os.execve(PROGRAM[0], [*PROGRAM, *GENERATE, "--label", "a"], home.environment())
    seen = b""
    while b"default: " not in seen:
        assert select.select([screen], [], [], 60)[0]
        seen += os.read(screen, 4096)
    os.kill(pid, signal.SIGTERM)
    _, status = os.waitpid(pid, 0)
    os.close(screen)
    assert os.waitstatus_to_exitcode(status) == 143
    assert home.ok("key", "list", "--json").json == {"keys": []}
