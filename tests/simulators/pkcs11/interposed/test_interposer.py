"""The interposer counts, fails and kills; unasked, it does nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pkcs11
import pytest
from bare_module import (
    EC,
    KEY_TYPE,
    LABEL,
    BareModule,
    InitializeArguments,
)
from interposed_bench import LOCKED, pair, pin_flags, refused
from interposer import ANY, Action, Interposer, Rule, Rv, _compiled

from mesh_hsm.testing.softhsm import Softhsm


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
    folder = {"PYTHONPATH": str(Path(__file__).parents[1]), "PIN": rig.pin}
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
