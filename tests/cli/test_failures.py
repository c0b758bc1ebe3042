"""What is said when something fails: one line, a hint, no values, the right exit code."""

from __future__ import annotations

import errno
import json
import os
from typing import Any

import click
import pytest

from mesh_hsm.errors import (
    LockedOutError,
    MeshHsmError,
    NotFoundError,
    StorageError,
    WrongSecretError,
)
from mesh_hsm_cli import failures, main
from mesh_hsm_cli.commands import provider as provider_command
from mesh_hsm_cli.output import printable, table
from mesh_hsm_cli.rollback import Rollback
from tests.cli.conftest import PASSPHRASE, Home, on_terminal


@pytest.mark.parametrize(
    ("error", "code", "kind"),
    [
        (WrongSecretError("no", attempts_remaining=2, hint="try again"), 5, "WrongSecretError"),
        (LockedOutError("locked", recovery_seconds=600), 5, "LockedOutError"),
        (OSError(errno.ENOSPC, "full"), 12, "StorageError"),
        (OSError(errno.EACCES, "no", "some/file"), 12, "StorageError"),
        (OSError(errno.EISDIR, "a folder as standard input"), 12, "StorageError"),
        (OSError(errno.ESTALE, "a file server that restarted"), 12, "StorageError"),
        (OSError(errno.ECONNREFUSED, "refused"), 70, "ConnectionRefusedError"),
        (ValueError("the PIN is 1234"), 70, "ValueError"),
        (click.UsageError("what?"), 2, "UsageError"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_every_kind_of_failure(
    error: Exception, code: int, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert failures.explain(error, as_json=True) == code
    body = json.loads(capsys.readouterr().err)["error"]
    assert (body["type"], body["exit_code"]) == (kind, code)
    for fact in ("attempts_remaining", "recovery_seconds", "hint"):
        if (value := getattr(error, fact, None)) is not None:
            assert body[fact] == value
    assert failures.explain(error, as_json=False) == code
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "1234" not in said


def test_an_unexpected_error_names_its_place_and_no_value(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any) -> None:
        try:
            raise KeyError("the PIN is 1234")
        except KeyError as error:
            raise ValueError("the PIN is 1234") from error

    monkeypatch.setattr(provider_command, "table", broken)
    assert main.main(["provider", "list"]) == failures.EXIT_UNEXPECTED
    said = capsys.readouterr().err
    assert "unexpected ValueError in" in said
    assert "MESH_HSM_DEBUG=1" in said
    assert "Traceback" not in said
    monkeypatch.setenv("MESH_HSM_DEBUG", "1")
    assert main.main(["provider", "list"]) == failures.EXIT_UNEXPECTED
    traced = capsys.readouterr().err
    assert "test_failures.py" in traced
    assert traced.index("KeyError") < traced.index("ValueError")
    assert "the PIN is 1234" not in traced.replace('"the PIN is 1234"', "")  # but for our source


def test_expected_errors_keep_their_message_in_a_trace() -> None:
    with pytest.raises(StorageError) as caught:
        raise StorageError("disk full")
    assert list(failures.trace(caught.value))[-1] == "StorageError: disk full\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("laptop", "laptop"),
        ("two\nlines", "two lines"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("bell\x07", "bell\\x07"),
        ("\u202eright to left", "\\x202eright to left"),
        ("Zoë", "Zoë"),
    ],
)
def test_nothing_printed_steers_the_terminal(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert "\x1b" not in table(["A"], [[text]], "none")[1]


def test_undoing_goes_backwards_and_on() -> None:
    done: list[str] = []
    said: list[str] = []

    def cannot() -> None:
        raise StorageError("read-only")

    def steps() -> None:
        with Rollback(said.append) as undo:
            undo.on_failure("undo the first", lambda: done.append("first"))
            undo.on_failure("undo the second", cannot)
            undo.on_failure("undo the third", lambda: done.append("third"))
            raise NotFoundError("x")

    with pytest.raises(NotFoundError):
        steps()
    assert done == ["third", "first"]
    assert said == ["could not undo the second: read-only"]


def test_nothing_is_undone_after_success() -> None:
    done: list[str] = []
    with Rollback(done.append) as undo:
        undo.on_failure("undo", lambda: done.append("undone"))
    assert done == []


# -- long work ------------------------------------------------------------------------------------


def test_long_work_shows_its_progress_on_a_terminal(home: Home) -> None:
    home.ok(
        *("key", "generate", "--token", "soft:", "--use", "sign", "--label", "a"),
        secrets={"passphrase": PASSPHRASE},
    )
    with (home.folder / "big").open("wb") as file:
        os.truncate(file.fileno(), 70 << 20)
    arguments = ("dare", "encode", "big", "--sign", "a", "--passphrase-env", "PHRASE")
    code, seen = on_terminal(home, arguments, [], PHRASE=PASSPHRASE.decode())
    assert code == 0, seen
    assert "100%" in seen


def test_every_error_class_has_its_own_exit_code_or_its_parent_s() -> None:
    """Scripts tell apart by code what they would handle apart."""
    codes = {kind.exit_code for kind in MeshHsmError.__subclasses__()}
    assert len(codes) == len(MeshHsmError.__subclasses__())
