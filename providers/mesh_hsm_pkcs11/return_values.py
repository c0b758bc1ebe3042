"""CK_RV as python-pkcs11's exceptions. Open this file when a module's number has no name.

The binding maps the values that it sees itself; these are for the calls that we make past it, so
that one table of ours (``errors``) explains both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NoReturn

from pkcs11 import exceptions

OK: Final = 0
CANT_LOCK: Final = 0x0A
FUNCTION_NOT_SUPPORTED: Final = 0x54
BUFFER_TOO_SMALL: Final = 0x150
ALREADY_INITIALIZED: Final = 0x191
NOT_ALL_TOLD: Final = (0x11, 0x12)
"""CKR_ATTRIBUTE_SENSITIVE, CKR_ATTRIBUTE_TYPE_INVALID: the other attributes were told."""

_ERRORS: Final[Mapping[int, type[exceptions.PKCS11Error]]] = {
    0x02: exceptions.HostMemory,
    0x05: exceptions.GeneralError,
    0x06: exceptions.FunctionFailed,
    0x07: exceptions.ArgumentsBad,
    0x10: exceptions.AttributeReadOnly,
    0x11: exceptions.AttributeSensitive,
    0x12: exceptions.AttributeTypeInvalid,
    0x13: exceptions.AttributeValueInvalid,
    0x30: exceptions.DeviceError,
    0x31: exceptions.DeviceMemory,
    0x32: exceptions.DeviceRemoved,
    0x54: exceptions.FunctionNotSupported,
    0x60: exceptions.KeyHandleInvalid,
    0x62: exceptions.KeySizeRange,
    0x63: exceptions.KeyTypeInconsistent,
    0x70: exceptions.MechanismInvalid,
    0x71: exceptions.MechanismParamInvalid,
    0x82: exceptions.ObjectHandleInvalid,
    0xA0: exceptions.PinIncorrect,
    0xA1: exceptions.PinInvalid,
    0xA2: exceptions.PinLenRange,
    0xA3: exceptions.PinExpired,
    0xA4: exceptions.PinLocked,
    0xB0: exceptions.SessionClosed,
    0xB1: exceptions.SessionCount,
    0xB3: exceptions.SessionHandleInvalid,
    0xB5: exceptions.SessionReadOnly,
    0xB6: exceptions.SessionExists,
    0xD0: exceptions.TemplateIncomplete,
    0xD1: exceptions.TemplateInconsistent,
    0xE0: exceptions.TokenNotPresent,
    0xE1: exceptions.TokenNotRecognised,
    0xE2: exceptions.TokenWriteProtected,
    0x100: exceptions.UserAlreadyLoggedIn,
    0x101: exceptions.UserNotLoggedIn,
    0x102: exceptions.UserPinNotInitialized,
    0x104: exceptions.AnotherUserAlreadyLoggedIn,
    0x1B9: exceptions.PublicKeyInvalid,
}


def check(value: int) -> None:
    """Raise what a value other than CKR_OK means."""
    if value != OK:
        _fail(value)


def _fail(value: int) -> NoReturn:
    # Raised here, so that no frame of the traceback holds a PIN.
    kind = _ERRORS.get(value)
    raise exceptions.PKCS11Error(f"CKR {value:#x}") if kind is None else kind()
