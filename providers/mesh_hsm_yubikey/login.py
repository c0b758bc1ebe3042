"""The PIN: what is read before it is tried, and what is done with it. hsm-1 §11.

Open this file to audit when a PIN is asked for, sent, kept and forgotten. Whoever opens a token
proves the PIN himself, to the card, even where somebody else of this process has done so already.
"""

from __future__ import annotations

import threading
from hmac import compare_digest

from yubikit.core import InvalidPinError
from yubikit.piv import PivSession

from mesh_hsm.errors import LastTryError, SecretRequiredError, WrongSecretError
from mesh_hsm.secret_source import SecretKind, SecretRequest, SecretSource
from mesh_hsm_yubikey.card import Card, Hold
from mesh_hsm_yubikey.errors import blocked
from mesh_hsm_yubikey.pin import Pin


class Login:
    """One opened token's right to use its keys. Forgets its PIN when the token is closed."""

    def __init__(self, card: Card, secrets: SecretSource) -> None:
        self.secrets = secrets
        self._card = card
        self._pin: Pin | None = None
        self._refused: Pin | None = None
        self._asking = threading.Lock()
        self._last_try_agreed = False

    def prepare(self) -> Pin:
        """The PIN, asked for unless it is known; nobody holds the reader while a person types.

        Raises ``SecretRequiredError``, ``LastTryError``, ``LockedOutError``, and
        ``WrongSecretError`` for one that no YubiKey takes. Nothing but the tries was asked of the
        card.
        """
        with self._asking:
            if self._pin is None:
                left = self._card.run("say what tries are left", lambda h: h.piv.get_pin_attempts())
                self._card.release()
                request = SecretRequest(SecretKind.PIN, self._card.subject, left)
                self._consent(request)
                self._pin = given(self.secrets, request, self._card.uri)
            return self._pin

    def ensure(self, hold: Hold, pin: Pin) -> None:
        """The PIN proved in this hold by this login: enough for a key that asks once."""
        if hold.verified_by is not self:
            self.prove(hold, pin)

    def prove(self, hold: Hold, pin: Pin) -> None:
        """VERIFY now: what a key that asks each time wants as the very command before its use.

        Raises ``WrongSecretError``; nothing was sent where the card refused this PIN before, or
        where ``LastTryError`` or ``LockedOutError`` is raised.
        """
        uri = self._card.uri
        if hold.verified_by is not self:  # much may have happened to it elsewhere
            left = hold.piv.get_pin_attempts()
            if self._was_refused(pin):  # eight threads with one wrong PIN would spend eight tries
                if self._pin is pin:
                    self._pin = None
                raise WrongSecretError(
                    "the YubiKey has refused this PIN already; it was not tried again",
                    attempts_remaining=left,
                    uri=uri,
                )
            self._consent(SecretRequest(SecretKind.PIN, self._card.subject, left))
        hold.verified_by = None  # a wrong PIN ends what a right one began
        self._last_try_agreed = False
        try:
            hold.piv.verify_pin(pin.text)
        except InvalidPinError as error:
            left = error.attempts_remaining
        else:
            hold.verified_by = self
            return
        self._pin, self._refused = None, pin
        raise refusal("PIN", left, self._card)

    def changed(self, pin: Pin) -> None:
        """The card has this PIN now, and no other."""
        self._pin, self._refused = pin, None

    def forget(self) -> None:
        """Drop the PIN, and the one that was refused."""
        self._pin = self._refused = None

    def _was_refused(self, pin: Pin) -> bool:
        # By its octets: a source that remembers its answer gives the same one when asked again.
        return self._refused is not None and compare_digest(pin.octets, self._refused.octets)

    def _consent(self, request: SecretRequest) -> None:
        is_last = request.attempts_remaining == 1
        if not (is_last and self._last_try_agreed):
            consent_to_last(self.secrets, request, self._card.uri)
        self._last_try_agreed = is_last


def consent_to_last(secrets: SecretSource, request: SecretRequest, uri: str) -> None:
    """Raise ``LockedOutError`` where no try is left, ``LastTryError`` where nobody gives it up.

    What the firmware does not count for us (``None``) may be the last one.
    """
    left = request.attempts_remaining
    if left == 0:
        raise blocked(request.kind, uri)
    if left in (1, None) and not secrets.consents_to_last_try(request):
        said = "one try is left" if left else "this firmware does not say whether a try is left"
        raise LastTryError(
            f"{said} before the YubiKey blocks its {request.kind}; it was not used",
            hint="agree to it with --use-last-try",
            uri=uri,
        )


def given(secrets: SecretSource, request: SecretRequest, uri: str) -> Pin:
    """What a person gives as PIN or PUK, refused here where no YubiKey takes it."""
    pin = Pin(secrets.secret(request))
    if not pin.octets:
        raise SecretRequiredError(f"the {request.kind} of {request.subject} is empty", uri=uri)
    if trouble := pin.trouble:
        raise WrongSecretError(
            f"this is not the {request.kind} of {request.subject}, and was not tried: {trouble}",
            attempts_remaining=request.attempts_remaining,
            uri=uri,
        )
    return pin


def refusal(kind: str, left: int, card: Card) -> WrongSecretError:
    """The error for a PIN or PUK that the card refused. Several may be plugged in: it names it."""
    if left == 0:
        return WrongSecretError(
            f"{card.subject} refused the {kind} and has blocked it now",
            attempts_remaining=0,
            hint=blocked(kind, card.uri).hint,
            uri=card.uri,
        )
    said = "one try is left" if left == 1 else f"{left} tries are left"
    return WrongSecretError(
        f"{card.subject} refused the {kind}; {said}", attempts_remaining=left, uri=card.uri
    )


def puk_attempts(piv: PivSession) -> int | None:
    """Tries left for the PUK; None where the firmware (below 5.3) does not say."""
    return piv.get_puk_metadata().attempts_remaining if piv.version >= (5, 3, 0) else None
