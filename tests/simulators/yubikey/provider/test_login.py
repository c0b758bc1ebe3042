"""When a PIN is asked for, sent, kept and forgotten: read off the wire."""

from __future__ import annotations

import logging
import traceback

import pytest
from own_yubikey import FACTORY, OTHER_PIN, PIN, PUK, WRONG_PIN, Own, padded
from yubikit.logging import LOG_LEVEL

from mesh_hsm.custody import PinPolicy
from mesh_hsm.errors import (
    LastTryError,
    LockedOutError,
    MeshHsmError,
    SecretRequiredError,
    WrongSecretError,
)
from mesh_hsm.provider import KeySpec, Tries, Use
from mesh_hsm.secret_source import SecretKind
from mesh_hsm.testing.virtual_yubikey.piv.names import Ins

DIGEST = bytes(32)


@pytest.mark.parametrize("firmware", [(5, 7, 1), (5, 3, 0), (4, 3, 5)], ids=str)
@pytest.mark.parametrize("policy", [PinPolicy.ONCE, PinPolicy.ALWAYS])
def test_tries_are_read_before_the_pin_is_asked_for_and_before_it_is_sent(
    new_yubikey, firmware, policy
) -> None:
    own = new_yubikey(firmware)
    own.set_up()
    person = own.person()
    own.make(policy, person=person).sign(DIGEST)
    assert [(one.kind, one.attempts_remaining) for one in person.asked] == [(SecretKind.PIN, 3)]
    assert own.secrets_sent == [(Ins.VERIFY, padded(PIN))]
    assert own.tries_were_read_first()


@pytest.mark.parametrize(
    ("policy", "verified"), [(PinPolicy.NONE, 0), (PinPolicy.ONCE, 1), (PinPolicy.ALWAYS, 3)]
)
def test_a_key_takes_as_many_verifies_as_its_policy_says(own: Own, policy, verified) -> None:
    person = own.person()
    key = own.make(policy, person=person)
    for _ in range(3):
        key.sign(DIGEST)
    assert own.sent(Ins.VERIFY) == [padded(PIN)] * verified
    assert len(person.asked) == (1 if verified else 0)


def test_a_pin_that_is_known_is_proved_again_after_the_reader_was_given_up(own: Own) -> None:
    person = own.person()
    key = own.make(PinPolicy.ONCE, person=person)
    key.sign(DIGEST)
    own.forget()
    key.sign(DIGEST)
    assert own.secrets_sent == [(Ins.VERIFY, padded(PIN))]
    assert own.tries_were_read_first()
    assert len(person.asked) == 1


def test_everybody_who_opens_it_proves_the_pin_himself(own: Own) -> None:
    key = own.make(PinPolicy.ONCE)
    stranger = own.open(own.person(pin=WRONG_PIN)).key(key.uri)
    stranger._opened.login.prepare()  # asked before the other one begins, who lets go of nothing
    key.sign(DIGEST)
    with pytest.raises(WrongSecretError):
        stranger.sign(DIGEST)
    key.sign(DIGEST)
    assert own.sent(Ins.VERIFY) == [padded(PIN), padded(WRONG_PIN), padded(PIN)]


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (b"", SecretRequiredError),
        (b"12345", WrongSecretError),
        (b"123456789", WrongSecretError),
        ("24681ä".encode(), WrongSecretError),
        (b"\xff" * 8, WrongSecretError),
    ],
)
def test_what_no_yubikey_takes_as_pin_is_never_sent(own: Own, given, error) -> None:
    key = own.make(PinPolicy.ONCE, person=own.person(pin=given))
    with pytest.raises(error):
        key.sign(DIGEST)
    assert not own.secrets_sent
    assert own.state.pin.left == 3


def test_a_wrong_pin_says_what_is_left_and_is_asked_for_anew(own: Own) -> None:
    person = own.person(pin=WRONG_PIN)
    key = own.make(PinPolicy.ONCE, person=person)
    with pytest.raises(WrongSecretError) as caught:
        key.sign(DIGEST)
    assert caught.value.attempts_remaining == 2
    person.answers[SecretKind.PIN] = PIN
    key.sign(DIGEST)
    assert [one.attempts_remaining for one in person.asked] == [3, 2]
    assert own.state.pin.left == 3


def test_a_pin_that_was_refused_is_not_sent_again_by_who_waited_with_the_same(own: Own) -> None:
    key = own.make(PinPolicy.ONCE, person=own.person(pin=WRONG_PIN))
    login = key._opened.login
    pin = login.prepare()  # two threads were given the same answer
    for left in (2, 2):
        with pytest.raises(WrongSecretError) as caught:
            own.card.run("be asked", lambda hold: login.ensure(hold, pin))
        assert caught.value.attempts_remaining == left
    assert own.secrets_sent == [(Ins.VERIFY, padded(WRONG_PIN))]


def test_a_source_that_gives_a_refused_pin_again_spends_no_second_try(own: Own) -> None:
    person = own.person(pin=WRONG_PIN)
    key = own.make(PinPolicy.ONCE, person=person)
    for _ in range(2):
        with pytest.raises(WrongSecretError) as caught:
            key.sign(DIGEST)
        assert caught.value.attempts_remaining == 2
    assert own.secrets_sent == [(Ins.VERIFY, padded(WRONG_PIN))]
    person.answers[SecretKind.PIN] = PIN
    key.sign(DIGEST)
    assert own.state.pin.left == 3


def test_the_last_try_is_kept_unless_somebody_gives_it_up(own: Own) -> None:
    person = own.person()
    key = own.make(PinPolicy.ONCE, person=person)
    own.state.pin.left = 1
    with pytest.raises(LastTryError) as caught:
        key.sign(DIGEST)
    assert "--use-last-try" in (caught.value.hint or "")
    assert not own.secrets_sent
    assert not person.asked
    person.last_try = True
    key.sign(DIGEST)
    assert [one.attempts_remaining for one in person.consents] == [1, 1]
    assert own.secrets_sent == [(Ins.VERIFY, padded(PIN))]
    assert own.state.pin.left == 3


def test_a_last_try_given_up_once_is_not_given_up_for_good(own: Own) -> None:
    person = own.person(last_try=True)
    key = own.make(PinPolicy.ONCE, person=person)
    own.state.pin.left = 1
    key.sign(DIGEST)
    own.forget()
    own.state.pin.left, person.last_try = 1, False
    with pytest.raises(LastTryError):
        key.sign(DIGEST)
    assert not own.secrets_sent


@pytest.mark.parametrize("firmware", [(5, 7, 1), (4, 3, 5)], ids=str)
@pytest.mark.parametrize(
    ("wrong", "error"), [(1, None), (2, LastTryError), (3, LockedOutError)], ids=str
)
def test_tries_that_another_program_spends_while_a_person_types_are_noticed(
    new_yubikey, firmware, wrong, error
) -> None:
    own = new_yubikey(firmware)
    own.set_up()

    def spend(_) -> None:
        with own.other_program() as piv:
            for _ in range(wrong):
                with pytest.raises(Exception, match="Invalid PIN"):
                    piv.verify_pin(WRONG_PIN.decode())

    key = own.make(PinPolicy.ONCE, person=own.person(on_asked=spend))
    if error is None:
        key.sign(DIGEST)
        return
    with pytest.raises(error):
        key.sign(DIGEST)
    assert not own.secrets_sent
    assert own.state.pin.left == 3 - wrong


def test_the_last_wrong_try_and_a_blocked_pin_name_the_way_out(own: Own) -> None:
    key = own.make(PinPolicy.ONCE, person=own.person(pin=WRONG_PIN, last_try=True))
    own.state.pin.left = 1
    with pytest.raises(WrongSecretError, match="blocked") as last:
        key.sign(DIGEST)
    with pytest.raises(LockedOutError) as locked:
        key.sign(DIGEST)
    for caught in (last, locked):
        assert f"mesh-hsm pin unblock '{own.uri}'" in (caught.value.hint or "")
    assert last.value.attempts_remaining == 0
    assert len(own.secrets_sent) == 1


def test_a_closed_token_has_forgotten_its_pin(own: Own) -> None:
    token = own.open()
    login = token._opened.login
    login.prepare()
    token.close()
    assert login._pin is None
    assert own.is_free()


def test_no_factory_value_is_ever_sent_to_a_yubikey_in_use(new_yubikey) -> None:
    own = new_yubikey((4, 3, 5))  # says nothing of what is the factory's
    own.set_up()
    with own.open() as token:
        token.generate(KeySpec("P-256", Use.SIGN, "a", pin=PinPolicy.ONCE)).sign(DIGEST)
        token.change_pin(own.uri)
    own.provider.reset_pin(own.uri, own.person(last_try=True))
    own.provider.diagnose()
    assert not [data for _, data in own.secrets_sent if any(map(data.__contains__, FACTORY))]


def test_secrets_are_in_no_log_no_error_and_no_repr(own: Own, caplog) -> None:
    """yubikit logs whole commands at its level TRAFFIC, below DEBUG, from its own connection."""
    caplog.set_level(1)
    assert LOG_LEVEL.TRAFFIC > 1
    new_pin, new_puk = b"73519428", b"40285713"
    told: list[str] = []

    def attempt(work) -> None:
        try:
            told.append(repr(work()))
        except MeshHsmError as error:
            told.append("".join(traceback.format_exception(error)))

    person = own.person(new_pin=new_pin, new_puk=new_puk)
    provider = own.provider
    own.provider.initialise(own.uri, "test", person, erase=True, tries=Tries(5, 5))
    management_key = own.state.management.value
    for pin, puk in ((b"11111111", b"11111112"), (new_pin, new_puk)):
        person = own.person(pin=pin, puk=puk, new_pin=new_pin, management_key=b"31" * 32)
        token = own.open(person)
        attempt(lambda token=token: token)
        attempt(lambda token=token: token._opened.login.prepare())
        attempt(lambda token=token: token.generate(KeySpec("P-256", Use.SIGN, "k")))
        attempt(lambda token=token: token.change_pin(own.uri))
        attempt(lambda person=person: provider.reset_pin(own.uri, person))
        attempt(token.close)
    own.state.objects.pop(0x5FFF00)  # now the management key is asked for
    token = own.open(own.person(management_key=b"31" * 32))
    attempt(lambda: token.generate(KeySpec("P-256", Use.SIGN, "m")))
    attempt(lambda: token._opened.management._key)
    assert any("refused the management key" in one for one in told)
    logged = [record.getMessage() + str(record.args) for record in caplog.records]
    assert logged
    assert logging.getLogger("yubikit").isEnabledFor(LOG_LEVEL.TRAFFIC)
    for secret in (b"11111111", b"11111112", new_pin, new_puk, management_key, b"\x31" * 32):
        for text in (*told, *logged):
            assert secret.hex() not in text
            assert repr(secret)[2:-1] not in text
    assert not [one for one in told if PIN.decode() in one or PUK.decode() in one]
    assert not [one for one in told if OTHER_PIN.decode() in one]
