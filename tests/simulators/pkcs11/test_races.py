"""What happens at the worst moment: between threads, between programs, amid the collector's work.

The moment is chosen by the test: one side is stopped inside a step of the other's, or does its own
work there. Whatever hangs fails after ``PATIENCE``.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from filelock import FileLock
from interposer import Rv

from mesh_hsm.curves import P384
from mesh_hsm.errors import DeviceError, WrongSecretError
from mesh_hsm.provider import DeviceKey, KeySpec, Use
from mesh_hsm.secret_source import FixedSecrets, SecretKind, SecretRequest
from mesh_hsm.testing.conformance import Asked
from mesh_hsm.uri import Uri
from mesh_hsm_pkcs11 import Pkcs11Provider, creating, records, sessions
from mesh_hsm_pkcs11.keys import Keys
from mesh_hsm_pkcs11.records import Records
from mesh_hsm_pkcs11.sessions import LIMIT, Sessions

from .conftest import Hsm, answers, slot_of

AGREES = KeySpec("P-384", Use.ENCRYPT, "agree")
SIGNS = KeySpec("P-384", Use.SIGN, "sign")
DIGEST = bytes(48)
WRONG = "0000-0000"
CHANGED = "a changed PIN"
PIN_COUNT_LOW = 1 << 16
PATIENCE = 60  # seconds


def together(*jobs: Callable[[], object]) -> None:
    """Do each job in a thread of its own. None may hang, and their errors pass through."""
    failed: list[BaseException] = []

    def run(job: Callable[[], object]) -> None:
        try:
            job()
        except BaseException as error:  # raised again below
            failed.append(error)

    threads = [threading.Thread(target=run, args=(job,), daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    for error in failed:
        raise error
    assert not any(thread.is_alive() for thread in threads), "a thread hangs"


@contextmanager
def once(owner: Any, name: str, meanwhile: Callable[[], object], *, after: bool) -> Iterator[None]:
    """Within the block the first call of ``owner.name`` meets with ``meanwhile``."""
    real = getattr(owner, name)
    left = [meanwhile]

    def call(*arguments: Any, **named: Any) -> Any:
        job = left.pop() if left else None
        if job and not after:
            job()
        answer = real(*arguments, **named)
        if job and after:
            job()
        return answer

    with mock.patch.object(owner, name, call):
        yield
    assert not left, f"{name} was not called"


def agrees(key: DeviceKey) -> bool:
    return bool(key.agree(P384.base).x == key.public.x)


# -- programs --------------------------------------------------------------------------------------


def test_keys_of_one_label_are_named_by_their_id(hsm: Hsm, tmp_path: Path) -> None:
    """Two machines chose it at once. Each key can be found, used and deleted."""
    one = hsm.open()
    one.generate(AGREES)
    with mock.patch.object(Keys, "label_taken", return_value=False):
        hsm.open(records=tmp_path / "elsewhere").generate(AGREES)
    uris = [key.uri for key in list(one.keys())]
    assert len(set(uris)) == 2
    for uri in uris:
        found = one.key(uri)
        assert found.uri == uri
        assert agrees(found)
        one.delete(uri)
    assert not list(one.keys())


def test_a_key_is_found_while_another_program_deletes_one(hsm: Hsm) -> None:
    """Its record is gone between the listing of records and their reading."""
    token, other = hsm.open(), hsm.open()
    kept, goes = token.generate(AGREES).uri, other.generate(SIGNS).uri
    with once(records, "_read", lambda: other.delete(goes), after=False):
        assert agrees(token.key(kept))


def test_a_key_that_another_program_is_making_is_not_there_yet(hsm: Hsm) -> None:
    """It begins between the moments when its record and the key itself are looked for."""
    token, other = hsm.open(), hsm.open()
    made, goes_on = threading.Event(), threading.Event()

    def while_making() -> None:
        made.set()
        assert goes_on.wait(PATIENCE)

    seen: list[str] = []

    def look() -> None:
        with once(Records, "all", lambda: (starts.set(), made.wait(PATIENCE)), after=True):
            seen.extend(key.label for key in list(token.keys()))
        goes_on.set()

    def make() -> None:
        assert starts.wait(PATIENCE)
        with once(creating, "_accept", while_making, after=False):
            other.generate(AGREES)

    starts = threading.Event()
    together(look, make)
    assert not seen
    assert [key.label for key in list(token.keys())] == [AGREES.label]


def test_others_can_make_keys_while_somebody_types_a_pin(hsm: Hsm) -> None:
    """The lock between programs is not held meanwhile."""
    free: list[bool] = []

    class Typing(FixedSecrets):
        def secret(self, request: SecretRequest) -> bytes:
            (folder,) = hsm.records.glob("token-*")
            with FileLock(folder / ".lock", timeout=0):
                free.append(True)
            return super().secret(request)

    hsm.open().generate(AGREES)
    hsm.close()
    hsm.open(Typing({SecretKind.PIN: hsm.rig.pin.encode()})).generate(SIGNS)
    assert free == [True]


# -- modules that somebody ends --------------------------------------------------------------------


@pytest.mark.parametrize("where", ["the same token", "another token"])
def test_a_module_is_begun_anew_once(hsm: Hsm, where: str) -> None:
    """A thread hears that the module was ended when another has put that right already."""
    second = hsm.rig.add_token("second")
    uri = hsm.open().generate(SIGNS).uri
    late = hsm.open().key(uri)
    if where == "another token":
        early = hsm.open(answers(second.pin), uri=second.uri).generate(SIGNS)
    else:
        early = hsm.open().key(uri)
    for key in (late, early):
        key.sign(DIGEST)
    hsm.bare("C_Finalize", None)
    with (
        hsm.interposer.counted() as calls,
        once(Sessions, "start_over", lambda: early.sign(DIGEST), after=False),
    ):
        late.sign(DIGEST)
        early.sign(DIGEST)
    assert calls.count("C_Initialize") == 1
    with pytest.raises(WrongSecretError):
        hsm.open(answers(WRONG)).key(uri).sign(DIGEST)


# -- closing ---------------------------------------------------------------------------------------


def test_the_next_one_proves_its_pin_though_threads_of_the_last_are_still_at_work(
    hsm: Hsm,
) -> None:
    """The token is closed while every session is lent: no login is left for others to find."""
    token = hsm.open()
    uri = token.generate(SIGNS).uri
    with ExitStack() as lent:
        for _ in range(LIMIT - 1):
            lent.enter_context(token._connection.sessions.lent())
        token.close()
        with pytest.raises(WrongSecretError):
            hsm.open(answers(WRONG)).key(uri).sign(DIGEST)
    hsm.open().key(uri).sign(DIGEST)


class Forgotten:
    """A token that nobody closed, in a cycle, as the traceback of an exception makes one."""

    def __init__(self, hsm: Hsm) -> None:
        secrets = answers(hsm.rig.pin)
        self.token = Pkcs11Provider(hsm.records).open(Uri.parse(hsm.rig.uri), secrets)
        self.token.keys()
        self.itself = self


@pytest.fixture
def collected_by_hand() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("collected_by_hand")
def test_the_collector_closes_a_token_while_another_is_opened(hsm: Hsm) -> None:
    second = hsm.rig.add_token("second")
    Forgotten(hsm)

    def open_it() -> None:
        with once(Sessions, "__init__", gc.collect, after=False):
            hsm.open(answers(second.pin), uri=second.uri).keys()

    together(open_it)


@pytest.mark.usefixtures("collected_by_hand")
def test_the_collector_waits_for_nobody(hsm: Hsm) -> None:
    """It may run in a thread that holds what others wait for. The next to open a token does it."""
    hsm.open().keys()
    Forgotten(hsm)
    with Sessions._opening:
        together(gc.collect)
    hsm.close()
    hsm.open().close()
    assert not Sessions._open


# -- PINs ------------------------------------------------------------------------------------------


def test_a_mistyped_pin_costs_one_try(hsm: Hsm) -> None:
    """However often the program opens the token with it."""
    uri = hsm.open().generate(SIGNS).uri
    hsm.close()
    hsm.interposer.set_tries(5)
    with hsm.interposer.counted() as calls:
        for _ in range(3):
            with hsm.open(answers(WRONG)) as token, pytest.raises(WrongSecretError):
                token.key(uri).sign(DIGEST)
    assert calls.count("C_Login") == 1


def test_a_pin_that_was_changed_is_sent_by_nobody(hsm: Hsm) -> None:
    """One part of the program changes it; another one had it, and has to log in again."""
    hsm.interposer.set_tries(5)
    old, new = hsm.rig.pin.encode(), CHANGED.encode()
    one = hsm.open(Asked({SecretKind.PIN: old, SecretKind.NEW_PIN: new}))
    uri = one.generate(SIGNS).uri
    secrets = Asked({SecretKind.PIN: old})
    other = hsm.open(secrets).key(uri)
    other.sign(DIGEST)
    one.change_pin(one.info.uri)
    for action in (hsm.interposer.remove, hsm.interposer.insert):
        action(slot_of(one))
    with pytest.raises(WrongSecretError):
        other.sign(DIGEST)
    assert len(secrets.requests) == 2
    assert not hsm.bare.token_info(slot_of(one)).flags & PIN_COUNT_LOW
    one.key(uri).sign(DIGEST)
    hsm.close()
    back = hsm.open(Asked({SecretKind.PIN: new, SecretKind.NEW_PIN: old}))
    back.change_pin(back.info.uri)


def test_a_refused_pin_that_the_token_was_given_since_is_right(hsm: Hsm) -> None:
    """Its security officer set just the one that was wrong before."""
    uri = hsm.open().generate(SIGNS).uri
    hsm.close()
    with pytest.raises(WrongSecretError):
        hsm.open(answers(CHANGED)).key(uri).sign(DIGEST)
    hsm.close()
    for pin in (CHANGED, hsm.rig.pin):
        given = {SecretKind.SO_PIN: hsm.rig.so_pin.encode(), SecretKind.NEW_PIN: pin.encode()}
        Pkcs11Provider(hsm.records).reset_pin(Uri.parse(hsm.rig.uri), FixedSecrets(given))
        hsm.open(answers(pin)).key(uri).sign(DIGEST)
        hsm.close()


def test_a_pin_whose_fate_is_unknown_is_not_sent_again(hsm: Hsm) -> None:
    """The token went away amid a login: the PIN may have been wrong, and a try be gone."""
    uri = hsm.open().generate(SIGNS).uri
    hsm.close()
    hsm.interposer.set_tries(5)
    key = hsm.open(answers(WRONG)).key(uri)
    hsm.interposer.fail("C_Login", Rv.DEVICE_REMOVED, after=True)
    with hsm.interposer.counted() as calls, pytest.raises(DeviceError):
        key.sign(DIGEST)
    assert calls.count("C_Login") == 1


# -- locks -----------------------------------------------------------------------------------------


def test_a_token_is_looked_for_again_with_the_module_to_itself(hsm: Hsm) -> None:
    """Where the module cannot lock itself. Its lock comes before ours, or two threads would wait
    for each other."""
    hsm.interposer.speak("cannot_lock")
    shared = hsm.open()._connection.sessions
    with shared._changed:
        shared._forget()
    free: list[bool] = []

    def try_to_get_a_turn() -> None:
        lock = shared.module._lock
        free.append(lock.acquire(blocking=False))
        if free[-1]:
            lock.release()

    with once(sessions, "find_again", lambda: together(try_to_get_a_turn), after=False):
        shared.token()
    assert free == [False]
