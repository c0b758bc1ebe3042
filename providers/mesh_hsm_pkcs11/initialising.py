"""What a security officer does: C_InitToken, C_InitPIN. Open this file to see what erases a token.

Every PIN is asked for, and everything that can be refused is refused, before anything is sent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pkcs11
from pkcs11 import TokenFlag
from pkcs11.exceptions import PinIncorrect, PinLocked

from mesh_hsm.errors import (
    ConflictError,
    DeviceError,
    FormatError,
    LastTryError,
    LockedOutError,
    MeshHsmError,
    UnsupportedError,
    WrongSecretError,
)
from mesh_hsm.secret_source import SecretKind, SecretRequest, SecretSource
from mesh_hsm_pkcs11 import cryptoki, naming, slots
from mesh_hsm_pkcs11.binding import MAPPER
from mesh_hsm_pkcs11.errors import explained
from mesh_hsm_pkcs11.pin import Pin
from mesh_hsm_pkcs11.pin_change import new_pin
from mesh_hsm_pkcs11.pin_lengths import why_not
from mesh_hsm_pkcs11.sessions import Sessions
from mesh_hsm_pkcs11.slots import Found

_LABEL_OCTETS: Final = 32


def initialise(
    found: Found,
    label: str,
    secrets: SecretSource,
    *,
    erase: bool,
    uri: str,
    erased: Callable[[Found], None],
) -> Found:
    """Erase a token and give it a name and PINs: the token as it is then.

    ``erased`` is told as soon as nothing is on it any more, whatever becomes of the PINs.
    """
    if not _is_label(label):
        raise FormatError(f"a token's label is 1 to {_LABEL_OCTETS} printable octets")
    if found.facts.initialised and not erase:
        raise ConflictError(
            f"the token {found.facts.label} is initialised already; everything on it would be lost",
            hint="--erase, if that is what you want",
            uri=uri,
        )
    if found.flags & TokenFlag.PROTECTED_AUTHENTICATION_PATH:
        raise UnsupportedError(
            "the token takes its PINs from its own keypad", hint="use its manufacturer's tools"
        )
    module = found.module
    taken = [one for one in slots.present(module) if one.facts.label == label]
    if any(one.facts.slot_id != found.facts.slot_id for one in taken):
        raise ConflictError(f"another token is called {label} already", hint="choose another label")
    so_pin, later = _officers_pins(found, secrets, uri)
    user_pin = new_pin(secrets, found, SecretKind.NEW_PIN)
    before = {_identity(one) for one in slots.present(module)}
    with module.turn(), explained("be initialised", uri), _so_refusal(found, uri):
        module.cryptoki.init_token(found.slot.slot_id, so_pin, label)
    made = _made(found, label, before, uri)
    erased(made)
    try:
        _set_pins(made, so_pin, user_pin, later, uri)
    except MeshHsmError as error:
        named = naming.token_uri(made.facts)
        error.hint = f"it is erased and has its name; now: mesh-hsm pin reset '{named}'"
        raise
    return _made(made, label, set(), uri)


def reset_pin(found: Found, secrets: SecretSource, uri: str) -> None:
    """Set the user's PIN anew; the keys stay."""
    if not found.facts.initialised:
        raise UnsupportedError(
            "the token is not initialised", hint=f"mesh-hsm token init '{uri}' --label NAME"
        )
    so_pin = _so_pin(found, secrets, uri)
    user_pin = new_pin(secrets, found, SecretKind.NEW_PIN)
    _set_pins(found, so_pin, user_pin, None, uri)


def _is_label(text: str) -> bool:
    fits = 1 <= len(text.encode("utf-8", "replace")) <= _LABEL_OCTETS
    return fits and text.isprintable() and text == text.strip()


def _officers_pins(found: Found, secrets: SecretSource, uri: str) -> tuple[Pin, Pin | None]:
    """The PIN for C_InitToken, and the one to replace it by afterwards.

    A token that was never initialised takes a new one, unless it left the factory with one that is
    meant to be replaced: that must be typed, since we try none that we know. SoftHSM says so of
    a PIN that it calls locked: there is none yet.
    """
    if found.facts.initialised:
        return _so_pin(found, secrets, uri), None
    from_factory = found.flags & (TokenFlag.SO_PIN_TO_BE_CHANGED | TokenFlag.SO_PIN_LOCKED)
    if from_factory == TokenFlag.SO_PIN_TO_BE_CHANGED:
        present = _so_pin(found, secrets, uri)
        return present, new_pin(secrets, found, SecretKind.NEW_SO_PIN)
    return new_pin(secrets, found, SecretKind.NEW_SO_PIN), None


def _so_pin(found: Found, secrets: SecretSource, uri: str) -> Pin:
    flags = found.slot.get_token().flags
    subject = f"token {found.facts.label}"
    if flags & TokenFlag.SO_PIN_LOCKED:
        raise LockedOutError(
            "the security officer's PIN is locked after too many wrong ones",
            hint="only the manufacturer's own tools may help now",
            uri=uri,
        )
    remaining = 1 if flags & TokenFlag.SO_PIN_FINAL_TRY else None
    request = SecretRequest(SecretKind.SO_PIN, subject, remaining)
    if remaining == 1 and not secrets.consents_to_last_try(request):
        raise LastTryError(
            "one try is left before the security officer's PIN locks; it was not tried",
            hint="agree to it with --use-last-try",
            uri=uri,
        )
    pin = Pin(secrets.secret(request))
    if trouble := why_not(pin, found):
        raise WrongSecretError(
            f"this is not the security officer's PIN, and was not tried: {trouble}", uri=uri
        )
    return pin


class _so_refusal:  # noqa: N801  reads as what it does in a with statement
    """Turn a refused PIN within the block into our error: it is the security officer's."""

    def __init__(self, found: Found, uri: str) -> None:
        self._found, self._uri = found, uri

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if isinstance(error, (PinIncorrect, PinLocked)):
            left = 1 if self._found.slot.get_token().flags & TokenFlag.SO_PIN_FINAL_TRY else None
            raise WrongSecretError(
                "the token refused the security officer's PIN",
                attempts_remaining=0 if isinstance(error, PinLocked) else left,
                uri=self._uri,
            ) from None


def _set_pins(found: Found, so_pin: Pin, user_pin: Pin, new_so_pin: Pin | None, uri: str) -> None:
    module = found.module
    with module.turn(), explained("set its user PIN", uri), _so_refusal(found, uri):
        session: pkcs11.Session = found.slot.get_token().open(rw=True, attribute_mapper=MAPPER)
        try:
            module.cryptoki.login(session.handle, cryptoki.SO, so_pin)  # type: ignore[attr-defined]  # the binding's stubs lack it
            try:
                session.init_pin(user_pin.text)
                Sessions.refused_by(found).discard(user_pin.mark)
                if new_so_pin is not None:
                    session.set_pin(so_pin.text, new_so_pin.text)
            finally:
                module.cryptoki.logout(session.handle)  # type: ignore[attr-defined]  # the same
        finally:
            session.close()


def _made(found: Found, label: str, before: set[tuple[str, str]], uri: str) -> Found:
    """The token after it was initialised: some modules give it another slot, or a new serial."""
    named = [one for one in slots.present(found.module) if one.facts.label == label]
    new = [one for one in named if _identity(one) not in before] or named
    same = [one for one in new if one.facts.slot_id == found.facts.slot_id] or new
    if len(same) != 1:
        raise DeviceError("the token cannot be found after it was initialised", uri=uri)
    return same[0]


def _identity(found: Found) -> tuple[str, str]:
    return found.facts.label, found.facts.serial
