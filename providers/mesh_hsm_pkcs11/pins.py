"""Changing a token's PIN. Open this file to see what is sent and what is checked before."""

from __future__ import annotations

from mesh_hsm.errors import FormatError, UnsupportedError
from mesh_hsm.secret_source import SecretKind, SecretRequest, SecretSource
from mesh_hsm_pkcs11.connection import Connection
from mesh_hsm_pkcs11.pin import Pin
from mesh_hsm_pkcs11.sessions import Session
from mesh_hsm_pkcs11.slots import Found


def change(connection: Connection) -> None:
    """Ask for the old PIN and the new one, and set it (C_SetPIN).

    The old one is proved by a login first: some modules change nothing for a wrong one, and say OK.
    """
    login = connection.login

    def set_pin(session: Session) -> None:
        old = login.pin
        if old is None:
            raise UnsupportedError("the token takes its PIN from its own keypad, or has none")
        new = new_pin(login.secrets, connection.found, SecretKind.NEW_PIN)
        with login.wrong_pin_told(old):
            session.raw.set_pin(old.text, new.text)
        login.changed(new)

    connection.run("change its PIN", set_pin)


def new_pin(secrets: SecretSource, found: Found, kind: SecretKind) -> Pin:
    """Ask for a new PIN, and refuse one that the token would not take."""
    pin = Pin(secrets.secret(SecretRequest(kind, f"token {found.facts.label}".rstrip())))
    check_new(pin, found)
    return pin


def check_new(pin: Pin, found: Found) -> None:
    """Refuse a length that the token says it does not take. Lengths are in octets."""
    shortest, longest = found.shortest_pin, found.longest_pin or 255
    _ = pin.text
    if not max(shortest, 1) <= len(pin) <= longest:
        raise FormatError(f"this token's PINs have {max(shortest, 1)} to {longest} octets")
