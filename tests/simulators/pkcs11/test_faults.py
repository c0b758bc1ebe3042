"""Tokens that go away, modules that are ended by others, too few sessions, threads and forks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from interposer import Rv
from pkcs11 import Attribute

from mesh_hsm.curves import P384, SecretScalar
from mesh_hsm.errors import AccessError, DeviceError, NotFoundError
from mesh_hsm.provider import DeviceKey, KeySpec, Use
from mesh_hsm.secret_source import SecretKind
from mesh_hsm.testing.conformance import Asked
from mesh_hsm.testing.conformance.concurrency import in_a_child
from mesh_hsm_pkcs11 import objects
from mesh_hsm_pkcs11.dialect import Dialect
from mesh_hsm_pkcs11.sessions import LIMIT

from .conftest import AGREE, Hsm, slot_of

DIGEST = bytes(48)
GONE = [
    Rv.DEVICE_REMOVED,
    Rv.TOKEN_NOT_PRESENT,
    Rv.SESSION_HANDLE_INVALID,
    Rv.SESSION_CLOSED,
    Rv.USER_NOT_LOGGED_IN,
]


class Keys:
    """One key of each kind on a token, and a source that remembers what it was asked."""

    def __init__(self, hsm: Hsm) -> None:
        pin = hsm.rig.pin.encode()
        self.secrets = Asked({SecretKind.PIN: pin, SecretKind.NEW_PIN: pin})
        self.token = hsm.open(self.secrets)
        self.agree = self.token.generate(KeySpec("P-384", Use.ENCRYPT, "agree"))
        self.sign = self.token.generate(KeySpec("P-384", Use.SIGN, "sign"))
        self.sealed = self.token.seal("seed", b"a seed")
        self.use()

    def use(self) -> None:
        for use in USES.values():
            use(self)


def agreed(key: DeviceKey) -> None:
    peer = SecretScalar.random(key.public.curve)
    assert key.agree(peer.public()).x == peer.x_of(key.public).x


def unsealed(keys: Keys) -> None:
    assert keys.token.unseal(keys.sealed) == b"a seed"


def listed(keys: Keys) -> None:
    assert [key.label for key in list(keys.token.keys())] == ["agree", "sign"]


USES: dict[str, Callable[[Keys], object]] = {
    "agree": lambda keys: agreed(keys.agree),
    "sign": lambda keys: keys.sign.sign(DIGEST),
    "unseal": unsealed,
    "custody": lambda keys: keys.agree.custody(),
    "list": listed,
    "find": lambda keys: keys.token.key(keys.sign.uri),
}


@pytest.fixture
def keys(hsm: Hsm) -> Keys:
    return Keys(hsm)


# -- removal ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("code", GONE, ids=lambda code: code.name)
def test_a_removed_token(hsm: Hsm, keys: Keys, code: Rv, use: str) -> None:
    """Said while it is away; when it is back it works, and nobody is asked for the PIN again."""
    slot, requests = slot_of(keys.token), len(keys.secrets.requests)
    hsm.interposer.remove(slot, code)
    for _ in range(2):
        with pytest.raises(DeviceError) as gone:
            USES[use](keys)
        assert gone.value.uri == str(keys.token.info.uri)
        assert "plug it in" in (gone.value.hint or "")
    hsm.interposer.insert(slot)
    USES[use](keys)
    keys.use()
    assert len(keys.secrets.requests) == requests


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("code", GONE, ids=lambda code: code.name)
def test_a_token_that_was_away_for_a_moment(hsm: Hsm, keys: Keys, code: Rv, use: str) -> None:
    """Between login and use: its sessions and its login are gone, and nobody notices."""
    hsm.interposer.remove(slot_of(keys.token), code)
    hsm.interposer.insert(slot_of(keys.token))
    with hsm.interposer.counted() as calls:
        USES[use](keys)
    assert calls.count("C_Login") == (0 if use in ("list", "find") else 1)
    keys.use()


def test_a_removed_token_is_not_found(hsm: Hsm, keys: Keys) -> None:
    """By whoever opens it then; the other is there as before."""
    slot = slot_of(keys.token)
    hsm.interposer.remove(slot)
    with pytest.raises(NotFoundError):
        hsm.open()
    hsm.interposer.insert(slot)
    agreed(hsm.open().key(keys.agree.uri))


def test_a_removed_token_can_be_closed(hsm: Hsm, keys: Keys) -> None:
    slot = slot_of(keys.token)
    hsm.interposer.remove(slot)
    keys.token.close()
    hsm.interposer.insert(slot)
    agreed(hsm.open().key(keys.agree.uri))


def test_a_key_is_not_made_twice_by_a_removal(hsm: Hsm, keys: Keys) -> None:
    """Generation is not repeated, and what it had begun is cleared away by the next."""
    spec = KeySpec("P-256", Use.ENCRYPT, "new")
    keys.token.capability(spec.algorithm, spec.use)  # tried, so that the next one is for good
    hsm.interposer.fail("C_GenerateKeyPair", Rv.DEVICE_REMOVED, after=True)
    with pytest.raises(DeviceError):
        keys.token.generate(spec)
    agreed(keys.token.generate(spec))
    assert [key.label for key in list(keys.token.keys())] == ["agree", "new", "sign"]


# -- ended by others -------------------------------------------------------------------------------


def test_a_logout_by_another_part_of_the_program(hsm: Hsm, keys: Keys) -> None:
    """The provider logs in again, with the PIN that it has."""
    requests = len(keys.secrets.requests)
    elsewhere = hsm.elsewhere()
    for use in USES.values():
        hsm.bare("C_Logout", elsewhere)
        use(keys)
        keys.use()
    assert len(keys.secrets.requests) == requests


def test_sessions_closed_by_another_part_of_the_program(hsm: Hsm, keys: Keys) -> None:
    for use in USES.values():
        hsm.bare("C_CloseAllSessions", hsm.slot)
        use(keys)
        keys.use()


def test_a_module_that_another_part_of_the_program_ends(hsm: Hsm, keys: Keys) -> None:
    """It is initialised again, once for all that happens then."""
    for use in USES.values():
        hsm.bare("C_Finalize", None)
        with hsm.interposer.counted() as calls:
            use(keys)
            keys.use()
        assert calls.count("C_Initialize") == 1


def test_a_module_that_is_ended_and_begun_again(hsm: Hsm, keys: Keys) -> None:
    """Handles from before may be others' now: no answer is ever of another key."""
    for use in USES.values():
        hsm.bare("C_Finalize", None)
        hsm.bare("C_Initialize", None)
        use(keys)
        keys.use()


def test_a_key_destroyed_by_another_part_of_the_program(hsm: Hsm, keys: Keys) -> None:
    """Not found; and what takes its handle is not taken for it."""
    other = hsm.open()
    made = other.generate(KeySpec("P-384", Use.ENCRYPT, "short-lived"))
    agreed(made)
    other.delete(made.uri)
    with pytest.raises(NotFoundError):
        made.agree(P384.base)
    following = other.generate(KeySpec("P-384", Use.ENCRYPT, "next"))
    with pytest.raises(NotFoundError):
        made.agree(P384.base)
    agreed(following)
    other.delete(following.uri)
    keys.use()


def test_no_session_trusts_a_handle_past_a_deletion(hsm: Hsm, keys: Keys) -> None:
    """Each session remembers handles; another key may have one of them by now."""
    short_lived = keys.token.generate(KeySpec("P-384", Use.ENCRYPT, "short-lived"))
    sessions = keys.token._connection.sessions
    with sessions.lent() as first, sessions.lent() as second:
        for session in (first, second):
            assert objects.private(session, short_lived._entry.identifier)
    keys.token.delete(short_lived.uri)
    with sessions.lent() as first, sessions.lent() as second:
        assert first.objects == second.objects == {}
    keys.use()


# -- sessions --------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [False, True], ids=["silent", "said"])
@pytest.mark.parametrize("limit", [1, 2, 3])
def test_few_sessions(hsm: Hsm, limit: int, said: bool) -> None:
    """Everything works with one; threads wait for one another."""
    hsm.interposer.limit_sessions(limit, said=said)
    keys = Keys(hsm)
    keys.token.change_pin(keys.token.info.uri)
    imported = keys.token.import_scalar(KeySpec("X448", Use.ENCRYPT, "imported"), 12345, ("test",))
    agreed(imported)
    keys.token.delete(imported.uri)
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(keys.use) for _ in range(8)]:
            done.result()


def test_no_session_left(hsm: Hsm, keys: Keys) -> None:
    """Others have them all: one clear error, and it works once one is free."""
    uri = keys.agree.uri
    hsm.close()
    elsewhere = hsm.elsewhere()
    hsm.interposer.limit_sessions(1)
    with pytest.raises(DeviceError, match="no session left"):
        hsm.open().key(uri)
    hsm.bare("C_CloseSession", elsewhere)
    agreed(hsm.open().key(uri))


@pytest.mark.parametrize("nth", range(1, 7))
def test_a_trial_key_that_will_not_go_takes_its_session_with_it(hsm: Hsm, nth: int) -> None:
    """Neither it nor its other half is left, and what was found out by it counts."""
    hsm.interposer.speak("no_copyable")
    token = hsm.open()
    hsm.interposer.fail("C_DestroyObject", nth=nth)
    assert token.capability("P-384", Use.SIGN)
    assert hsm.interposer.fired == 1
    assert hsm.leftovers() == []
    dialect = Dialect.of(token._connection.sessions)
    assert dialect.told_without(token=False) == {Attribute.COPYABLE}


# -- threads ---------------------------------------------------------------------------------------


def test_64_threads(hsm: Hsm) -> None:
    """Every answer is right, all of them share one login and few sessions."""
    token = hsm.open()
    agree = token.generate(KeySpec("P-256", Use.ENCRYPT, "agree"))
    sign = token.generate(KeySpec("P-256", Use.SIGN, "sign"))
    hsm.close()
    token = hsm.open()
    agree, sign = token.key(agree.uri), token.key(sign.uri)
    together = threading.Barrier(64)

    def work(number: int) -> None:
        together.wait()
        for turn in range(8):
            agreed(agree)
            sign.sign(bytes([number, turn]) * 16)  # verified before it is released
        assert len(token.keys()) == 2

    with hsm.interposer.counted() as calls, ThreadPoolExecutor(64) as pool:
        for done in [pool.submit(work, number) for number in range(64)]:
            done.result()
    assert calls.count("C_Login") == 1
    assert open_at_most(calls) <= LIMIT


def open_at_most(calls: list[str]) -> int:
    """The largest number of sessions that were open at once, one being open before."""
    now = most = 1
    for name in calls:
        now += {"C_OpenSession": 1, "C_CloseSession": -1}.get(name, 0)
        most = max(most, now)
    return most


def test_threads_while_the_token_comes_and_goes(hsm: Hsm, keys: Keys) -> None:
    """Each use succeeds or says that the token is away; none is answered wrongly or hangs."""
    slot, stop = slot_of(keys.token), threading.Event()

    def work() -> int:
        right = 0
        while not stop.is_set():
            try:
                agreed(keys.agree)
                right += 1
            except (DeviceError, AccessError):  # pulled out, or logged out by that
                continue
        return right

    with ThreadPoolExecutor(8) as pool:
        working = [pool.submit(work) for _ in range(8)]
        try:
            for _ in range(20):
                agreed(keys.agree)
                hsm.interposer.remove(slot)
                hsm.interposer.insert(slot)
        finally:
            stop.set()
        for done in working:
            done.result()
    keys.use()


# -- fork ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("use", USES)
def test_a_forked_child(hsm: Hsm, keys: Keys, use: str) -> None:
    """It starts anew, and the parent goes on as if nothing had happened."""
    assert in_a_child(lambda: USES[use](keys)) == "served"
    with hsm.interposer.counted() as calls:
        agreed(keys.agree)
    assert calls == AGREE


def test_a_child_that_ends_in_good_order(hsm: Hsm, keys: Keys) -> None:
    """What it closes is its own."""

    def close() -> None:
        agreed(keys.agree)
        keys.token.close()

    assert in_a_child(close) == "served"
    assert in_a_child(keys.token.close) == "served"
    with hsm.interposer.counted() as calls:
        agreed(keys.agree)
    assert calls == AGREE


def test_a_child_of_a_child(keys: Keys) -> None:
    def again() -> None:
        agreed(keys.agree)
        assert in_a_child(keys.use) == "served"

    assert in_a_child(again) == "served"
    keys.use()


def test_children_while_other_threads_are_inside_a_call(keys: Keys) -> None:
    """Locks of theirs are never let go in the child: it is served or refused, and does not hang."""
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            keys.use()

    with ThreadPoolExecutor(4) as pool:
        working = [pool.submit(work) for _ in range(4)]
        try:
            outcomes = {in_a_child(lambda: agreed(keys.agree)) for _ in range(20)}
        finally:
            stop.set()
        for done in working:
            done.result()
    assert outcomes <= {"served", "refused"}
    keys.use()
