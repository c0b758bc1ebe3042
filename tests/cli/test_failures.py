"""What is said when something fails: one line, a hint, no values, the right exit code."""

from __future__ import annotations

import errno
import json
import os
from types import SimpleNamespace
from typing import Any

import click
import pytest

from mesh_hsm.custody import CustodyClass, Hardware, PinPolicy
from mesh_hsm.errors import (
    LockedOutError,
    MeshHsmError,
    NotFoundError,
    ProviderUnavailableError,
    StorageError,
    UnsupportedError,
    WrongSecretError,
)
from mesh_hsm.provider import Capability, Primitive, TokenInfo, Use
from mesh_hsm.uri import Uri
from mesh_hsm_cli import choices, failures, main
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


# -- what is chosen for a person, with tokens that no simulator here is ---------------------------


def token(
    hardware: Hardware, *algorithms: str, custody: CustodyClass = CustodyClass.GENERATED
) -> Any:
    info = TokenInfo(Uri("test"), "a token", "", "", None, None, hardware)
    powers = frozenset(Capability(name, Primitive.AGREE_POINT, custody) for name in algorithms)
    return SimpleNamespace(info=info, capabilities=lambda: powers, tokens=lambda: [info])


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (["P-256", "P-384", "P-521", "X25519", "X448"], "X448"),
        (["P-256", "P-384", "P-521", "X25519"], "P-384"),
        (["P-256", "P-521", "X25519"], "X25519"),
        (["P-256", "P-521"], "P-521"),
        (["P-256"], "P-256"),
    ],
)
def test_the_strongest_that_is_offered(offered: list[str], chosen: str) -> None:
    device = token(Hardware.CLAIMED, *offered)
    assert choices.choose_algorithm(device, Use.ENCRYPT, None) == chosen


def test_keys_that_could_leave_are_not_chosen() -> None:
    device = token(Hardware.CLAIMED, "P-384", custody=CustodyClass.EXPORTABLE)
    with pytest.raises(UnsupportedError):
        choices.choose_algorithm(device, Use.ENCRYPT, None)


def test_a_pin_unless_refused_or_senseless() -> None:
    hardware, file = token(Hardware.CLAIMED), token(Hardware.NONE)
    assert choices.pin_policy(hardware, no_pin=False) is PinPolicy.ONCE
    assert choices.pin_policy(hardware, no_pin=True) is PinPolicy.NONE
    assert choices.pin_policy(file, no_pin=False) is PinPolicy.NONE


def session_with(*providers: Any) -> Any:
    return SimpleNamespace(providers=lambda: providers)


def test_the_one_hardware_token_is_chosen() -> None:
    one = session_with(token(Hardware.NONE), token(Hardware.CLAIMED))
    assert choices.choose_token(one, None) == Uri("test")


def test_several_devices_are_not_chosen_between() -> None:
    two = session_with(token(Hardware.CLAIMED), token(Hardware.SIMULATOR))
    with pytest.raises(NotFoundError, match="several devices"):
        choices.choose_token(two, None)


@pytest.mark.parametrize(
    "providers",
    [(), (token(Hardware.NONE),), (token(Hardware.NONE), ProviderUnavailableError("no library"))],
    ids=["none", "software", "software and a broken one"],
)
def test_software_is_never_chosen_silently(providers: tuple[Any, ...]) -> None:
    with pytest.raises(ProviderUnavailableError) as caught:
        choices.choose_token(session_with(*providers), None)
    assert "--token soft:" in str(caught.value.hint)


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
