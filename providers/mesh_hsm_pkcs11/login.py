"""Getting in: what is read before a PIN is tried, and what is done with it. hsm-1 §12.

Open this file to audit when a PIN is asked for, sent, kept and forgotten. Login belongs to the
whole process: whoever opens a token here proves the PIN himself, to the token if nobody is logged
in yet, and else against the one that was right.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pkcs11 import TokenFlag
from pkcs11.exceptions import (
    PinExpired,
    PinIncorrect,
    PinLocked,
    UserAlreadyLoggedIn,
    UserPinNotInitialized,
)

from mesh_hsm.errors import LastTryError, MeshHsmError, SecretRequiredError, WrongSecretError
from mesh_hsm.secret_source import NoSecrets, SecretKind, SecretRequest, SecretSource
from mesh_hsm.uri import Uri
from mesh_hsm_pkcs11 import cryptoki, naming, pin_source
from mesh_hsm_pkcs11.errors import GONE, explain, locked_out
from mesh_hsm_pkcs11.pin import Pin
from mesh_hsm_pkcs11.pin_lengths import why_not
from mesh_hsm_pkcs11.sessions import Session, Sessions

_NONE: Final = Pin(b"")
"""No PIN from us: the token wants none, or has a keypad of its own."""


class Login:
    """One opened token's right to use its private objects. Forgets its PIN when it is closed."""

    def __init__(self, sessions: Sessions, secrets: SecretSource, uri: Uri) -> None:
        self.secrets = secrets
        self._sessions = sessions
        self._uri = uri
        self._pin: Pin | None = None
        self._proved_in: int | None = None

    @property
    def is_in(self) -> bool:
        """Whether nothing more need be asked, as far as we know."""
        now = self._sessions.login_generation
        return now is not None and now == self._proved_in == self._sessions.generation

    def ensure(self, session: Session) -> None:
        """Log in, unless this holder has proved its PIN already. The token's errors pass through.

        Raises ``SecretRequiredError`` and ``LastTryError``: no PIN was sent. ``LockedOutError``:
        the token said so before a PIN was sent, or in answer to one. ``WrongSecretError``: the
        token refused the PIN; or none was sent, as the token has refused this one already, cannot
        have one of its length, or let this program in with another. ``DeviceError``: the token went
        away while it had the PIN, and nobody knows whether it was tried.
        """
        if self.is_in and session.generation == self._proved_in:
            return
        shared = self._sessions
        with shared.login_lock:
            flags = shared.token().flags
            if not flags & TokenFlag.LOGIN_REQUIRED:
                pin = _NONE
            elif not flags & TokenFlag.USER_PIN_INITIALIZED:
                raise UserPinNotInitialized
            elif shared.login_generation == session.generation:
                pin = self._pin or self.ask(flags)
                self._compare(pin)
            else:
                pin = self._enter(session, flags)
            shared.login_generation = self._proved_in = session.generation
            self._pin = pin

    def ask(self, flags: TokenFlag) -> Pin:
        """The PIN from its source, after what is left of its tries was read.

        An empty one for a token that has its own keypad.
        """
        remaining = attempts(flags)
        request = SecretRequest(SecretKind.PIN, self._subject, remaining)
        self._check(request)
        if flags & TokenFlag.PROTECTED_AUTHENTICATION_PATH:
            if isinstance(self.secrets, NoSecrets):  # a listing bothers nobody at the keypad
                raise SecretRequiredError(f"the PIN of {request.subject} is typed on the token")
            return _NONE
        pin = self._given(request)
        if not pin:
            raise SecretRequiredError(f"the PIN of {request.subject} is empty", uri=str(self._uri))
        if trouble := why_not(pin, self._sessions.found):
            raise WrongSecretError(
                f"this is not the PIN of {request.subject}, and was not tried: {trouble}",
                attempts_remaining=remaining,
                uri=str(self._uri),
            )
        self._refuse_again(pin, remaining)
        return pin

    def confirm(self) -> Pin:
        """The PIN for a single use of a key that wants one each time: asked, and not kept."""
        return self.ask(self._sessions.token().flags)

    @contextmanager
    def wrong_pin_told(self, pin: Pin) -> Iterator[None]:
        """Turn the token's refusal of a PIN within the block into our error, with what is left."""
        wrong = False
        try:
            yield
        except PinIncorrect:
            wrong = True
        except PinLocked:
            raise locked_out(str(self._uri)) from None
        if wrong:  # outside: the binding's error is no cause that anybody needs
            self._sessions.refused.add(pin.mark)
            raise self._refusal()

    @property
    def pin(self) -> Pin | None:
        """The PIN that was right; None where the token needs none from us."""
        return self._pin or None

    def forget(self) -> None:
        """Drop the PIN."""
        self._pin = self._proved_in = None

    def changed(self, pin: Pin) -> None:
        """The token has this PIN now, and no other."""
        if self._pin is not None:
            self._sessions.refused.add(self._pin.mark)
        self._sessions.refused.discard(pin.mark)
        self._pin = pin
        if self._sessions.login_mark is not None:
            self._sessions.login_mark = pin.mark

    def _given(self, request: SecretRequest) -> Pin:
        # In a frame of its own, which raises nothing while it holds the octets.
        held = pin_source.read(self._uri)
        return Pin(self.secrets.secret(request) if held is None else held)

    def _refuse_again(self, pin: Pin, remaining: int | None) -> None:
        # Eight threads with one mistyped PIN would otherwise use up eight tries.
        if pin.mark in self._sessions.refused:
            raise WrongSecretError(
                "the token has refused this PIN already; it was not tried again",
                attempts_remaining=remaining,
                hint="if the token has been given this PIN since, begin anew in another process",
                uri=str(self._uri),
            )

    @property
    def _subject(self) -> str:
        return f"token {self._sessions.found.facts.label}"

    def _enter(self, session: Session, flags: TokenFlag) -> Pin:
        module = self._sessions.module.cryptoki
        if self._pin and self._pin.mark in self._sessions.refused:
            self._pin = None  # it was changed through another holder
        pin = self._pin or self.ask(flags)
        if self._pin:
            self._check(SecretRequest(SecretKind.PIN, self._subject, attempts(flags)))
        with self.wrong_pin_told(pin):
            try:
                module.login(session.handle, cryptoki.USER, pin)
            except UserAlreadyLoggedIn:
                # By another part of this program, past us. That proves no PIN: begin anew.
                module.logout(session.handle)
                module.login(session.handle, cryptoki.USER, pin)
            except PinExpired:
                self._pin = pin  # right, and to be changed before anything else
                raise
            except GONE as error:
                # Whether it was tried, nobody knows: it is not sent again by itself.
                self._pin = None
                raise explain(error, "log in", str(self._uri)) from error
        self._sessions.login_mark = pin.mark
        return pin

    def _refusal(self) -> MeshHsmError:
        """The error for a PIN that was wrong, with what is left now."""
        self._pin = self._proved_in = None
        remaining = attempts(self._sessions.token().flags)
        source = naming.query_attribute(self._uri, "pin-source")
        said = "the token does not tell how many tries are left" if remaining is None else None
        hint = f"the PIN came from pin-source={source}" if source else said
        if remaining == 0:
            return WrongSecretError(
                "the token refused the PIN and is locked now",
                attempts_remaining=0,
                hint=locked_out(str(self._uri)).hint,
                uri=str(self._uri),
            )
        said = "; one try is left" if remaining == 1 else ""
        return WrongSecretError(
            f"the token refused the PIN{said}",
            attempts_remaining=remaining,
            hint=hint,
            uri=str(self._uri),
        )

    def _check(self, request: SecretRequest) -> None:
        if request.attempts_remaining == 0:
            raise locked_out(str(self._uri))
        if request.attempts_remaining == 1 and not self.secrets.consents_to_last_try(request):
            raise LastTryError(
                f"one try is left before the token locks; the PIN of {request.subject} was not "
                "tried",
                hint="agree to it with --use-last-try",
                uri=str(self._uri),
            )

    def _compare(self, pin: Pin) -> None:
        mark = self._sessions.login_mark
        if mark is not None and not hmac.compare_digest(mark, pin.mark):
            self._pin = None
            raise WrongSecretError(
                "this is not the PIN with which this program is logged in to the token",
                uri=str(self._uri),
            )


def attempts(flags: TokenFlag) -> int | None:
    """Tries left, as far as PKCS #11 tells: 0 or 1, and None for more (v3.0 §3.2)."""
    if flags & TokenFlag.USER_PIN_LOCKED:
        return 0
    return 1 if flags & TokenFlag.USER_PIN_FINAL_TRY else None
