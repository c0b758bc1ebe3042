"""Changing a token's PIN. Open this file to see what is sent and what is checked before."""

from __future__ import annotations

from contextlib import suppress

from pkcs11.exceptions import PinExpired

from mesh_hsm.errors import DeviceError, FormatError, UnsupportedError
from mesh_hsm.secret_source import SecretKind, SecretRequest, SecretSource
from mesh_hsm_pkcs11.connection import Connection
from mesh_hsm_pkcs11.pin import Pin
from mesh_hsm_pkcs11.pin_lengths import why_not
from mesh_hsm_pkcs11.sessions import Session
from mesh_hsm_pkcs11.slots import Found


def change(connection: Connection) -> None:
    """Ask for the old PIN and the new one, and set it (C_SetPIN), once.

    The old one is proved by a login first: some modules change nothing for a wrong one, and say OK.
    """
    login = connection.login

    def prove(session: Session) -> None:
        with suppress(PinExpired):  # right, and good for nothing but this
            login.ensure(session)

    connection.run("let you in", prove, private=False)
    old = login.pin
    if old is None:
        raise UnsupportedError("the token takes its PIN from its own keypad, or has none")
    new = new_pin(login.secrets, connection.found, SecretKind.NEW_PIN)

    def set_pin(session: Session) -> None:
        with login.wrong_pin_told(old), session.at_risk():
            session.raw.set_pin(old.text, new.text)

    try:
        connection.run("change its PIN", set_pin, private=False, again=False)
    except DeviceError as error:
        login.forget()  # the old one is not sent again unasked
        raise DeviceError(
            f"{error}: whether the PIN is the old one or the new one is not known",
            hint="try the new one first; a wrong one costs a try",
            uri=error.uri,
        ) from error
    login.changed(new)


def new_pin(secrets: SecretSource, found: Found, kind: SecretKind) -> Pin:
    """Ask for a new PIN, and refuse one that the token would not take."""
    pin = Pin(secrets.secret(SecretRequest(kind, f"token {found.facts.label}".rstrip())))
    if trouble := why_not(pin, found):
        raise FormatError(f"the {kind} will not do: {trouble}")
    return pin
