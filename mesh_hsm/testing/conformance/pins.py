"""Promise: what is left is said before a PIN is tried, and the last try is nobody's but the user's.

Devices whose PINs are not counted prove only that a wrong secret is refused and a right one works.
"""
# ruff: noqa: S101  the kit is made of assertions; Token.keys is no dictionary's

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mesh_hsm.custody import PinPolicy
from mesh_hsm.errors import (
    LastTryError,
    LockedOutError,
    SecretRequiredError,
    WrongSecretError,
)
from mesh_hsm.provider import ChangesPin, DeviceKey, Token
from mesh_hsm.secret_source import SecretKind
from mesh_hsm.testing.conformance.bench import (
    Asked,
    Bench,
    CountedPin,
    Kit,
    exercise,
    make_any,
    seen,
)

_NEW = {
    SecretKind.PIN: SecretKind.NEW_PIN,
    SecretKind.PASSPHRASE: SecretKind.NEW_PASSPHRASE,
}


class Pins(Kit):
    """Secrets: asked when needed, counted where the device counts."""

    def test_a_wrong_secret_is_refused(self, bench: Bench, token: Token) -> None:
        """``WrongSecretError``, and the right one works afterwards, in the same instance."""
        if bench.asks is None:
            pytest.skip("keys without PIN need no secret on this device")
        make_any(token)
        token.close()
        secrets = bench.asked(wrong={bench.asks})
        with bench.open(secrets) as again:
            (key,) = again.keys()
            assert secrets.requests == []  # seen without logging in
            with pytest.raises(WrongSecretError) as caught:
                exercise(key)
            assert caught.value.attempts_remaining is None
            assert [request.kind for request in secrets.requests] == [bench.asks]
            secrets.wrong = frozenset()
            exercise(key)
            exercise(key)
            assert len(secrets.requests) == 2  # and is then remembered until the token is closed

    def test_without_a_secret_nothing_happens(self, bench: Bench, token: Token) -> None:
        """``SecretRequiredError`` where the source has none to give."""
        pin = bench.counted_pin
        if bench.asks is None and pin is None:
            pytest.skip("this device has no secrets at all")
        make_any(token, pin=pin.policy) if pin else make_any(token)
        token.close()
        with bench.open(Asked({})) as again:
            (key,) = again.keys()
            with pytest.raises(SecretRequiredError):
                exercise(key)

    def test_a_key_that_would_need_a_secret_is_not_made_without(self, bench: Bench) -> None:
        """Generation without the new secret fails and leaves nothing behind."""
        pin = bench.counted_pin
        if bench.asks is None and pin is None:
            pytest.skip("this device has no secrets at all")
        before = list(bench.leftovers())
        with bench.open(Asked({})) as token:
            with pytest.raises(SecretRequiredError):
                make_any(token, pin=pin.policy) if pin else make_any(token)
            assert seen(token) == {}
        assert list(bench.leftovers()) == before

    def test_tries_are_counted_and_said(self, bench: Bench, token: Token) -> None:
        """Each request shows what is left, each refusal what is left then."""
        pin = _counted(bench)
        with _pinned(bench, token, pin) as (key, secrets):
            secrets.wrong = frozenset({SecretKind.PIN})
            for left in range(pin.tries, 1, -1):
                with pytest.raises(WrongSecretError) as caught:
                    exercise(key)
                assert secrets.requests[-1].attempts_remaining == left
                assert caught.value.attempts_remaining == left - 1
            assert len(secrets.requests) == pin.tries - 1
            assert secrets.consents == []

    def test_the_last_try_needs_consent(self, bench: Bench, token: Token) -> None:
        """Without it nothing is sent, however often it is asked; with it the right PIN works."""
        pin = _counted(bench)
        with _pinned(bench, token, pin) as (key, secrets):
            _spend(key, secrets, pin.tries - 1)
            for _ in range(3):
                with pytest.raises(LastTryError):
                    exercise(key)
            assert [request.attempts_remaining for request in secrets.consents] == [1] * 3
            secrets.last_try = True
            exercise(key)

    def test_lockout_is_told_from_a_wrong_pin(self, bench: Bench, token: Token) -> None:
        """``LockedOutError`` with its recovery time, right PIN or not; afterwards the PIN works."""
        pin = _counted(bench)
        with _pinned(bench, token, pin) as (key, secrets):
            _spend(key, secrets, pin.tries - 1)
            secrets.last_try, secrets.wrong = True, frozenset({SecretKind.PIN})
            with pytest.raises((WrongSecretError, LockedOutError)) as caught:
                exercise(key)
            assert getattr(caught.value, "attempts_remaining", 0) == 0
            secrets.wrong = frozenset()
            with pytest.raises(LockedOutError) as locked:
                exercise(key)
            _check_recovery(pin, locked.value)
        with bench.open() as other:
            (key,) = other.keys()
            with pytest.raises(LockedOutError):
                exercise(key)
        bench.end_lockout()
        with bench.open() as other:
            (key,) = other.keys()
            exercise(key)

    def test_a_right_pin_works_after_wrong_ones(self, bench: Bench, token: Token) -> None:
        """In the same instance, without opening it anew."""
        pin = _counted(bench)
        with _pinned(bench, token, pin) as (key, secrets):
            _spend(key, secrets, 1)
            exercise(key)
            assert key.custody().pin is pin.policy

    def test_a_changed_secret_replaces_the_old(self, bench: Bench, token: Token) -> None:
        """The new one opens, the old one does not; a wrong old one changes nothing.

        It opens every key of the token where the PIN is shared, and this key alone where not.
        """
        if not isinstance(token, ChangesPin):
            pytest.skip("this device changes no PIN")
        pin = bench.counted_pin
        kind = SecretKind.PIN if pin or bench.asks is None else bench.asks
        policy = pin.policy if pin else PinPolicy.NONE
        uri, beside = (make_any(token, name, pin=policy).uri for name in ("a", "b"))
        token.close()
        new = {**bench.answers, _NEW[kind]: bench.new_secret}
        with bench.open(Asked(new, wrong={kind})) as stranger:
            assert isinstance(stranger, ChangesPin)
            with pytest.raises(WrongSecretError):
                stranger.change_pin(uri)
        with bench.open(Asked(new)) as owner:
            assert isinstance(owner, ChangesPin)
            shared = owner.pin_is_shared
            owner.change_pin(bench.uri if shared else uri)
            exercise(owner.key(uri)) if not pin else None
        with bench.open() as old:
            with pytest.raises(WrongSecretError):
                exercise(old.key(uri))
            exercise(old.key(beside)) if not shared else None
        with bench.open(Asked({**new, kind: bench.new_secret})) as again:
            exercise(again.key(uri))
            exercise(again.key(beside)) if shared else None


def _counted(bench: Bench) -> CountedPin:
    if bench.counted_pin is None:
        pytest.skip("this device counts no wrong tries")
    assert bench.counted_pin.tries >= 3, "the bench needs a device with at least three tries"
    assert bench.wrong_secret not in bench.answers.values()
    return bench.counted_pin


@contextmanager
def _pinned(bench: Bench, token: Token, pin: CountedPin) -> Iterator[tuple[DeviceKey, Asked]]:
    """A key with a PIN, opened by an instance that has not seen the PIN yet."""
    make_any(token, pin=pin.policy)
    token.close()
    secrets = bench.asked()
    with bench.open(secrets) as again:
        (key,) = again.keys()
        assert secrets.requests == []
        yield key, secrets


def _spend(key: DeviceKey, secrets: Asked, tries: int) -> None:
    secrets.wrong = frozenset({SecretKind.PIN})
    for _ in range(tries):
        with pytest.raises(WrongSecretError):
            exercise(key)
    secrets.wrong = frozenset()


def _check_recovery(pin: CountedPin, error: LockedOutError) -> None:
    if pin.recovery_seconds is None:
        assert error.recovery_seconds is None
    else:
        assert error.recovery_seconds is not None
        assert 0 < error.recovery_seconds <= pin.recovery_seconds
