"""The interposer counts, fails, loses tokens and runs out of tries; unasked, it does nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pkcs11
import pytest
from bare_module import (
    ALWAYS_AUTHENTICATE,
    CONTEXT_SPECIFIC,
    EC,
    EC_GENERATION,
    EC_PARAMS,
    ECDSA,
    KEY_TYPE,
    LABEL,
    PRIVATE,
    SIGN,
    SO,
    TOKEN,
    BareModule,
    InitializeArguments,
)
from interposer import ANY, Action, Interposer, Rule, Rv, _compiled

from mesh_hsm.testing.softhsm import Softhsm
from mesh_hsm.testing.softhsm_maker import RefusedError

P256 = bytes.fromhex("06082a8648ce3d030107")
PIN_INCORRECT, ALREADY_LOGGED_IN, BUFFER_TOO_SMALL = 0xA0, 0x100, 0x150
COUNT_LOW, FINAL_TRY, LOCKED, TO_BE_CHANGED = 1 << 16, 1 << 17, 1 << 18, 1 << 19
USER_PIN_FLAGS = COUNT_LOW | FINAL_TRY | LOCKED | TO_BE_CHANGED
PROTECTED_PATH, TOKEN_PRESENT = 1 << 8, 1


@pytest.fixture
def interposer(softhsm_token: Softhsm, tmp_path: Path) -> Iterator[Interposer]:
    with Interposer(softhsm_token.module, tmp_path / "interposer") as made:
        yield made


@pytest.fixture
def module(interposer: Interposer) -> BareModule:
    module = BareModule(interposer.path)
    module("C_Initialize", InitializeArguments(flags=2))  # it is to lock, for threads
    return module


@pytest.fixture
def slot(module: BareModule) -> int:
    return module.slots()[0]


@contextmanager
def refused(code: int) -> Iterator[None]:
    with pytest.raises(RefusedError) as caught:
        yield
    assert hex(caught.value.code) == hex(code)


def pair(module: BareModule, session: int, *, always_authenticate: bool = False) -> tuple[int, int]:
    private = {TOKEN: False, SIGN: True, ALWAYS_AUTHENTICATE: always_authenticate}
    public = {TOKEN: False, PRIVATE: False, EC_PARAMS: P256}
    return module.generate(session, EC_GENERATION, public, private)


def test_without_settings_every_call_passes(softhsm_token: Softhsm, interposer: Interposer) -> None:
    token = pkcs11.lib(str(interposer.path)).get_token(token_label="test")
    assert token.serial.decode() == softhsm_token.serial
    assert (token.manufacturer_id, token.model) == ("SoftHSM project", "SoftHSM v2")
    with token.open(rw=True, user_pin=softhsm_token.pin) as session:
        key = session.generate_key(pkcs11.KeyType.AES, 128)
        assert key.encrypt(b"sixteen octets..", mechanism=pkcs11.Mechanism.AES_ECB)
    assert interposer.fired == 0


def test_calls_are_counted(interposer: Interposer, module: BareModule, slot: int) -> None:
    with interposer.counted() as calls:
        session = module.open(slot)
        module.find(session, {LABEL: b"nobody"})
    assert calls == [*("C_OpenSession", "C_FindObjectsInit", "C_FindObjects", "C_FindObjectsFinal")]
    assert interposer.calls[0] == "C_Initialize"
    assert interposer.calls[-4:] == calls
    with interposer.counted() as calls:
        pass
    assert calls == []


def test_calls_of_many_threads_are_all_counted(
    interposer: Interposer, module: BareModule, slot: int
) -> None:
    def ask() -> None:
        for _ in range(500):
            module.token_info(slot)

    with interposer.counted() as calls:
        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert calls == ["C_GetTokenInfo"] * 4000


def test_one_call_fails(interposer: Interposer, module: BareModule, slot: int) -> None:
    interposer.fail("C_GetTokenInfo", Rv.DEVICE_ERROR, nth=2)
    module.token_info(slot)
    module.open(slot)
    with refused(Rv.DEVICE_ERROR):
        module.token_info(slot)
    module.token_info(slot)
    assert interposer.fired == 1


def test_a_function_fails_always(interposer: Interposer, module: BareModule, slot: int) -> None:
    interposer.always("C_GetTokenInfo,C_GetMechanismList")
    for _ in range(3):
        with refused(Rv.FUNCTION_NOT_SUPPORTED):
            module.token_info(slot)
        with refused(Rv.FUNCTION_NOT_SUPPORTED):
            module.mechanisms(slot)
    module.open(slot)
    interposer.clear()
    module.token_info(slot)


def test_any_call_fails_but_those_excluded(
    interposer: Interposer, module: BareModule, slot: int
) -> None:
    with interposer.failing(1, Rv.GENERAL_ERROR):
        session = module.open(slot)
        module("C_CloseSession", session)
        with refused(Rv.GENERAL_ERROR):
            module.token_info(slot)
        module.token_info(slot)
    with interposer.failing(1, Rv.GENERAL_ERROR, excluding=()):
        session = module.open(slot)
        with refused(Rv.GENERAL_ERROR):
            module("C_CloseSession", session)
    with interposer.failing(5):
        pass
    for _ in range(8):
        module.token_info(slot)


@pytest.mark.parametrize("after", [False, True])
def test_steps_of_the_test_are_counted_among_the_calls(
    interposer: Interposer, module: BareModule, slot: int, after: bool
) -> None:
    with interposer.failing(2, after=after):
        module.token_info(slot)
        assert not interposer.step_fails()
        assert interposer.step_fails()
        module.token_info(slot)
        assert not interposer.step_fails()
    with interposer.failing(1, after=after):
        assert not interposer.step_fails()
        with refused(Rv.DEVICE_ERROR):
            module.token_info(slot)
        assert not interposer.step_fails()


def test_an_answer_is_lost_though_the_work_is_done(
    softhsm_token: Softhsm, interposer: Interposer, module: BareModule, slot: int
) -> None:
    session = module.open(slot)
    module.login(session, softhsm_token.pin)
    interposer.fail("C_GenerateKeyPair", after=True)
    with refused(Rv.DEVICE_ERROR):
        pair(module, session)
    assert len(module.find(session, {KEY_TYPE: EC})) == 2
    interposer.fail("C_GenerateKeyPair")
    with refused(Rv.DEVICE_ERROR):
        pair(module, session)
    assert len(module.find(session, {KEY_TYPE: EC})) == 2


def test_reset_puts_everything_back(
    softhsm_token: Softhsm, interposer: Interposer, module: BareModule, slot: int
) -> None:
    interposer.set_tries(2, used=2)
    assert pin_flags(module, slot) & LOCKED
    interposer.speak("login_first", "own_ids")
    interposer.always("C_Login")
    interposer.remove(slot, Rv.SESSION_HANDLE_INVALID)
    interposer.reset()
    session = module.open(slot)
    interposer.set(tries=2)
    module.login(session, softhsm_token.pin)
    interposer.remove(slot)
    with refused(Rv.DEVICE_REMOVED):
        module.find(session, {})


def test_without_a_compiler_tests_are_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(pytest.skip.Exception, match="is not installed"):
        _compiled.__wrapped__()


def test_a_misspelt_rule_or_setting_is_refused(interposer: Interposer) -> None:
    with pytest.raises(ValueError, match="C_Generate"):
        interposer.fail("C_Generate")
    with pytest.raises(ValueError, match="raw_pionts"):
        interposer.speak("raw_pionts")


# -- processes -------------------------------------------------------------------------------------

CHILD = """
import os
from bare_module import *
module = BareModule(os.environ["MODULE"])
module("C_Initialize", None)
session = module.open(module.slots()[0])
module.login(session, os.environ["PIN"])
public = {TOKEN: True, PRIVATE: False, EC_PARAMS: bytes.fromhex("06082a8648ce3d030107")}
try:
    module.generate(session, EC_GENERATION, public, {TOKEN: True, SIGN: True})
except RefusedError as error:
    raise SystemExit(error.code)
"""


def run_child(
    rig: Softhsm,
    interposer: Interposer,
    rules: tuple[Rule, ...] = (),
    features: tuple[str, ...] = (),
) -> tuple[int, list[str]]:
    """The exit status of a process that makes a key pair on the token, and what it called."""
    log = interposer.path.with_name("log")
    log.unlink(missing_ok=True)
    folder = {"PYTHONPATH": str(Path(__file__).parent), "PIN": rig.pin}
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        env=os.environ
        | folder
        | {"MODULE": str(interposer.path)}
        | interposer.environment(rules=rules, features=features, log=log),
        check=False,
    )
    return done.returncode, log.read_text().split()


def pairs_there(rig: Softhsm, module: BareModule, slot: int) -> int:
    session = module.open(slot)
    module.login(session, rig.pin)
    found = module.find(session, {KEY_TYPE: EC})
    module("C_CloseSession", session)
    return len(found) // 2


def test_a_process_is_killed_before_or_after_a_call(
    softhsm_token: Softhsm, interposer: Interposer, module: BareModule, slot: int
) -> None:
    status, calls = run_child(softhsm_token, interposer)
    assert (status, calls[-1]) == (0, "C_GenerateKeyPair")
    assert pairs_there(softhsm_token, module, slot) == 1
    for action, pairs in ((Action.KILL, 1), (Action.KILL_AFTER, 2)):
        rules = (Rule("C_GenerateKeyPair", 1, action),)
        status, calls = run_child(softhsm_token, interposer, rules)
        assert (status, calls[-1]) == (-signal.SIGKILL, "C_GenerateKeyPair")
        assert pairs_there(softhsm_token, module, slot) == pairs


def test_a_process_takes_rules_and_settings_from_its_environment(
    softhsm_token: Softhsm, interposer: Interposer
) -> None:
    rules = (
        Rule("C_GetSlotInfo", 0, rv=Rv.GENERAL_ERROR),
        Rule("C_GenerateKeyPair", 1, Action.FAIL, 0x54),
    )
    assert run_child(softhsm_token, interposer, rules)[0] == 0x54
    assert run_child(softhsm_token, interposer, features=("oids", "other_codes"))[0] == 0


def test_a_forked_process_can_go_on(interposer: Interposer, module: BareModule, slot: int) -> None:
    child = os.fork()
    if child == 0:
        try:
            module.token_info(slot)
            interposer.remove(slot)
            with refused(Rv.TOKEN_NOT_PRESENT):
                module.token_info(slot)
            os._exit(0)
        except BaseException:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    module.token_info(slot)


# -- one module beside another ---------------------------------------------------------------------


def test_copies_are_modules_of_their_own(
    softhsm_token: Softhsm, interposer: Interposer, module: BareModule, slot: int, tmp_path: Path
) -> None:
    interposer.always("C_GetTokenInfo")
    with Interposer(softhsm_token.module, tmp_path / "second", beside=True) as second:
        other = BareModule(second.path)
        with refused(0x190):
            other.slots()
        other("C_Initialize", None)
        session = other.open(other.slots()[0])
        other.token_info(other.slots()[0])
        with refused(Rv.FUNCTION_NOT_SUPPORTED):
            module.token_info(slot)
        other.login(session, softhsm_token.pin)
        pair(other, session)
    mine = module.open(slot)
    module.login(mine, softhsm_token.pin)
    pair(module, mine)
    with refused(0x190):
        other.slots()


def test_the_next_finds_the_real_module_as_new(softhsm_token: Softhsm, tmp_path: Path) -> None:
    with Interposer(softhsm_token.module, tmp_path / "first") as first:
        module = BareModule(first.path)
        module("C_Initialize", None)
        first.speak("oids")
        first.always(ANY)
    second = Interposer(softhsm_token.module, tmp_path / "second")
    other = BareModule(second.path)
    other("C_Initialize", None)
    session = other.open(other.slots()[0])
    with refused(0x190):  # the first one knows that its time is over, and is heard no more
        module("C_Finalize", None)
    other.find(session, {})
    module("C_Initialize", None)  # it can be had again: then the other's sessions are gone
    module.token_info(module.slots()[0])
    with refused(Rv.SESSION_HANDLE_INVALID):
        other.find(session, {})
    first.finalise()


def test_a_module_that_cannot_lock(interposer: Interposer) -> None:
    module = BareModule(interposer.path)
    interposer.speak("cannot_lock")
    with refused(Rv.CANT_LOCK):
        module("C_Initialize", InitializeArguments(flags=2))
    interposer.set(cannot_lock=0)
    module("C_Initialize", InitializeArguments(flags=2))
    module("C_Finalize", None)
    interposer.speak("cannot_lock")
    module("C_Initialize", None)
    module.slots()


# -- sessions and removal --------------------------------------------------------------------------


def test_a_session_limit_is_reached(interposer: Interposer, module: BareModule, slot: int) -> None:
    interposer.limit_sessions(2)
    sessions = [module.open(slot), module.open(slot)]
    for _ in range(2):
        with refused(Rv.SESSION_COUNT):
            module.open(slot)
    for handle in range(max(sessions) + 1, max(sessions) + 3):  # SoftHSM counts up
        with refused(Rv.SESSION_HANDLE_INVALID):  # none is left behind
            module.find(handle, {})
    module("C_CloseSession", sessions[0])
    module.open(slot)
    with refused(Rv.SESSION_COUNT):
        module.open(slot)
    module("C_CloseAllSessions", slot)
    for _ in range(2):
        module.open(slot)
    module("C_Finalize", None)
    module("C_Initialize", None)
    for _ in range(2):
        module.open(slot)
    interposer.remove(slot)
    interposer.insert(slot)
    for _ in range(2):
        module.open(slot)
    interposer.limit_sessions(0)
    module.open(slot)


def test_a_session_limit_may_be_told(interposer: Interposer, module: BareModule, slot: int) -> None:
    def told() -> list[int]:
        return [module.token_info(slot).counts_and_memory[index] for index in (0, 2)]

    before = told()
    interposer.limit_sessions(2)
    assert told() == before
    interposer.limit_sessions(2, said=True)
    assert told() == [2, 2]


def test_the_limit_is_each_tokens_own(softhsm_token: Softhsm, interposer: Interposer) -> None:
    softhsm_token.add_token("second")
    module = BareModule(interposer.path)
    module("C_Initialize", None)
    interposer.limit_sessions(1)
    first, second = module.slots()[:2]
    module.open(first)
    module.open(second)
    with refused(Rv.SESSION_COUNT):
        module.open(second)


def test_a_removed_token_is_gone_and_comes_back_without_its_sessions(
    softhsm_token: Softhsm, interposer: Interposer, module: BareModule, slot: int
) -> None:
    session = module.open(slot)
    module.login(session, softhsm_token.pin)
    everywhere = module.slots(present=False)
    assert module.slot_flags(slot) & TOKEN_PRESENT
    interposer.remove(slot)
    assert slot not in module.slots()
    assert module.slots(present=False) == everywhere
    assert not module.slot_flags(slot) & TOKEN_PRESENT
    with refused(BUFFER_TOO_SMALL):
        module.slots(room=len(everywhere) - 2)
    for call in (module.token_info, module.mechanisms, module.open):
        with refused(Rv.TOKEN_NOT_PRESENT):
            call(slot)
    with refused(Rv.TOKEN_NOT_PRESENT):
        module.mechanism_info(slot, ECDSA)
    with refused(Rv.DEVICE_REMOVED):
        module.find(session, {})
    interposer.insert(slot)
    assert slot in module.slots()
    with refused(Rv.SESSION_HANDLE_INVALID):
        module.find(session, {})
    again = module.open(slot)
    assert again != session
    with refused(Rv.USER_NOT_LOGGED_IN):
        pair(module, again)
    module.login(again, softhsm_token.pin)
    pair(module, again)


def test_removal_may_be_told_otherwise(
    interposer: Interposer, module: BareModule, slot: int
) -> None:
    session = module.open(slot)
    interposer.remove(slot, Rv.SESSION_HANDLE_INVALID)
    with refused(Rv.SESSION_HANDLE_INVALID):
        module.find(session, {})


def test_another_token_stays(softhsm_token: Softhsm, interposer: Interposer) -> None:
    softhsm_token.add_token("second")
    module = BareModule(interposer.path)
    module("C_Initialize", None)
    first, second = module.slots()[:2]
    session = module.open(second)
    interposer.remove(first)
    module.token_info(second)
    module.find(session, {})


def test_a_token_is_removed_under_load(
    softhsm_token: Softhsm, interposer: Interposer, module: BareModule, slot: int
) -> None:
    codes: list[int] = []
    started = threading.Barrier(5)

    def ask() -> None:
        session = module.open(slot)
        started.wait()
        try:
            while True:
                module.find(session, {})
        except RefusedError as error:
            codes.append(error.code)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    started.wait()
    interposer.remove(slot)
    for thread in threads:
        thread.join()
    assert codes == [Rv.DEVICE_REMOVED] * 4


# -- PIN tries -------------------------------------------------------------------------------------


def pin_flags(module: BareModule, slot: int) -> int:
    return module.token_info(slot).flags & USER_PIN_FLAGS


def test_softhsm_alone_never_locks(softhsm_token: Softhsm, module: BareModule, slot: int) -> None:
    session = module.open(slot)
    for _ in range(12):
        with refused(PIN_INCORRECT):
            module.login(session, "wrong")
    assert not pin_flags(module, slot) & (FINAL_TRY | LOCKED)
    module.login(session, softhsm_token.pin)


def test_tries_run_out(
    softhsm_token: Softhsm, interposer: Interposer, module: BareModule, slot: int
) -> None:
    interposer.set_tries(3)
    session = module.open(slot)
    seen = [pin_flags(module, slot)]
    for _ in range(3):
        with refused(PIN_INCORRECT):
            module.login(session, "wrong")
        seen.append(pin_flags(module, slot))
    assert seen == [0, COUNT_LOW, COUNT_LOW | FINAL_TRY, COUNT_LOW | LOCKED]
    with refused(Rv.PIN_LOCKED):
        module.login(session, softhsm_token.pin)
    interposer.unlock()
    assert pin_flags(module, slot) == 0
    module.login(session, softhsm_token.pin)


def test_the_right_pin_gives_back_all_tries(
    softhsm_token: Softhsm, interposer: Interposer, module: BareModule, slot: int
) -> None:
    interposer.set_tries(3, used=2)
    session = module.open(slot)
    assert pin_flags(module, slot) == COUNT_LOW | FINAL_TRY
    module.login(session, softhsm_token.pin)
    assert pin_flags(module, slot) == 0
    with refused(ALREADY_LOGGED_IN):
        module.login(session, "wrong")
    assert pin_flags(module, slot) == 0  # a try that was none


def test_the_security_officer_has_tries_too_and_unblocks_the_user(
    softhsm_token: Softhsm, interposer: Interposer, module: BareModule, slot: int
) -> None:
    interposer.set_tries(2, used=1)
    session = module.open(slot)
    with refused(PIN_INCORRECT):
        module.login(session, "wrong")
    assert pin_flags(module, slot) & LOCKED
    assert module.token_info(slot).flags >> 4 & USER_PIN_FLAGS == COUNT_LOW | FINAL_TRY
    module.login(session, softhsm_token.so_pin, SO)
    assert module.token_info(slot).flags >> 4 & USER_PIN_FLAGS == 0
    module("C_InitPIN", session, b"another PIN", 11)
    module("C_Logout", session)
    assert not pin_flags(module, slot)
    module.login(session, "another PIN")


def test_changing_the_pin_uses_tries_as_well(
    softhsm_token: Softhsm, interposer: Interposer, module: BareModule, slot: int
) -> None:
    interposer.set_tries(2)
    interposer.set(pin_to_be_changed=1)
    assert pin_flags(module, slot) == TO_BE_CHANGED
    session = module.open(slot)
    old = softhsm_token.pin.encode()
    with refused(PIN_INCORRECT):
        module("C_SetPIN", session, b"wrong", 5, b"another PIN", 11)
    assert pin_flags(module, slot) == TO_BE_CHANGED | COUNT_LOW | FINAL_TRY
    module("C_SetPIN", session, old, len(old), b"another PIN", 11)
    assert pin_flags(module, slot) == 0
    module.login(session, "another PIN")


def test_a_blocked_pin_cannot_be_changed(
    softhsm_token: Softhsm, interposer: Interposer, module: BareModule, slot: int
) -> None:
    interposer.set_tries(2, used=2)
    session = module.open(slot)
    pin = softhsm_token.pin.encode()
    with refused(Rv.PIN_LOCKED):
        module("C_SetPIN", session, pin, len(pin), b"another PIN", 11)


def test_the_security_officers_pin_is_counted_by_itself(
    softhsm_token: Softhsm, interposer: Interposer, module: BareModule, slot: int
) -> None:
    interposer.set_tries(3)
    session = module.open(slot)
    module.login(session, softhsm_token.so_pin, SO)
    with refused(PIN_INCORRECT):
        module("C_SetPIN", session, b"wrong", 5, b"another PIN", 11)
    assert module.token_info(slot).flags >> 4 & USER_PIN_FLAGS == COUNT_LOW
    assert pin_flags(module, slot) == 0


def test_initialising_uses_the_security_officers_tries_and_frees_the_users(
    softhsm_token: Softhsm, interposer: Interposer, module: BareModule, slot: int
) -> None:
    so_pin, label = softhsm_token.so_pin.encode(), b"again".ljust(32)
    interposer.set_tries(2, used=1)
    with refused(PIN_INCORRECT):
        module("C_InitToken", slot, b"wrong", 5, label)
    with refused(Rv.PIN_LOCKED):
        module("C_InitToken", slot, so_pin, len(so_pin), label)
    interposer.set_tries(2, used=1)
    assert pin_flags(module, slot) & FINAL_TRY
    module("C_InitToken", slot, so_pin, len(so_pin), label)
    assert pin_flags(module, slot) == 0


def test_each_token_counts_its_own_tries(softhsm_token: Softhsm, interposer: Interposer) -> None:
    softhsm_token.add_token("second")
    module = BareModule(interposer.path)
    module("C_Initialize", None)
    interposer.set_tries(3)
    first, second = module.slots()[:2]
    with refused(PIN_INCORRECT):
        module.login(module.open(first), "wrong")
    assert [pin_flags(module, slot) for slot in (first, second)] == [COUNT_LOW, 0]


def test_context_specific_logins_have_tries_of_their_own(
    softhsm_token: Softhsm, interposer: Interposer, module: BareModule, slot: int
) -> None:
    session = module.open(slot)
    module.login(session, softhsm_token.pin)
    _, key = pair(module, session, always_authenticate=True)
    interposer.set_tries(2)
    module.begin_signature(session, key, ECDSA)
    for _ in range(2):
        with refused(PIN_INCORRECT):
            module.login(session, "wrong", CONTEXT_SPECIFIC)
    with refused(Rv.PIN_LOCKED):
        module.login(session, softhsm_token.pin, CONTEXT_SPECIFIC)
    assert pin_flags(module, slot) == 0
    interposer.unlock()
    module.login(session, softhsm_token.pin, CONTEXT_SPECIFIC)


def test_a_pin_is_typed_at_the_reader(
    softhsm_token: Softhsm, interposer: Interposer, module: BareModule, slot: int
) -> None:
    session = module.open(slot)
    assert not module.token_info(slot).flags & PROTECTED_PATH
    with pytest.raises(RefusedError):
        module.login(session, None)
    interposer.set_pinpad("wrong")
    interposer.set_tries(2)
    assert module.token_info(slot).flags & PROTECTED_PATH
    with refused(PIN_INCORRECT):
        module.login(session, None)
    assert pin_flags(module, slot) == COUNT_LOW | FINAL_TRY
    interposer.set_pinpad(softhsm_token.pin)
    module.login(session, None)
    pair(module, session)
