"""An interposed token has few sessions, is taken out and locks its PIN: SoftHSM never does."""

from __future__ import annotations

import threading

import pytest
from bare_module import CONTEXT_SPECIFIC, ECDSA, SO, BareModule
from interposed_bench import (
    ALREADY_LOGGED_IN,
    BUFFER_TOO_SMALL,
    COUNT_LOW,
    FINAL_TRY,
    LOCKED,
    PIN_INCORRECT,
    PROTECTED_PATH,
    TO_BE_CHANGED,
    TOKEN_PRESENT,
    USER_PIN_FLAGS,
    pair,
    pin_flags,
    refused,
)
from interposer import Interposer, Rv

from mesh_hsm.testing.softhsm import Softhsm
from mesh_hsm.testing.softhsm_maker import RefusedError

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
