"""The key file: what damages it, who may write it, and what stays when writing fails."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from mesh_hsm.custody import PinPolicy
from mesh_hsm.errors import (
    ConflictError,
    DeviceError,
    FormatError,
    NotFoundError,
    StorageError,
    UnsupportedError,
    WrongSecretError,
)
from mesh_hsm.passphrase_file import new_key
from mesh_hsm.provider import KeySpec, Token, Use
from mesh_hsm.secret_source import FixedSecrets, NoSecrets, SecretKind, SecretRequest
from mesh_hsm.testing.conformance import Asked
from mesh_hsm.uri import Uri
from mesh_hsm_software import SoftwareProvider, store

PASSPHRASE = b"correct horse battery staple"
ANSWERS = {SecretKind.PASSPHRASE: PASSPHRASE, SecretKind.NEW_PASSPHRASE: PASSPHRASE}
DEFAULT = Uri.parse("soft:")
A = KeySpec("P-256", Use.ENCRYPT, "a")
B = KeySpec("Ed448", Use.SIGN, "b")


@pytest.fixture
def records(tmp_path: Path) -> Path:
    return tmp_path / "records"


@pytest.fixture
def file(records: Path) -> Path:
    return records / "default.keys"


def opened(records: Path, secrets: Any = None) -> Token:
    return SoftwareProvider(records).open(DEFAULT, secrets or Asked(ANSWERS))


def labels(records: Path) -> list[str]:
    return [key.label for key in opened(records).keys()]  # noqa: SIM118


class Meanwhile:
    """Answers after something else has happened: a person takes time."""

    def __init__(self, event: Callable[[], object], answers: dict[SecretKind, bytes]) -> None:
        self.event, self.answers = event, answers

    def secret(self, request: SecretRequest) -> bytes:
        event, self.event = self.event, lambda: None
        event()
        return self.answers[request.kind]

    def consents_to_last_try(self, request: SecretRequest) -> bool:
        return False


# -- where a store is ----------------------------------------------------------------------------

NOT_STORES = [
    "soft:store=../escape",
    "soft:store=%2Fetc%2Fpasswd",
    "soft:store=a%2Fb",
    "soft:store=.hidden",
    "soft:store=a.keys",
    "soft:store=%0A",
    "soft:store=a%0A",
    "soft:store=" + "x" * 65,
    "soft:stor=a",
    "soft:store=a?module=x",
    "tpm2:store=a",
]


@pytest.mark.parametrize("text", NOT_STORES)
def test_names_that_leave_the_folder_are_refused(records: Path, text: str) -> None:
    with pytest.raises(NotFoundError):
        SoftwareProvider(records).open(Uri.parse(text), NoSecrets())
    assert not records.exists()


def test_stores_are_listed_by_name(records: Path) -> None:
    provider = SoftwareProvider(records)
    assert [info.label for info in provider.tokens()] == ["default"]
    with provider.open(Uri.parse("soft:store=other"), Asked(ANSWERS)) as token:
        token.generate(A)
    (records / "not a store.keys").write_text("")
    assert [str(info.uri) for info in provider.tokens()] == [
        "soft:store=default",
        "soft:store=other",
    ]
    assert labels(records) == []


def test_a_keys_uri_may_leave_the_default_store_out(records: Path) -> None:
    with opened(records) as token:
        key = token.generate(A)
        assert token.key(Uri.parse("soft:key=a")).public == key.public
        with pytest.raises(NotFoundError):
            token.key(Uri.parse("soft:store=other;key=a"))


def test_only_the_owner_can_read_it(records: Path, file: Path) -> None:
    with opened(records) as token:
        token.generate(A)
    assert [oct(path.stat().st_mode & 0o777) for path in (records, file)] == ["0o700", "0o600"]
    assert (records / "default.lock").stat().st_mode & 0o077 == 0


# -- passphrases ---------------------------------------------------------------------------------


@pytest.mark.parametrize("short", [b"", b"1234567"])
def test_a_short_passphrase_makes_no_store(records: Path, file: Path, short: bytes) -> None:
    with opened(records, FixedSecrets({SecretKind.NEW_PASSPHRASE: short})) as token:
        with pytest.raises(WrongSecretError, match="at least 8"):
            token.generate(A)
        assert not file.exists()


def test_it_is_asked_once_and_only_for_private_keys(records: Path) -> None:
    secrets = Asked(ANSWERS)
    with opened(records, secrets) as token:
        token.generate(A)
        token.generate(B).sign(b"x")
    assert [request.kind for request in secrets.requests] == [SecretKind.NEW_PASSPHRASE]
    secrets = Asked(ANSWERS)
    with opened(records, secrets) as token:
        key = token.key(Uri.parse("soft:key=b"))
        key.custody()
        assert secrets.requests == []
        key.sign(b"x")
        key.sign(b"y")
    assert [str(request.kind) for request in secrets.requests] == ["passphrase"]
    assert secrets.requests[0].subject == "key store default"


def test_a_copy_keeps_the_passphrase_it_had(records: Path, file: Path) -> None:
    with opened(records) as token:
        token.generate(A)
    before = file.read_bytes()
    new = {**ANSWERS, SecretKind.NEW_PASSPHRASE: b"another passphrase"}
    with opened(records, Asked(new)) as token:
        token.change_pin(DEFAULT)
    with opened(records) as token, pytest.raises(WrongSecretError):
        token.key(Uri.parse("soft:key=a")).agree(token.key(Uri.parse("soft:key=a")).public)
    file.write_bytes(before)
    with opened(records) as token:
        token.key(Uri.parse("soft:key=a")).agree(token.key(Uri.parse("soft:key=a")).public)


def test_a_passphrase_changed_elsewhere_is_asked_again(records: Path) -> None:
    secrets = Asked(ANSWERS)
    with opened(records, secrets) as token:
        key = token.generate(A)
        changed = {**ANSWERS, SecretKind.NEW_PASSPHRASE: b"another passphrase"}
        with opened(records, Asked(changed)) as other:
            other.change_pin(DEFAULT)
        with pytest.raises(WrongSecretError):
            key.agree(key.public)
    assert [str(request.kind) for request in secrets.requests] == ["new passphrase", "passphrase"]


def test_a_short_new_passphrase_changes_nothing(records: Path, file: Path) -> None:
    with opened(records) as token:
        token.generate(A)
    before = file.read_bytes()
    short = Asked({**ANSWERS, SecretKind.NEW_PASSPHRASE: b"short"})
    with opened(records, short) as token, pytest.raises(WrongSecretError):
        token.change_pin(DEFAULT)
    assert file.read_bytes() == before


def test_there_is_no_passphrase_to_change_without_a_store(records: Path) -> None:
    with opened(records) as token, pytest.raises(NotFoundError):
        token.change_pin(DEFAULT)


# -- two writers ---------------------------------------------------------------------------------


def test_a_store_made_meanwhile_is_joined(records: Path) -> None:
    def event() -> None:
        with opened(records) as other:
            other.generate(B)

    with opened(records, Meanwhile(event, ANSWERS)) as token:
        token.generate(A)
    assert labels(records) == ["a", "b"]


def test_a_label_taken_meanwhile_is_a_conflict(records: Path, file: Path) -> None:
    def event() -> None:
        with opened(records) as other:
            other.generate(A)

    with opened(records, Meanwhile(event, ANSWERS)) as token, pytest.raises(ConflictError):
        token.generate(A)
    assert labels(records) == ["a"]


def test_a_key_deleted_meanwhile_is_not_found(records: Path) -> None:
    with opened(records) as token:
        uri = token.generate(A).uri

    def event() -> None:
        with opened(records) as other:
            other.delete(uri)

    with opened(records, Meanwhile(event, ANSWERS)) as token, pytest.raises(NotFoundError):
        token.delete(uri)


def test_a_store_deleted_meanwhile_is_not_found(records: Path, file: Path) -> None:
    with opened(records) as token:
        key = token.generate(A)
        file.unlink()
        for use in (lambda: key.agree(key.public), key.custody):
            with pytest.raises(NotFoundError):
                use()


def test_processes_lose_none_of_each_others_keys(records: Path) -> None:
    with opened(records) as token:
        token.generate(A)
    code = f"""
import sys; sys.path[:0] = {sys.path!r}
from pathlib import Path
from mesh_hsm_software import SoftwareProvider
from mesh_hsm.provider import KeySpec, Use
from mesh_hsm.secret_source import FixedSecrets, SecretKind
from mesh_hsm.uri import Uri
secrets = FixedSecrets({{SecretKind.PASSPHRASE: {PASSPHRASE!r}}})
with SoftwareProvider(Path({str(records)!r})).open(Uri.parse("soft:"), secrets) as token:
    for turn in range(8):
        token.generate(KeySpec("X25519", Use.ENCRYPT, f"{{sys.argv[1]}}{{turn}}"))
"""
    writers = [subprocess.Popen([sys.executable, "-c", code, name]) for name in "xyz"]
    assert [writer.wait(120) for writer in writers] == [0, 0, 0]
    assert labels(records) == ["a", *(f"{name}{turn}" for name in "xyz" for turn in range(8))]


def test_who_keeps_it_locked_is_not_waited_for_without_end(
    records: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_LOCK_SECONDS", 0.01)
    with opened(records) as token:
        token.generate(A)
        before = file.read_bytes()
        with FileLock(records / "default.lock"), pytest.raises(StorageError, match="locked"):
            token.generate(B)
        assert file.read_bytes() == before
        token.generate(B)


def test_a_lock_that_cannot_be_made_is_said(records: Path) -> None:
    (records / "default.lock").mkdir(parents=True)
    with opened(records) as token, pytest.raises(StorageError, match="cannot lock"):
        token.generate(A)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")
def test_a_child_forked_while_a_thread_works_is_not_stuck(records: Path) -> None:
    with opened(records) as token:
        key = token.generate(A)
        asked, go_on = threading.Event(), threading.Event()

        def event() -> None:
            asked.set()
            go_on.wait(60)

        with opened(records, Meanwhile(event, ANSWERS)) as busy:
            mine = busy.key(key.uri)
            thread = threading.Thread(target=lambda: mine.agree(key.public))
            thread.start()
            asked.wait(60)
            child = os.fork()
            if child == 0:
                signal.alarm(30)
                try:
                    mine.agree(key.public)
                finally:
                    os._exit(0)
            go_on.set()
            thread.join(60)
            assert os.waitpid(child, 0)[1] == 0


# -- damage --------------------------------------------------------------------------------------


def _edit(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    def damaged(data: bytes) -> bytes:
        value = json.loads(data)
        change(value)
        return json.dumps(value).encode()

    return damaged


def _entry(**members: Any) -> Callable[[bytes], bytes]:
    return _edit(lambda value: value["public"]["keys"]["a"].update(members))


# What anybody sees of a damaged file, without a passphrase: an error, and never a wrong key.
DAMAGED = {
    "empty": lambda data: b"",
    "cut in half": lambda data: data[: len(data) // 2],
    "cut by one": lambda data: data[:-3],
    "not a store": lambda data: b"{}",
    "a backup": lambda data: data.replace(b'"key store"', b'"backup"'),
    "no keys": _edit(lambda value: value["public"].clear()),
    "keys are a list": _edit(lambda value: value["public"].update(keys=[])),
    "an entry is text": _edit(lambda value: value["public"]["keys"].update(a="x")),
    "an entry lacks its use": _edit(lambda value: value["public"]["keys"]["a"].pop("use")),
    "unknown curve": _entry(algorithm="P-257"),
    "another curve": _entry(algorithm="P-384"),
    "unknown use": _entry(use="both"),
    "point cut": _entry(public="BAAA"),
    "point not base64": _entry(public="!"),
    "known by a number": _entry(known_by=5),
    "known by an escape": _entry(known_by=["\x1b[2J"]),
    "a label with an escape": _edit(
        lambda value: value["public"]["keys"].update({"\x1b[2J": value["public"]["keys"]["a"]})
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_seen_without_a_passphrase(records: Path, file: Path, name: str) -> None:
    with opened(records) as token:
        token.generate(A)
    damaged = DAMAGED[name](file.read_bytes())
    file.write_bytes(damaged)
    secrets = Asked(ANSWERS)
    with opened(records, secrets) as token:
        for call in (token.keys, lambda: token.generate(B), lambda: token.key(token.info.uri)):
            with pytest.raises((FormatError, NotFoundError)) as caught:
                call()
            assert "\n" not in str(caught.value)
        with pytest.raises(FormatError):
            token.keys()
    assert secrets.requests == []
    assert file.read_bytes() == damaged  # what is left may still be mended


SWAPPED = {
    "a use": _entry(use="authenticate"),
    "who has known it": _entry(known_by=["nobody"]),
    "a label": _edit(
        lambda value: value["public"].update(keys={"c": value["public"]["keys"]["a"]})
    ),
    "a key left out": _edit(lambda value: value["public"]["keys"].pop("b")),
}


@pytest.mark.parametrize("name", SWAPPED)
def test_what_is_legible_cannot_be_altered(records: Path, file: Path, name: str) -> None:
    with opened(records) as token:
        token.generate(A)
        token.generate(B)
    damaged = SWAPPED[name](file.read_bytes())
    file.write_bytes(damaged)
    with opened(records) as token:
        first = token.keys()[0]
        assert first.use is not Use.SIGN  # so far it is a claim
        with pytest.raises(FormatError, match="altered"):
            first.agree(first.public)
        with pytest.raises(FormatError, match="altered"):
            token.generate(KeySpec("P-256", Use.SIGN, "new"))
    assert file.read_bytes() == damaged


def test_an_authenticated_file_may_still_be_nonsense(records: Path, file: Path) -> None:
    """Another program's file under the same passphrase: refused, not half used."""
    with opened(records) as token:
        token.generate(A)
    public = json.loads(file.read_bytes())["public"]
    for secret in (b"[]", b"not JSON", b"{}", b'{"seal_key": "00", "private": {}}'):
        file.write_bytes(new_key(PASSPHRASE).seal(secret, store.LABEL, public))
        with opened(records) as token:
            (key,) = token.keys()
            with pytest.raises(FormatError):
                key.agree(key.public)


def test_a_key_put_in_anothers_place_does_not_answer(records: Path) -> None:
    with opened(records) as token:
        old = token.generate(A)
        token.delete(old.uri)
        token.generate(A)
        for use in (lambda: old.agree(old.public), old.custody):
            with pytest.raises(DeviceError, match="another key"):
                use()


# -- writing that fails --------------------------------------------------------------------------


@contextmanager
def file_size_limit(octets: int) -> Iterator[None]:
    """The kernel refuses to let any file of ours grow beyond this: a full disk, for real."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (octets, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def contents(records: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in records.iterdir()}


def test_a_full_disk_leaves_the_old_file(records: Path) -> None:
    with opened(records) as token:
        token.generate(A)
        before = contents(records)
        with file_size_limit(100), pytest.raises(StorageError):
            token.generate(B)
        assert contents(records) == before
        with file_size_limit(100), pytest.raises(StorageError):
            token.delete(Uri.parse("soft:key=a"))
        assert contents(records) == before
        token.generate(B)
    assert labels(records) == ["a", "b"]


def test_a_full_disk_makes_no_first_file(records: Path, file: Path) -> None:
    with opened(records) as token:
        with file_size_limit(100), pytest.raises(StorageError):
            token.generate(A)
        assert not file.exists()
        token.generate(A)


def test_a_first_file_whose_folder_cannot_be_synced_is_taken_back(
    records: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync, calls = os.fsync, []

    def failing(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:  # the file's own comes first, its folder's second
            raise OSError(5, "Input/output error")
        fsync(descriptor)

    with opened(records) as token:
        monkeypatch.setattr(os, "fsync", failing)
        with pytest.raises(StorageError):
            token.generate(A)
        assert not file.exists()
        assert list(token.keys()) == []


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_an_interruption_leaves_the_old_file(
    records: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    with opened(records) as token:
        token.generate(A)
        before = contents(records)
        with monkeypatch.context() as patched:
            patched.setattr(os, call, interrupted)
            with pytest.raises(KeyboardInterrupt):
                token.generate(B)
        assert contents(records) == before
        token.generate(B)


def test_a_linked_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "records").symlink_to(tmp_path / "elsewhere")
    with opened(tmp_path / "records") as token, pytest.raises(StorageError):
        token.generate(A)
    assert list((tmp_path / "elsewhere").iterdir()) == []


# -- what a file cannot do -----------------------------------------------------------------------


def test_an_eddsa_key_is_no_scalar(records: Path) -> None:
    with opened(records) as token, pytest.raises(UnsupportedError, match="not a scalar"):
        token.import_scalar(B, 5, ("dealer",))


def test_a_blob_of_another_store_stays_closed(records: Path) -> None:
    provider = SoftwareProvider(records)
    with opened(records) as token:
        blob = token.seal("seed", b"secret")
        assert token.unseal(blob) == b"secret"
    with provider.open(Uri.parse("soft:store=other"), Asked(ANSWERS)) as other:
        with pytest.raises(DeviceError):
            other.unseal(blob)
        other.seal("seed", b"x")
        with pytest.raises(DeviceError):
            other.unseal(blob)


def test_a_sealed_secret_has_no_pin_of_its_own(records: Path, file: Path) -> None:
    with opened(records) as token, pytest.raises(UnsupportedError, match="no PINs"):
        token.seal("seed", b"secret", PinPolicy.ONCE)
    assert not file.exists()


@pytest.mark.parametrize("pin", [PinPolicy.ONCE, PinPolicy.ALWAYS])
def test_a_key_has_no_pin_of_its_own(records: Path, pin: PinPolicy) -> None:
    secrets = Asked(ANSWERS)
    with opened(records, secrets) as token, pytest.raises(UnsupportedError, match="no PINs"):
        token.generate(KeySpec("P-256", Use.ENCRYPT, "a", pin=pin))
    assert secrets.requests == []


def test_all_seven_curves_are_offered(records: Path) -> None:
    with opened(records) as token:
        offered = {capability.algorithm for capability in token.capabilities()}
    assert offered == {"P-256", "P-384", "P-521", "X25519", "X448", "Ed25519", "Ed448"}


def test_no_repr_shows_a_private_key() -> None:
    contents = store.Contents({}, {"a": b"private octets"}, b"the sealing key")
    assert "private" not in repr(contents)
    assert "sealing" not in repr(contents)
