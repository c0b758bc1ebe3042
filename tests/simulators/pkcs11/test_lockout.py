"""PINs: the last try, the locked, the changed, the one that another instance knows, the keypad."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mesh_hsm.curves import P384
from mesh_hsm.custody import PinPolicy
from mesh_hsm.errors import (
    DeviceError,
    LastTryError,
    LockedOutError,
    SecretRequiredError,
    UnsupportedError,
    WrongSecretError,
)
from mesh_hsm.provider import DeviceKey, KeySpec, Use
from mesh_hsm.secret_source import FixedSecrets, NoSecrets, SecretKind
from mesh_hsm.testing.conformance import Asked
from mesh_hsm.uri import Uri

from .conftest import AGREE, Hsm, answers

WRONG = "0000-0000"
CHANGED = "a changed PIN"
AGREEING = KeySpec("P-384", Use.ENCRYPT, "agree")
EACH_TIME = KeySpec("P-384", Use.SIGN, "sign", PinPolicy.ALWAYS)
DIGEST = bytes(48)
BY_KEYPAD = FixedSecrets({})
"""Has nothing to give; and whoever lists keys with ``NoSecrets`` has nobody stand at a keypad."""


def asked(hsm: Hsm, *, last_try: bool = False) -> Asked:
    pin = hsm.rig.pin.encode()
    return Asked({SecretKind.PIN: pin, SecretKind.NEW_PIN: pin}, last_try=last_try)


@pytest.fixture
def uri(hsm: Hsm) -> Uri:
    """A key, and nobody logged in."""
    made = hsm.open().generate(AGREEING).uri
    hsm.close()
    return made


def works(key: DeviceKey) -> bool:
    return key.agree(P384.base).x == key.public.x


# -- tries -----------------------------------------------------------------------------------------


def test_the_last_try_is_not_used_unasked(hsm: Hsm, uri: Uri) -> None:
    """Nobody is asked for the PIN, nothing is sent, and the try is still there."""
    hsm.interposer.set_tries(3, used=2)
    secrets = asked(hsm)
    key = hsm.open(secrets).key(uri)
    with hsm.interposer.counted() as calls:
        for _ in range(3):
            with pytest.raises(LastTryError):
                key.agree(P384.base)
        with pytest.raises(LastTryError):
            hsm.open(secrets).generate(KeySpec("P-384", Use.ENCRYPT, "another"))
    assert "C_Login" not in calls
    assert secrets.requests == []
    assert [request.attempts_remaining for request in secrets.consents] == [1, 1, 1, 1]


def test_the_last_try_is_used_with_consent(hsm: Hsm, uri: Uri) -> None:
    hsm.interposer.set_tries(3, used=2)
    secrets = asked(hsm, last_try=True)
    with hsm.interposer.counted() as calls:
        assert works(hsm.open(secrets).key(uri))
    assert calls.count("C_Login") == 1
    assert [request.attempts_remaining for request in secrets.requests] == [1]


def test_tries_run_out_and_it_is_said(hsm: Hsm, uri: Uri) -> None:
    """Two wrong ones leave the last, which is kept; a wrong last one locks the token."""
    hsm.interposer.set_tries(3)
    left = []
    for pin in ("wrong-1", "wrong-2"):
        with pytest.raises(WrongSecretError) as wrong, hsm.open(answers(pin)) as token:
            token.key(uri).agree(P384.base)
        left.append(wrong.value.attempts_remaining)
    with pytest.raises(LastTryError), hsm.open(answers(WRONG)) as token:
        token.key(uri).agree(P384.base)
    with (
        pytest.raises(WrongSecretError, match="locked") as wrong,
        hsm.open(answers(WRONG, last_try=True)) as token,
    ):
        token.key(uri).agree(P384.base)
    assert [*left, wrong.value.attempts_remaining] == [None, 1, 0]
    with hsm.interposer.counted() as calls, pytest.raises(LockedOutError) as locked:
        hsm.open(answers(hsm.rig.pin, last_try=True)).key(uri).agree(P384.base)
    assert "C_Login" not in calls
    assert "pin reset" in (locked.value.hint or "")


def test_a_refused_pin_is_sent_once(hsm: Hsm, uri: Uri) -> None:
    """An opened token does not spend a second try on it, whoever asks."""
    hsm.interposer.set_tries(5)
    key = hsm.open(answers(WRONG)).key(uri)
    with hsm.interposer.counted() as calls:
        for _ in range(4):
            with pytest.raises(WrongSecretError):
                key.agree(P384.base)
    assert calls.count("C_Login") == 1


def test_a_token_that_locks_while_somebody_is_logged_in(hsm: Hsm, uri: Uri) -> None:
    """By another program. Whoever is in stays in; whoever comes is told."""
    key = hsm.open().key(uri)
    assert works(key)
    hsm.interposer.set_tries(3, used=3)
    with hsm.interposer.counted() as calls:
        assert works(key)
    assert calls == AGREE


def test_what_is_said_of_a_key_without_its_pin(hsm: Hsm, uri: Uri) -> None:
    """What was read back when it was made, and that it is no more than that."""
    told = hsm.open().key(uri).custody()
    hsm.close()
    with hsm.interposer.counted() as calls:
        remembered = hsm.open(NoSecrets()).key(uri).custody()
    assert "C_Login" not in calls
    assert remembered.notes[1:] == told.notes
    assert "only after its PIN" in remembered.notes[0]
    assert (remembered.custody, remembered.pin) == (told.custody, told.pin)


# -- changed behind our back -----------------------------------------------------------------------


def test_a_pin_changed_by_another_program(hsm: Hsm, uri: Uri) -> None:
    """The login lasts as long as its sessions; then the old PIN is tried once, and not again."""
    token = hsm.open()
    key = token.key(uri)
    assert works(key)
    hsm.change_pin_elsewhere(hsm.rig.pin, CHANGED)
    assert works(key)
    hsm.bare("C_CloseAllSessions", hsm.slot)
    with hsm.interposer.counted() as calls, pytest.raises(WrongSecretError):
        key.agree(P384.base)
    assert calls.count("C_Login") == 1
    token.close()
    assert works(hsm.open(answers(CHANGED)).key(uri))
    hsm.rig.token = replace(hsm.rig.token, pin=CHANGED)


# -- two instances ---------------------------------------------------------------------------------


def test_who_comes_second_proves_the_pin_too(hsm: Hsm, uri: Uri) -> None:
    """Login belongs to the process; the right to use it does not."""
    first = hsm.open()
    assert works(first.key(uri))
    with pytest.raises(SecretRequiredError):
        hsm.open(NoSecrets()).key(uri).agree(P384.base)
    with hsm.interposer.counted() as calls, pytest.raises(WrongSecretError):
        hsm.open(answers(WRONG)).key(uri).agree(P384.base)
    assert "C_Login" not in calls  # it is known here to be wrong: no try is spent on it
    secrets = asked(hsm)
    with hsm.interposer.counted() as calls:
        assert works(hsm.open(secrets).key(uri))
    assert "C_Login" not in calls
    assert len(secrets.requests) == 1
    first.close()
    assert works(hsm.open(secrets).key(uri))


def test_the_first_one_closes_and_the_second_goes_on(hsm: Hsm, uri: Uri) -> None:
    first, second = hsm.open(), hsm.open()
    key = second.key(uri)
    assert works(first.key(uri))
    assert works(key)
    first.close()
    with hsm.interposer.counted() as calls:
        assert works(key)
    assert calls == AGREE
    with pytest.raises(DeviceError, match="closed"):
        first.keys()


def test_whoever_proved_nothing_cannot_use_what_the_other_left(hsm: Hsm, uri: Uri) -> None:
    """After the one who logged in has closed, too."""
    first, second = hsm.open(), hsm.open(NoSecrets())
    key = second.key(uri)
    assert works(first.key(uri))
    first.close()
    with pytest.raises(SecretRequiredError):
        key.agree(P384.base)


def test_nobody_uses_a_login_of_another_part_of_the_program(hsm: Hsm, uri: Uri) -> None:
    """Without a PIN of one's own there is nothing, though the token would not object."""
    key = hsm.open(NoSecrets()).key(uri)
    hsm.bare.login(hsm.elsewhere(), hsm.rig.pin)
    with pytest.raises(SecretRequiredError):
        key.agree(P384.base)
    assert works(hsm.open().key(uri))


# -- a PIN each time -------------------------------------------------------------------------------


def test_a_key_that_wants_its_pin_each_time(hsm: Hsm) -> None:
    """Asked for each signature; two calls more for each, one of them the login of its own."""
    secrets = asked(hsm)
    key = hsm.open(secrets).generate(EACH_TIME)
    assert key.custody().pin is PinPolicy.ALWAYS
    key.sign(DIGEST)
    before = len(secrets.requests)
    with hsm.interposer.counted() as calls:
        key.sign(DIGEST)
        key.sign(DIGEST)
    assert calls == 2 * ["C_GetTokenInfo", "C_SignInit", "C_Login", "C_Sign"]
    assert len(secrets.requests) - before == 2


def test_its_tries_are_its_own(hsm: Hsm) -> None:
    """Counted apart from the login's: a wrong last one locks this use of the key, and no other."""
    token = hsm.open()
    uri, other = token.generate(EACH_TIME).uri, token.generate(AGREEING)
    secrets = asked(hsm)
    key = hsm.open(secrets).key(uri)
    key.sign(DIGEST)
    hsm.interposer.set(context_tries=1)
    secrets._answers[SecretKind.PIN] = WRONG.encode()
    with pytest.raises(WrongSecretError):
        key.sign(DIGEST)
    secrets._answers[SecretKind.PIN] = hsm.rig.pin.encode()
    with pytest.raises(LockedOutError):
        key.sign(DIGEST)
    assert works(other)
    hsm.interposer.unlock()
    key.sign(DIGEST)


def test_its_last_try_is_not_used_unasked(hsm: Hsm) -> None:
    secrets = asked(hsm)
    key = hsm.open(secrets).generate(EACH_TIME)
    key.sign(DIGEST)
    hsm.interposer.set_tries(3, used=2)
    with hsm.interposer.counted() as calls, pytest.raises(LastTryError):
        key.sign(DIGEST)
    assert not {"C_Login", "C_SignInit"} & set(calls)
    secrets.last_try = True
    key.sign(DIGEST)


def test_without_a_pin_it_does_not_sign(hsm: Hsm) -> None:
    uri = hsm.open().generate(EACH_TIME).uri
    with hsm.interposer.counted() as calls, pytest.raises(SecretRequiredError):
        hsm.open(NoSecrets()).key(uri).sign(DIGEST)
    assert "C_SignInit" not in calls


def test_a_token_that_does_not_ask_each_time_is_refused(
    hsm: Hsm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some store the attribute and sign without: here it is not even stored."""
    from mesh_hsm_pkcs11 import templates

    real = templates.private_key

    def private_key(wish: templates.Wish, kind: int) -> templates.Template:
        template = real(wish, kind)
        return {n: v for n, v in template.items() if n.name != "ALWAYS_AUTHENTICATE"}

    monkeypatch.setattr(templates, "private_key", private_key)
    token = hsm.open()
    with pytest.raises(UnsupportedError, match="signs without"):
        token.generate(EACH_TIME)
    assert token.keys() == []


def test_no_pin_for_each_agreement(hsm: Hsm) -> None:
    with hsm.interposer.counted() as calls, pytest.raises(UnsupportedError, match="no way"):
        hsm.open().generate(KeySpec("P-384", Use.ENCRYPT, "agree", PinPolicy.ALWAYS))
    assert "C_Login" not in calls


# -- a keypad --------------------------------------------------------------------------------------


def test_a_keypad(hsm: Hsm, uri: Uri) -> None:
    """The token takes its PIN itself: nobody is asked here, and nothing is sent."""
    hsm.interposer.set_pinpad(hsm.rig.pin)
    token = hsm.open(BY_KEYPAD)
    assert works(token.key(uri))
    assert token.unseal(token.seal("seed", b"a seed")) == b"a seed"
    with pytest.raises(UnsupportedError, match="keypad"):
        token.change_pin(uri)
    key = token.generate(EACH_TIME)
    key.sign(DIGEST)
    with hsm.interposer.counted() as calls:
        key.sign(DIGEST)
    assert calls.count("C_Login") == 1
    hsm.close()


def test_a_wrong_pin_on_the_keypad(hsm: Hsm, uri: Uri) -> None:
    hsm.interposer.set_pinpad(WRONG)
    with pytest.raises(WrongSecretError) as wrong:
        hsm.open(BY_KEYPAD).key(uri).agree(P384.base)
    assert WRONG not in str(wrong.value)
    hsm.interposer.set_pinpad(hsm.rig.pin)
    assert works(hsm.open(BY_KEYPAD).key(uri))
    hsm.close()


def test_the_last_try_on_the_keypad(hsm: Hsm, uri: Uri) -> None:
    """It is not begun unasked: whoever stands before it might type anything."""
    hsm.interposer.set_pinpad(hsm.rig.pin)
    hsm.interposer.set_tries(3, used=2)
    with hsm.interposer.counted() as calls, pytest.raises(LastTryError):
        hsm.open(BY_KEYPAD).key(uri).agree(P384.base)
    assert "C_Login" not in calls
    hsm.interposer.set_tries(3, used=3)
    with pytest.raises(LockedOutError):
        hsm.open(BY_KEYPAD).key(uri).agree(P384.base)
    hsm.close()
