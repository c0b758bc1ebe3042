"""The PIV application: which command is answered where, and since which firmware.

SP 800-73-4 Part 2. Open this first; every handler is a function of a ``Context`` and a command.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from mesh_hsm.errors import FormatError
from mesh_hsm.testing.virtual_yubikey import tlv
from mesh_hsm.testing.virtual_yubikey.apdu import Command
from mesh_hsm.testing.virtual_yubikey.hardware import Hardware, Version
from mesh_hsm.testing.virtual_yubikey.piv import (
    attestation,
    authenticate,
    management_authentication,
    metadata,
    objects,
    references,
    slots,
)
from mesh_hsm.testing.virtual_yubikey.piv.attestation_identity import identity
from mesh_hsm.testing.virtual_yubikey.piv.names import Ins, Reference
from mesh_hsm.testing.virtual_yubikey.piv.state import Context, Leftover, PivState
from mesh_hsm.testing.virtual_yubikey.status import Refused, Status

Handler: TypeAlias = Callable[[Context, Command], bytes]


class Piv:
    """The application on one device. ``context`` is all it knows."""

    aid = bytes.fromhex("A000000308000010000100")

    def __init__(self, hardware: Hardware) -> None:
        state = PivState.new(hardware.firmware, identity(hardware.serial))
        self.context = Context(hardware, state)

    def select(self) -> bytes:
        """The application property template (§3.1.1), as a YubiKey gives it."""
        self.context.session.after = Leftover()
        authority = tlv.encode(0x4F, self.aid[:5])
        return tlv.encode(0x61, tlv.encode(0x4F, self.aid[5:]) + tlv.encode(0x79, authority))

    def deselect(self) -> None:
        """Forget PIN, management key and what was pending."""
        self.context.forget()

    def process(self, command: Command) -> bytes:
        """Answer a command. Refused as sections 6 to 9 of the simulator's description say."""
        self.context.session.next_command()
        firmware = self.context.hardware.firmware
        handler = _HANDLERS.get(command.ins)
        if handler is None or firmware < _SINCE.get(command.ins, firmware):
            raise Refused(Status.UNKNOWN_INSTRUCTION)
        try:
            return handler(self.context, command)
        except FormatError:
            raise Refused(Status.WRONG_DATA) from None


def _authenticate(context: Context, command: Command) -> bytes:
    if command.p2 == Reference.MANAGEMENT:
        return management_authentication.authenticate(context, command)
    return authenticate.use_key(context, command)


def _serial(context: Context, command: Command) -> bytes:
    _check_zero(command)
    return context.hardware.serial.to_bytes(4, "big")


def _version(context: Context, command: Command) -> bytes:
    _check_zero(command)
    return bytes(context.hardware.firmware)


def _check_zero(command: Command) -> None:
    if command.p1 or command.p2:
        raise Refused(Status.WRONG_P1P2)


_HANDLERS: Final[Mapping[int, Handler]] = {
    Ins.VERIFY: references.verify,
    Ins.CHANGE_REFERENCE: references.change_reference,
    Ins.RESET_RETRY: references.reset_retry,
    Ins.SET_RETRIES: references.set_retries,
    Ins.RESET: references.reset,
    Ins.GENERATE: slots.generate,
    Ins.IMPORT: slots.import_key,
    Ins.MOVE: slots.move,
    Ins.SET_MANAGEMENT_KEY: slots.set_management_key,
    Ins.AUTHENTICATE: _authenticate,
    Ins.GET_DATA: objects.get_data,
    Ins.PUT_DATA: objects.put_data,
    Ins.METADATA: metadata.metadata,
    Ins.ATTEST: attestation.attest,
    Ins.SERIAL: _serial,
    Ins.VERSION: _version,
}
_SINCE: Final[Mapping[int, Version]] = {
    Ins.SERIAL: (5, 0, 3),
    Ins.METADATA: (5, 3, 0),
    Ins.MOVE: (5, 7, 0),
}
