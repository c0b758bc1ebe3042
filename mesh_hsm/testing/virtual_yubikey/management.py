"""The management application: what device this is. Only READ CONFIG, which discovery needs."""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

from mesh_hsm.testing.virtual_yubikey import tlv
from mesh_hsm.testing.virtual_yubikey.apdu import Command
from mesh_hsm.testing.virtual_yubikey.hardware import Hardware
from mesh_hsm.testing.virtual_yubikey.status import Refused, Status

_READ_CONFIG: Final = 0x1D


class Capability(IntFlag):
    """Applications of a YubiKey."""

    OTP = 0x01
    U2F = 0x02
    OPENPGP = 0x08
    PIV = 0x10
    OATH = 0x20
    HSMAUTH = 0x100
    FIDO2 = 0x200


YUBIKEY_5: Final = Capability(0x23F)
"""The applications that a YubiKey 5 says it supports; 0x04 is there without a public name."""


class Tag(IntEnum):
    """Tags of the device information."""

    USB_SUPPORTED = 0x01
    SERIAL = 0x02
    USB_ENABLED = 0x03
    FORM_FACTOR = 0x04
    VERSION = 0x05
    AUTO_EJECT_TIMEOUT = 0x06
    CHALLENGE_RESPONSE_TIMEOUT = 0x07
    DEVICE_FLAGS = 0x08
    CONFIG_LOCK = 0x0A


class Management:
    """Describes ``hardware``; ``supported`` and ``enabled`` are its applications."""

    aid = bytes.fromhex("A000000527471117")

    def __init__(self, hardware: Hardware, supported: Capability, enabled: Capability) -> None:
        self._hardware = hardware
        self._supported, self._enabled = supported, enabled

    def select(self) -> bytes:
        """The version in words, from which hosts take it."""
        return b"Virtual mgr - FW version %d.%d.%d" % self._hardware.firmware

    def deselect(self) -> None:
        """It has no security state."""

    def process(self, command: Command) -> bytes:
        """READ CONFIG, page 0: one length octet, then the device information."""
        if command.ins != _READ_CONFIG:
            raise Refused(Status.UNKNOWN_INSTRUCTION)
        if command.p1 or command.p2:
            raise Refused(Status.WRONG_P1P2)
        information = b"".join(tlv.encode(tag, value) for tag, value in self._information().items())
        return bytes([len(information)]) + information

    def _information(self) -> dict[Tag, bytes]:
        hardware = self._hardware
        return {
            Tag.USB_SUPPORTED: self._supported.to_bytes(2, "big"),
            Tag.SERIAL: hardware.serial.to_bytes(4, "big"),
            Tag.USB_ENABLED: self._enabled.to_bytes(2, "big"),
            Tag.FORM_FACTOR: bytes([hardware.form_factor]),
            Tag.VERSION: bytes(hardware.firmware),
            Tag.AUTO_EJECT_TIMEOUT: bytes(2),
            Tag.CHALLENGE_RESPONSE_TIMEOUT: bytes(1),
            Tag.DEVICE_FLAGS: bytes(1),
            Tag.CONFIG_LOCK: bytes(1),
        }
