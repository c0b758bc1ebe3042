"""The calls that python-pkcs11 does not make as we need them. Open this file to audit them.

* ``C_Initialize``: the binding passes NULL, upon which a module may drop its locks and threads
  crash it; ``CKF_OS_LOCKING_OK`` is what keeps it whole (PKCS #11 v3.0 §5.4).
* ``C_Login``: the binding opens a session for it, and loses that session when the PIN is wrong.
* ``C_DeriveKey``: the binding reads the new object's attributes before it returns a handle; if that
  fails, a readable secret stays behind. Here the handle comes back at once, and three calls make an
  agreement: derive, read, destroy.
* ``C_Sign``: the binding asks for the length first, and brings a buffer larger than the signature,
  which some modules refuse, leaving the operation open. Here the buffer fits, and the PIN of a
  key that wants one each time goes in between.
* ``C_FindObjects`` and ``C_GetAttributeValue``: after a search that cannot begin the binding keeps
  its lock, and it asks six times where one call tells all.
* ``C_InitToken`` and the numbers of ``C_GetTokenInfo`` and ``C_GetInfo``: the binding has none.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from contextlib import suppress
from ctypes import POINTER, byref, c_ubyte, c_ulong, c_void_p
from typing import Any, Final, NoReturn

from pkcs11 import exceptions

from mesh_hsm_pkcs11.pin import Pin

USER, SO, CONTEXT_SPECIFIC = 1, 0, 2
"""CK_USER_TYPE."""

_OS_LOCKING_OK: Final = 2
_OK: Final = 0
_BUFFER_TOO_SMALL: Final = 0x150
_LONGEST_SIGNATURE: Final = 1024
_LONGEST_ATTRIBUTE: Final = 1024
_BATCH: Final = 64
_NOT_ALL_TOLD: Final = (0x11, 0x12)  # CKR_ATTRIBUTE_SENSITIVE, CKR_ATTRIBUTE_TYPE_INVALID
_USER_STATES: Final = (1, 3)  # CKS_RO_USER_FUNCTIONS, CKS_RW_USER_FUNCTIONS

# The places of functions in CK_FUNCTION_LIST, counted from 0 after its version.
_PLACES: Final = {
    "C_Initialize": 0,
    "C_Finalize": 1,
    "C_GetInfo": 2,
    "C_GetTokenInfo": 6,
    "C_InitToken": 9,
    "C_GetSessionInfo": 15,
    "C_Login": 18,
    "C_Logout": 19,
    "C_DestroyObject": 22,
    "C_GetAttributeValue": 24,
    "C_FindObjectsInit": 26,
    "C_FindObjects": 27,
    "C_FindObjectsFinal": 28,
    "C_SignInit": 42,
    "C_Sign": 43,
    "C_DeriveKey": 62,
}

# Return values, as the binding names them, so that one table of ours explains both ways.
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
ALREADY_INITIALIZED, NOT_INITIALIZED, CANT_LOCK = 0x191, 0x190, 0x0A


class _Version(ctypes.Structure):
    _fields_ = (("major", c_ubyte), ("minor", c_ubyte))


class LibraryInfo(ctypes.Structure):
    """CK_INFO. Text is padded with spaces."""

    _fields_ = (
        ("cryptoki", _Version),
        ("manufacturer", c_ubyte * 32),
        ("flags", c_ulong),
        ("description", c_ubyte * 32),
        ("version", _Version),
    )


class TokenInfo(ctypes.Structure):
    """CK_TOKEN_INFO. Text is padded with spaces; lengths are in octets."""

    _fields_ = (
        ("label", c_ubyte * 32),
        ("manufacturer", c_ubyte * 32),
        ("model", c_ubyte * 16),
        ("serial", c_ubyte * 16),
        ("flags", c_ulong),
        *((name, c_ulong) for name in ("max_sessions", "sessions", "max_rw", "rw")),
        ("longest_pin", c_ulong),
        ("shortest_pin", c_ulong),
        *((name, c_ulong) for name in ("public", "free_public", "private", "free_private")),
        ("hardware", _Version),
        ("firmware", _Version),
        ("time", c_ubyte * 16),
    )


class _SessionInfo(ctypes.Structure):
    """CK_SESSION_INFO."""

    _fields_ = tuple((name, c_ulong) for name in ("slot", "state", "flags", "error"))


class _InitializeArguments(ctypes.Structure):
    _fields_ = (("mutexes", c_void_p * 4), ("flags", c_ulong), ("reserved", c_void_p))


class _Attribute(ctypes.Structure):
    _fields_ = (("type", c_ulong), ("value", c_void_p), ("size", c_ulong))


class _Mechanism(ctypes.Structure):
    _fields_ = (("mechanism", c_ulong), ("parameter", c_void_p), ("size", c_ulong))


class _DeriveParameters(ctypes.Structure):
    """CK_ECDH1_DERIVE_PARAMS."""

    _fields_ = (
        ("kdf", c_ulong),
        ("shared_size", c_ulong),
        ("shared", c_void_p),
        ("public_size", c_ulong),
        ("public", c_void_p),
    )


class _EddsaParameters(ctypes.Structure):
    """CK_EDDSA_PARAMS: not prehashed, no context."""

    _fields_ = (("prehashed", c_ubyte), ("context_size", c_ulong), ("context", c_void_p))


class Cryptoki:
    """One module's function list. Errors are python-pkcs11's exceptions."""

    def __init__(self, functions: int) -> None:
        # CK_VERSION is two octets, padded to a pointer's alignment: the first word.
        pointers = ctypes.cast(functions, POINTER(c_void_p))
        kind = ctypes.CFUNCTYPE(c_ulong)
        self._functions: dict[str, Any] = {
            name: ctypes.cast(pointers[1 + place] or 0, kind) for name, place in _PLACES.items()
        }

    def initialize(self, reserved: str | None, *, locking: bool = True) -> int:
        """C_Initialize, with the system's locks or with none. Its return value.

        ``reserved`` goes into ``pReserved``: NSS wants its configuration there.
        """
        arguments = _InitializeArguments(flags=_OS_LOCKING_OK if locking else 0)
        text = None if reserved is None else ctypes.create_string_buffer(reserved.encode())
        if text is not None:
            arguments.reserved = ctypes.cast(text, c_void_p)
        elif not locking:
            return int(self._functions["C_Initialize"](None))
        return int(self._functions["C_Initialize"](byref(arguments)))

    def finalize(self) -> int:
        """C_Finalize: every session of this process ends. Its return value."""
        return int(self._functions["C_Finalize"](None))

    def library_info(self) -> LibraryInfo:
        """C_GetInfo."""
        info = LibraryInfo()
        self._call("C_GetInfo", byref(info))
        return info

    def token_info(self, slot: int) -> TokenInfo:
        """C_GetTokenInfo."""
        info = TokenInfo()
        self._call("C_GetTokenInfo", c_ulong(slot), byref(info))
        return info

    def init_token(self, slot: int, so_pin: Pin, label: str) -> None:
        """C_InitToken: everything on the token is erased. ``label``: at most 32 octets."""
        function, size = self._functions["C_InitToken"], c_ulong(len(so_pin))
        # Not by _call: its arguments would stand in a traceback.
        value = function(c_ulong(slot), so_pin.octets, size, label.encode().ljust(32))
        _check(value)

    def login(self, session: int, user: int, pin: Pin | None) -> None:
        """C_Login; None leaves the PIN to the token's own keypad."""
        function = self._functions["C_Login"]
        if pin is None:
            value = function(c_ulong(session), c_ulong(user), None, c_ulong(0))
        else:
            value = function(c_ulong(session), c_ulong(user), pin.octets, c_ulong(len(pin)))
        _check(value)

    def logout(self, session: int) -> None:
        """C_Logout."""
        self._call("C_Logout", c_ulong(session))

    def derive(
        self, session: int, key: int, mechanism: int, peer: bytes, template: Mapping[int, bytes]
    ) -> int:
        """C_DeriveKey by a mechanism of the ECDH1 family without a KDF: the new object's handle.

        ``peer`` is the other side's point as the token takes it; the secret is the token's to keep
        until ``destroy``.
        """
        parameters = _DeriveParameters(kdf=1, public_size=len(peer))  # CKD_NULL
        octets = ctypes.create_string_buffer(peer, len(peer))
        parameters.public = ctypes.cast(octets, c_void_p)
        wanted = _Mechanism(mechanism, ctypes.cast(byref(parameters), c_void_p), 0)
        wanted.size = ctypes.sizeof(parameters)
        attributes, _kept = _template(template)
        handle = c_ulong()
        self._call(
            "C_DeriveKey",
            c_ulong(session),
            byref(wanted),
            c_ulong(key),
            attributes,
            c_ulong(len(template)),
            byref(handle),
        )
        return handle.value

    def sign_init(self, session: int, key: int, mechanism: int, *, parameters: bool) -> None:
        """C_SignInit; ``parameters``: with CK_EDDSA_PARAMS that say "pure, no context"."""
        wanted, none = _Mechanism(mechanism, None, 0), _EddsaParameters()
        if parameters:
            wanted.parameter = ctypes.cast(byref(none), c_void_p)
            wanted.size = ctypes.sizeof(none)
        self._call("C_SignInit", c_ulong(session), byref(wanted), c_ulong(key))

    def sign(self, session: int, octets: bytes, size: int) -> bytes:
        """C_Sign of a signature of ``size`` octets, or of what the module says it needs instead."""
        function, needed = self._functions["C_Sign"], c_ulong(size)
        for last in (False, True):
            buffer = ctypes.create_string_buffer(needed.value)
            value = function(c_ulong(session), octets, c_ulong(len(octets)), buffer, byref(needed))
            if value != _BUFFER_TOO_SMALL or last or needed.value > _LONGEST_SIGNATURE:
                break
        _check(value)
        return buffer.raw[: needed.value]

    def find(self, session: int, template: Mapping[int, bytes]) -> list[int]:
        """Handles of every object that fits (C_FindObjectsInit, C_FindObjects, …Final)."""
        attributes, _kept = _template(template)
        self._call("C_FindObjectsInit", c_ulong(session), attributes, c_ulong(len(template)))
        found: list[int] = []
        batch, count = (c_ulong * _BATCH)(), c_ulong(_BATCH)
        try:
            while count.value == _BATCH:
                self._call(
                    "C_FindObjects", c_ulong(session), batch, c_ulong(_BATCH), byref(count)
                )
                found += batch[: count.value]
        finally:
            self._call("C_FindObjectsFinal", c_ulong(session))
        return found

    def read(self, session: int, handle: int, attribute: int, limit: int) -> bytes:
        """C_GetAttributeValue of one attribute that has at most ``limit`` octets: one call."""
        buffer = ctypes.create_string_buffer(limit)
        asked = _Attribute(attribute, ctypes.cast(buffer, c_void_p), limit)
        self._call(
            "C_GetAttributeValue", c_ulong(session), c_ulong(handle), byref(asked), c_ulong(1)
        )
        if asked.size > limit:  # CK_UNAVAILABLE_INFORMATION beside CKR_OK: some tokens do that
            raise exceptions.FunctionFailed
        return buffer.raw[: asked.size]

    def read_all(self, session: int, handle: int, wanted: Sequence[int]) -> dict[int, bytes]:
        """Those attributes that the token tells, in one call; one by one if it tells none.

        What it does not know, or keeps to itself, is left out. Each has at most 1024 octets.
        """
        buffers = [ctypes.create_string_buffer(_LONGEST_ATTRIBUTE) for _ in wanted]
        asked = (_Attribute * len(wanted))()
        for one, number, buffer in zip(asked, wanted, buffers, strict=True):
            one.type, one.size = number, _LONGEST_ATTRIBUTE
            one.value = ctypes.cast(buffer, c_void_p)
        value = self._functions["C_GetAttributeValue"](
            c_ulong(session), c_ulong(handle), asked, c_ulong(len(wanted))
        )
        if value == _OK or value in _NOT_ALL_TOLD:
            told = zip(asked, buffers, strict=True)
            found = {o.type: b.raw[: o.size] for o, b in told if o.size <= _LONGEST_ATTRIBUTE}
            # Some tokens stop at the first that they do not know, and leave the rest as it was.
            if value == _OK or len(found) == len(wanted) - 1:
                return found
        elif len(wanted) == 1:
            _check(value)
        if len(wanted) == 1:
            return {}
        one_by_one: dict[int, bytes] = {}
        for number in wanted:
            with suppress(exceptions.AttributeTypeInvalid, exceptions.FunctionFailed):
                one_by_one |= self.read_all(session, handle, [number])
        return one_by_one

    def is_logged_in(self, session: int) -> bool:
        """Whether the session sees private objects (C_GetSessionInfo)."""
        info = _SessionInfo()
        self._call("C_GetSessionInfo", c_ulong(session), byref(info))
        return info.state in _USER_STATES

    def destroy(self, session: int, handle: int) -> None:
        """C_DestroyObject."""
        self._call("C_DestroyObject", c_ulong(session), c_ulong(handle))

    def _call(self, name: str, *arguments: Any) -> None:
        _check(self._functions[name](*arguments))


def _template(template: Mapping[int, bytes]) -> tuple[Any, list[Any]]:
    """CK_ATTRIBUTEs, and what must live until the call has returned."""
    attributes, kept = (_Attribute * len(template))(), []
    for attribute, (number, value) in zip(attributes, template.items(), strict=True):
        kept.append(buffer := ctypes.create_string_buffer(value, len(value)))
        attribute.type, attribute.size = number, len(value)
        attribute.value = ctypes.cast(buffer, c_void_p)
    return attributes, kept


def _check(value: int) -> None:
    if value != _OK:
        _fail(value)


def _fail(value: int) -> NoReturn:
    # Raised here, so that no frame of the traceback holds a PIN.
    kind = _ERRORS.get(value)
    raise exceptions.PKCS11Error(f"CKR {value:#x}") if kind is None else kind()
