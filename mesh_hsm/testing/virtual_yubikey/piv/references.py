"""PIN and PUK: VERIFY, CHANGE REFERENCE DATA, RESET RETRY COUNTER, SET RETRIES, RESET.

SP 800-73-4 Part 2 §3.2.1 to §3.2.3. PINs are 8 octets, FF-padded on the right. A wrong try is in
the persistent state before the answer goes out.
"""

from __future__ import annotations

from typing import Final

from mesh_hsm.testing.virtual_yubikey.apdu import Command
from mesh_hsm.testing.virtual_yubikey.piv.names import Reference
from mesh_hsm.testing.virtual_yubikey.piv.state import (
    FACTORY_PIN,
    FACTORY_PUK,
    Context,
    Leftover,
    Secret,
)
from mesh_hsm.testing.virtual_yubikey.status import Refused, Status, tries_left

_SIZE: Final = 8
_SHORTEST: Final = 6
_FORGET: Final = 0xFF


def verify(context: Context, command: Command) -> bytes:
    """VERIFY (§3.2.1): with a PIN; without data the state; with P1 FF forget it."""
    if command.p2 != Reference.PIN:
        raise Refused(Status.REFERENCE_NOT_FOUND)
    if command.p1 == _FORGET:
        if command.data:
            raise Refused(Status.WRONG_DATA)
        context.session.pin_verified = False
        return b""
    if command.p1:
        raise Refused(Status.WRONG_P1P2)
    if not command.data:
        return _tell(context)
    if len(command.data) != _SIZE:
        raise Refused(Status.WRONG_LENGTH)
    _check_pin(context, command.data)
    context.session.pin_verified = True
    context.session.after = Leftover(pin_fresh=True)
    return b""


def change_reference(context: Context, command: Command) -> bytes:
    """CHANGE REFERENCE DATA (§3.2.2): old || new, of the PIN or the PUK."""
    if command.p1:
        raise Refused(Status.WRONG_P1P2)
    old, new = _two(command.data)
    match command.p2:
        case Reference.PIN:
            _check_pin(context, old)
            _set(context, context.state.pin, new)
        case Reference.PUK:
            _check_puk(context, old)
            _set(context, context.state.puk, new)
        case _:
            raise Refused(Status.REFERENCE_NOT_FOUND)
    return b""


def reset_retry(context: Context, command: Command) -> bytes:
    """RESET RETRY COUNTER (§3.2.3): PUK || new PIN."""
    if command.p1:
        raise Refused(Status.WRONG_P1P2)
    if command.p2 != Reference.PIN:
        raise Refused(Status.REFERENCE_NOT_FOUND)
    puk, new = _two(command.data)
    _check_puk(context, puk)
    _set(context, context.state.pin, new)
    return b""


def set_retries(context: Context, command: Command) -> bytes:
    """SET RETRIES: P1 and P2 are the totals. PIN and PUK are the factory's again."""
    context.require_management()
    context.require_pin()
    if not (command.p1 and command.p2):
        raise Refused(Status.WRONG_DATA)
    context.state.pin = Secret.new(FACTORY_PIN, command.p1)
    context.state.puk = Secret.new(FACTORY_PUK, command.p2)
    context.session.pin_verified = False
    return b""


def reset(context: Context, command: Command) -> bytes:
    """RESET: to the factory's state, once PIN and PUK are both blocked (else 6985)."""
    if command.p1 or command.p2:
        raise Refused(Status.WRONG_P1P2)
    if context.state.pin.left or context.state.puk.left:
        raise Refused(Status.CONDITIONS_NOT_SATISFIED)
    context.state.reset(context.hardware.firmware)
    context.forget()
    return b""


def _check_pin(context: Context, value: bytes) -> None:
    try:
        context.state.pin.check(value, context.choices.last_try)
    except Refused:
        context.session.pin_verified = False
        raise


def _check_puk(context: Context, value: bytes) -> None:
    context.state.puk.check(value, context.choices.last_try)


def _tell(context: Context) -> bytes:
    if context.session.pin_verified:
        return b""
    left = context.state.pin.left
    raise Refused(tries_left(left) if left else Status.BLOCKED)


def _two(data: bytes) -> tuple[bytes, bytes]:
    if len(data) != 2 * _SIZE:
        raise Refused(Status.WRONG_LENGTH)
    return data[:_SIZE], data[_SIZE:]


def _set(context: Context, secret: Secret, value: bytes) -> None:
    if len(value.rstrip(b"\xff")) < _SHORTEST:
        raise Refused(context.choices.short_pin)
    secret.set(value)
