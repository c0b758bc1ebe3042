"""``token init``: what it sends when, what it refuses, and that no cut leaves a dead YubiKey."""

from __future__ import annotations

from contextlib import suppress

import pytest
from own_yubikey import PIN, PUK, Own, padded
from yubikit.piv import KEY_TYPE, SLOT

from mesh_hsm.custody import PinPolicy
from mesh_hsm.errors import (
    AccessError,
    ConflictError,
    DeviceError,
    FormatError,
    MeshHsmError,
    NotFoundError,
    UnsupportedError,
)
from mesh_hsm.provider import KeySpec, Tries, Use
from mesh_hsm.secret_source import SecretKind
from mesh_hsm.testing.virtual_yubikey.piv.management_key import ManagementKey
from mesh_hsm.testing.virtual_yubikey.piv.names import Ins
from mesh_hsm.testing.virtual_yubikey.piv.state import FACTORY_PIN, FACTORY_PUK

SPEC = KeySpec("P-256", Use.SIGN, "key", pin=PinPolicy.ONCE)
FIRMWARES = [(5, 7, 1), (5, 4, 3), (5, 3, 0), (4, 3, 5)]
TELLING = FIRMWARES[:3]
"""Firmware that says whether its secrets are the factory's."""
WRITING = {
    Ins.CHANGE_REFERENCE,
    Ins.RESET_RETRY,
    Ins.GENERATE,
    Ins.PUT_DATA,
    Ins.MOVE,
    Ins.SET_RETRIES,
    Ins.RESET,
    Ins.IMPORT,
    Ins.SET_MANAGEMENT_KEY,
}


def nothing_was_changed(own: Own) -> bool:
    return not own.secrets_sent and not [one for one in own.wire if one[1] in WRITING]


def is_ours(own: Own) -> bool:
    """Whether PIN, PUK and management key are those of ``token init``, and a key can be made."""
    state = own.state
    with own.open() as token:
        token.generate(SPEC).sign(bytes(32))
    return (state.pin.value, state.puk.value) == (padded(PIN), PUK) and not (
        state.management.is_factory
    )


@pytest.mark.parametrize("firmware", TELLING, ids=str)
def test_a_new_yubikey_is_set_up_without_erasing(new_yubikey, firmware) -> None:
    own = new_yubikey(firmware)
    person = own.person()
    info = own.provider.initialise(own.uri, "mine", person)
    assert (info.label, info.initialised) == ("mine", True)
    assert person.kinds == [SecretKind.NEW_PIN, SecretKind.NEW_PUK]
    assert not own.sent(Ins.RESET)
    assert own.secrets_sent == [
        (Ins.CHANGE_REFERENCE, FACTORY_PUK + PUK),
        (Ins.CHANGE_REFERENCE, FACTORY_PIN + padded(PIN)),
    ]
    assert is_ours(own)


def test_factory_values_are_sent_only_after_the_card_said_that_they_are_in_force(
    new_yubikey,
) -> None:
    own = new_yubikey()
    own.provider.initialise(own.uri, "mine", own.person())
    first = next(n for n, one in enumerate(own.wire) if one[1] == Ins.CHANGE_REFERENCE)
    hold = max(n for n in range(first) if own.wire[n][1] == 0xFD)  # its PIV application selected
    asked = [one[3] for one in own.wire[hold:first] if one[1] == Ins.METADATA]
    assert {0x80, 0x81, 0x9B} <= set(asked)


@pytest.mark.parametrize("firmware", FIRMWARES, ids=str)
def test_one_in_use_is_refused_and_set_up_anew_when_that_is_asked_for(
    new_yubikey, firmware
) -> None:
    own = new_yubikey(firmware)
    own.set_up()
    with own.open() as token:
        token.generate(SPEC)
    own.forget()
    person = own.person()
    with pytest.raises(ConflictError) as caught:
        own.provider.initialise(own.uri, "again", person)
    assert "--erase" in (caught.value.hint or "")
    assert not person.asked
    assert nothing_was_changed(own)
    assert len(own.state.keys) == 2
    own.provider.initialise(own.uri, "again", person, erase=True)
    assert len(own.state.keys) == 1
    assert own.provider.tokens()[0].label == "again"
    assert is_ours(own)


def test_firmware_that_says_nothing_of_its_secrets_is_taken_for_used(new_yubikey) -> None:
    own = new_yubikey((4, 3, 5))
    with pytest.raises(ConflictError, match="does not say"):
        own.provider.initialise(own.uri, "mine", own.person())
    assert nothing_was_changed(own)
    own.set_up()
    assert is_ours(own)


@pytest.mark.parametrize("which", ["pin", "puk", "management", "key"])
def test_a_yubikey_of_which_anything_is_somebody_s_is_in_use(new_yubikey, which: str) -> None:
    own = new_yubikey()
    if which == "pin":
        own.state.pin.set(padded(PIN))
    elif which == "puk":
        own.state.puk.set(PUK)
    elif which == "management":
        own.state.management = ManagementKey(own.state.management.type, bytes(24))
    else:
        with own.other_program() as piv:
            piv.authenticate(own.state.management.value)
            piv.generate_key(SLOT.RETIRED7, KEY_TYPE.ECCP256)
    with pytest.raises(ConflictError):
        own.provider.initialise(own.uri, "mine", own.person())
    assert nothing_was_changed(own)


def test_one_that_another_program_sets_up_while_a_person_types_is_left_alone(new_yubikey) -> None:
    own = new_yubikey()

    def overtake(_) -> None:
        own.state.puk.set(b"11223344")

    with pytest.raises(ConflictError, match="meanwhile"):
        own.provider.initialise(own.uri, "mine", own.person(on_asked=overtake))
    assert nothing_was_changed(own)


@pytest.mark.parametrize("firmware", FIRMWARES, ids=str)
def test_tries_are_set_and_the_secrets_after_them(new_yubikey, firmware) -> None:
    own = new_yubikey(firmware)
    own.set_up(tries=Tries(15, 1))
    state = own.state
    assert (state.pin.total, state.pin.left, state.puk.total, state.puk.left) == (15, 15, 1, 1)
    assert is_ours(own)


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({"new_pin": b"12345"}, "takes 6 to 8"),
        ({"new_pin": b"123456789"}, "takes 6 to 8"),
        ({"new_pin": b""}, "takes 6 to 8"),
        ({"new_puk": b"1234567"[:5]}, "takes 6 to 8"),
        ({"new_pin": "pass€".encode()}, "takes plain ASCII"),
        ({"new_pin": b"123456"}, "factory"),
        ({"new_pin": b"12345678"}, "factory"),
        ({"new_puk": b"12345678"}, "factory"),
        ({"new_puk": b"123456"}, "factory"),
        ({"new_puk": PIN}, "two secrets"),
    ],
)
@pytest.mark.parametrize("erase", [False, True])
def test_secrets_that_will_not_do_are_refused_before_anything_is_changed(
    new_yubikey, answers, said, erase
) -> None:
    own = new_yubikey()
    with pytest.raises(FormatError, match=said) as caught:
        own.provider.initialise(own.uri, "mine", own.person(**answers), erase=erase)
    assert not any(one.decode() in str(caught.value) for one in answers.values() if one)
    assert nothing_was_changed(own)


@pytest.mark.parametrize("label", ["", "x" * 65, "a\nb"])
def test_labels_that_will_not_do(new_yubikey, label: str) -> None:
    own = new_yubikey()
    person = own.person()
    with pytest.raises(FormatError, match="label"):
        own.provider.initialise(own.uri, label, person)
    assert not person.asked


@pytest.mark.parametrize("tries", [Tries(0, 3), Tries(3, 0), Tries(16, 3), Tries(3, 16)])
def test_tries_that_will_not_do(new_yubikey, tries: Tries) -> None:
    own = new_yubikey()
    with pytest.raises(FormatError, match="1 to 15"):
        own.provider.initialise(own.uri, "mine", own.person(), tries=tries)
    assert nothing_was_changed(own)


@pytest.mark.parametrize("firmware", [(5, 7, 1), (4, 3, 5)], ids=str)
@pytest.mark.parametrize("answered", [False, True])
def test_wherever_it_is_pulled_out_a_second_erasing_mends_it(
    new_yubikey, firmware, answered
) -> None:
    """Cut off at each command in turn: nothing needs more than ``token init --erase`` again."""
    own = new_yubikey(firmware)
    step, cut = 0, True
    while cut:
        own.set_up()
        with own.open() as token:
            token.generate(SPEC)
        own.card.release()
        step += 1
        own.device.power_loss_after(step, answered)
        with suppress(DeviceError, NotFoundError):  # there no more, or not yet reached
            own.provider.initialise(own.uri, "x", own.person(), erase=True, tries=Tries(4, 4))
        cut = not own.device.present
        own.device.stop_failing()
        own.device.insert()
        own.forget()
    assert step > 25
    own.set_up()
    assert is_ours(own)


def test_what_was_set_up_by_half_says_so_and_makes_no_key(new_yubikey) -> None:
    own = new_yubikey()
    own.device.fail_next(Ins.SET_MANAGEMENT_KEY, 0x6F00)
    with pytest.raises(DeviceError, match="by half") as caught:
        own.provider.initialise(own.uri, "mine", own.person())
    assert "--erase" in (caught.value.hint or "")
    with own.open() as token, pytest.raises(UnsupportedError, match="factory management key"):
        token.generate(SPEC)
    with pytest.raises(ConflictError):
        own.provider.initialise(own.uri, "mine", own.person())


def test_pulled_out_before_it_was_reached_or_in_the_middle_of_erasing(own: Own) -> None:

    def pull(_) -> None:
        own.device.remove()

    with pytest.raises(MeshHsmError) as caught:
        own.provider.initialise(own.uri, "mine", own.person(on_asked=pull), erase=True)
    assert "half" not in str(caught.value)
    own.device.insert()
    own.device.fail_next(Ins.RESET, 0x6F00)
    with pytest.raises(DeviceError, match="by half"):
        own.provider.initialise(own.uri, "mine", own.person(), erase=True)
    own.set_up()
    assert is_ours(own)


def test_pulled_out_before_anything_was_changed_is_not_half_set_up(new_yubikey) -> None:
    own = new_yubikey()
    own.device.unplug_at(1)
    with pytest.raises(MeshHsmError) as caught:
        own.provider.initialise(own.uri, "mine", own.person())
    assert "half" not in str(caught.value)


# -- factory secrets -------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["PIN", "PUK", "management key"])
def test_no_key_is_made_while_a_secret_is_the_factory_s_unless_that_is_insisted_on(
    own: Own, which: str
) -> None:
    state = own.state
    if which == "PIN":
        state.pin.set(FACTORY_PIN)
    elif which == "PUK":
        state.puk.set(FACTORY_PUK)
    else:
        state.management = ManagementKey.factory((5, 7, 1))
        state.objects.pop(0x5FFF00)
    person = own.person(pin=FACTORY_PIN.rstrip(b"\xff"), management_key=b"0102030405060708" * 3)
    if which != "PIN":
        person.answers[SecretKind.PIN] = PIN
    token = own.open(person)
    for make in (
        lambda: token.generate(SPEC),
        lambda: token.import_scalar(SPEC, 12345, ("a dealer",)),
    ):
        with pytest.raises(UnsupportedError, match=f"factory {which}, ") as caught:
            make()
        assert "token init" in (caught.value.hint or "")
    assert not person.asked
    assert nothing_was_changed(own)
    insisted = KeySpec("P-256", Use.SIGN, "key", pin=PinPolicy.ONCE, allow_factory_secrets=True)
    token.generate(insisted).sign(bytes(32))


def test_all_of_them_are_named(new_yubikey) -> None:
    own = new_yubikey()
    with own.other_program() as piv:  # a key: not new, then, and it opens
        piv.authenticate(own.state.management.value)
        piv.generate_key(SLOT.RETIRED7, KEY_TYPE.ECCP256)
    with pytest.raises(UnsupportedError, match="PIN and PUK and management key"):
        own.open().generate(SPEC)


@pytest.mark.parametrize("firmware", TELLING, ids=str)
def test_a_yubikey_fresh_from_the_factory_does_not_open(new_yubikey, firmware) -> None:
    own = new_yubikey(firmware)
    assert not own.provider.tokens()[0].initialised
    with pytest.raises(UnsupportedError, match="left the factory") as caught:
        own.open()
    assert caught.value.hint == f"mesh-hsm token init '{own.uri}' --label NAME"


def test_firmware_that_does_not_say_opens_and_guesses_nothing(new_yubikey) -> None:
    own = new_yubikey((4, 3, 5))
    person = own.person(management_key=b"00" * 24)
    with own.open(person) as token, pytest.raises(AccessError):
        token.generate(KeySpec("P-256", Use.SIGN, "key", slot="9a"))
    assert person.kinds == [SecretKind.MANAGEMENT_KEY]
    assert not own.secrets_sent
