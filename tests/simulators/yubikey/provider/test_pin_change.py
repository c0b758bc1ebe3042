"""Changing a PIN, and setting a blocked one anew with the PUK."""

from __future__ import annotations

import pytest
from own_yubikey import FACTORY, OTHER_PIN, PIN, PUK, WRONG_PIN, WRONG_PUK, Own, padded

from mesh_hsm.custody import PinPolicy
from mesh_hsm.errors import (
    DeviceError,
    FormatError,
    LastTryError,
    LockedOutError,
    SecretRequiredError,
    WrongSecretError,
)
from mesh_hsm.secret_source import SecretKind
from mesh_hsm.testing.virtual_yubikey.piv.names import Ins

DIGEST = bytes(32)
FIRMWARES = [(5, 7, 1), (4, 3, 5)]


@pytest.mark.parametrize("firmware", FIRMWARES, ids=str)
def test_the_pin_is_changed_and_what_is_open_knows_the_new_one(new_yubikey, firmware) -> None:
    own = new_yubikey(firmware)
    own.set_up()
    person = own.person(new_pin=OTHER_PIN)
    key = own.make(PinPolicy.ALWAYS)
    token = own.open(person)
    token.change_pin(own.uri)
    assert own.secrets_sent == [
        (Ins.VERIFY, padded(PIN)),
        (Ins.CHANGE_REFERENCE, padded(PIN) + padded(OTHER_PIN)),
    ]
    assert own.tries_were_read_first()
    token.key(key.uri).sign(DIGEST)
    assert person.kinds == [SecretKind.PIN, SecretKind.NEW_PIN]
    assert own.state.pin.value == padded(OTHER_PIN)


def test_a_wrong_old_pin_changes_nothing(own: Own) -> None:
    person = own.person(pin=WRONG_PIN, new_pin=OTHER_PIN)
    with pytest.raises(WrongSecretError) as caught:
        own.open(person).change_pin(own.uri)
    assert caught.value.attempts_remaining == 2
    assert not own.sent(Ins.CHANGE_REFERENCE)


@pytest.mark.parametrize("new", [b"12345", b"123456789", *FACTORY])
def test_a_new_pin_that_will_not_do_is_not_sent(own: Own, new: bytes) -> None:
    token = own.open(own.person(new_pin=new))
    with pytest.raises(FormatError):
        token.change_pin(own.uri)
    with pytest.raises(FormatError):
        own.provider.reset_pin(own.uri, own.person(new_pin=new))
    assert not own.secrets_sent


@pytest.mark.parametrize("processed", [False, True])
def test_cut_off_in_between_the_old_pin_is_not_tried_again_unasked(
    own: Own, processed: bool
) -> None:
    key = own.make(PinPolicy.ONCE)
    person = own.person(new_pin=OTHER_PIN)
    token = own.open(person)
    token.key(key.uri).sign(DIGEST)
    own.cut_at(Ins.CHANGE_REFERENCE, processed=processed)
    with pytest.raises(DeviceError, match="not known") as caught:
        token.change_pin(own.uri)
    assert "new one first" in (caught.value.hint or "")
    own.device.insert()
    own.wire.clear()
    person.answers[SecretKind.PIN] = own.state.pin.value.rstrip(b"\xff")
    token.key(key.uri).sign(DIGEST)
    assert own.sent(Ins.VERIFY) == [own.state.pin.value]
    assert own.state.pin.value == padded(OTHER_PIN if processed else PIN)


# -- with the PUK ----------------------------------------------------------------------------------


@pytest.mark.parametrize("firmware", FIRMWARES, ids=str)
def test_a_blocked_pin_is_set_anew_with_the_puk(new_yubikey, firmware) -> None:
    own = new_yubikey(firmware)
    own.set_up()
    key = own.make(PinPolicy.ONCE)
    own.state.pin.left = 0
    # Below 5.3 nobody knows what tries the PUK has left: each may be the last.
    person = own.person(new_pin=OTHER_PIN, last_try=firmware < (5, 3, 0))
    own.provider.reset_pin(own.uri, person)
    tells = firmware >= (5, 3, 0)
    assert [(one.kind, one.attempts_remaining) for one in person.asked] == [
        (SecretKind.PUK, 3 if tells else None),
        (SecretKind.NEW_PIN, None),
    ]
    assert own.secrets_sent == [(Ins.RESET_RETRY, PUK + padded(OTHER_PIN))]
    assert own.tries_were_read_first() or not tells
    own.open(own.person(pin=OTHER_PIN)).key(key.uri).sign(DIGEST)


@pytest.mark.parametrize("firmware", FIRMWARES, ids=str)
def test_a_wrong_puk_says_what_is_left(new_yubikey, firmware) -> None:
    own = new_yubikey(firmware)
    own.set_up()
    person = own.person(puk=WRONG_PUK, last_try=firmware < (5, 3, 0))
    with pytest.raises(
        WrongSecretError, match=r"YubiKey \d+ refused the PUK; 2 tries are left"
    ) as caught:
        own.provider.reset_pin(own.uri, person)
    assert caught.value.attempts_remaining == 2
    with pytest.raises(WrongSecretError, match="one try is left"):
        own.provider.reset_pin(own.uri, person)
    assert own.state.puk.left == 1


def test_the_last_try_of_the_puk_is_kept_unless_somebody_gives_it_up(own: Own) -> None:
    own.state.puk.left = 1
    person = own.person()
    with pytest.raises(LastTryError):
        own.provider.reset_pin(own.uri, person)
    assert not person.asked
    own.provider.reset_pin(own.uri, own.person(last_try=True))
    assert own.state.puk.left == 3


def test_the_last_wrong_try_and_a_blocked_puk_leave_erasing(own: Own) -> None:
    own.state.puk.left = 1
    person = own.person(puk=WRONG_PUK, last_try=True)
    with pytest.raises(WrongSecretError, match="blocked") as last:
        own.provider.reset_pin(own.uri, person)
    with pytest.raises(LockedOutError) as locked:
        own.provider.reset_pin(own.uri, person)
    for caught in (last, locked):
        assert "PUK" in str(caught.value)
        assert f"token init '{own.uri}' --label NAME --erase" in (caught.value.hint or "")
    assert len(own.secrets_sent) == 1


def test_a_blocked_puk_of_old_firmware_is_called_a_puk(new_yubikey) -> None:
    own = new_yubikey((4, 3, 5))
    own.set_up()
    own.state.puk.left = 0
    with pytest.raises(WrongSecretError, match="PUK") as caught:
        own.provider.reset_pin(own.uri, own.person(last_try=True))
    assert "--erase" in (caught.value.hint or "")


def test_a_puk_that_is_not_counted_for_us_may_be_at_its_last_try(new_yubikey) -> None:
    own = new_yubikey((4, 3, 5))
    own.set_up()
    own.forget()
    with pytest.raises(LastTryError, match="does not say"):
        own.provider.reset_pin(own.uri, own.person())
    assert not own.secrets_sent


def test_tries_of_the_puk_spent_meanwhile_are_noticed(own: Own) -> None:
    def spend(request) -> None:
        if request.kind is SecretKind.NEW_PIN:
            own.state.puk.left -= 1

    with pytest.raises(DeviceError, match="meanwhile") as caught:
        own.provider.reset_pin(own.uri, own.person(on_asked=spend))
    assert not own.secrets_sent
    assert caught.value.uri == str(own.uri)


@pytest.mark.parametrize(
    ("puk", "error"),
    [(b"", SecretRequiredError), (b"12345", WrongSecretError), (b"123456789", WrongSecretError)],
)
def test_what_no_yubikey_takes_as_puk_is_never_sent(own: Own, puk: bytes, error) -> None:
    with pytest.raises(error):
        own.provider.reset_pin(own.uri, own.person(puk=puk))
    assert not own.secrets_sent


@pytest.mark.parametrize("firmware", FIRMWARES, ids=str)
@pytest.mark.parametrize("processed", [False, True])
def test_cut_off_in_the_middle_of_it_nothing_is_lost(new_yubikey, firmware, processed) -> None:
    own = new_yubikey(firmware)
    own.set_up()
    own.state.pin.left, old = 0, firmware < (5, 3, 0)

    own.cut_at(Ins.RESET_RETRY, processed=processed)
    with pytest.raises(DeviceError, match="not known") as caught:
        own.provider.reset_pin(own.uri, own.person(new_pin=OTHER_PIN, last_try=old))
    assert own.wire[-1][1] == Ins.RESET_RETRY
    assert "pin unblock" in (caught.value.hint or "")
    own.device.insert()
    assert own.state.puk.left == 3
    assert own.state.pin.left == (3 if processed else 0)
    own.provider.reset_pin(own.uri, own.person(new_pin=OTHER_PIN, last_try=old))
    assert own.state.pin.value == padded(OTHER_PIN)
