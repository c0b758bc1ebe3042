"""Changing the PIN, and setting a blocked one anew with the PUK. Open this to see what is sent."""

from __future__ import annotations

from typing import Final

from yubikit.core import InvalidPinError

from mesh_hsm.errors import DeviceError, FormatError
from mesh_hsm.secret_source import SecretKind, SecretRequest, SecretSource
from mesh_hsm_yubikey.card import Card, Hold
from mesh_hsm_yubikey.errors import CardGoneError
from mesh_hsm_yubikey.login import consent_to_last, given, puk_attempts, refusal
from mesh_hsm_yubikey.opened import Opened
from mesh_hsm_yubikey.pin import Pin

FACTORY_PIN: Final = "123456"
FACTORY_PUK: Final = "12345678"
"""Refused as anybody's new PIN or PUK; ``initialising`` alone sends them."""


def change(opened: Opened) -> None:
    """Ask for the old PIN and the new one, prove the old one, and change it."""
    login, card = opened.login, opened.card
    old = login.prepare()
    new = new_secret(login.secrets, SecretKind.NEW_PIN, card)

    def set_pin(hold: Hold) -> None:
        login.prove(hold, old)
        hold.piv.change_pin(old.text, new.text)

    try:
        opened.run("change its PIN", set_pin)
    except CardGoneError as error:
        login.forget()  # the old one is not sent again unasked
        raise DeviceError(
            f"{error}: whether the PIN is the old one or the new one is not known",
            hint="try the new one first; a wrong one costs a try",
            uri=error.uri,
        ) from error
    login.changed(new)


def unblock(card: Card, secrets: SecretSource) -> None:
    """Set a new PIN with the PUK, whose tries are read before and whose last is not spent unasked.

    Below firmware 5.3 nobody can tell how many are left: there each counts as the last.
    """
    left = card.run("say what tries are left", lambda hold: puk_attempts(hold.piv))
    card.release()  # nobody holds the reader while a person types
    request = SecretRequest(SecretKind.PUK, card.subject, left)
    consent_to_last(secrets, request, card.uri)
    puk = given(secrets, request, card.uri)
    new = new_secret(secrets, SecretKind.NEW_PIN, card)

    def set_pin(hold: Hold) -> None:
        now = puk_attempts(hold.piv)
        if now != left:
            raise DeviceError(
                "somebody else used the PUK meanwhile: nothing was sent",
                hint="look with mesh-hsm doctor what is left, and run it again",
                uri=card.uri,
            )
        try:
            hold.piv.unblock_pin(puk.text, new.text)
        except InvalidPinError as error:
            raise refusal("PUK", error.attempts_remaining, card) from error

    try:
        card.run("set a new PIN", set_pin)
    except CardGoneError as error:
        raise DeviceError(
            f"{error}: whether the new PIN is set is not known",
            hint=f"run mesh-hsm pin unblock '{card.uri}' again",
            uri=card.uri,
        ) from error


def new_secret(secrets: SecretSource, kind: SecretKind, card: Card) -> Pin:
    """Ask for a new PIN or PUK; one that no YubiKey takes, or everybody knows, is refused."""
    card.release()  # nobody holds the reader while a person types
    pin = Pin(secrets.secret(SecretRequest(kind, card.subject)))
    if trouble := pin.trouble:
        raise FormatError(f"the {kind} will not do: {trouble}")
    if pin.text in (FACTORY_PIN, FACTORY_PUK):
        raise FormatError(f"the {kind} will not do: it is the one of the factory")
    return pin
