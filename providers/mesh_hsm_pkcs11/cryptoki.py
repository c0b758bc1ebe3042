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
from collections.abc import Sequence
from contextlib import suppress
from ctypes import POINTER, addressof, byref, c_ulong, c_void_p, sizeof
from typing import Any, Final

from pkcs11 import exceptions

from mesh_hsm_pkcs11.pin import Pin
from mesh_hsm_pkcs11.return_values import (
    BUFFER_TOO_SMALL,
    FUNCTION_NOT_SUPPORTED,
    NOT_ALL_TOLD,
    OK,
    check,
)
from mesh_hsm_pkcs11.structures import (
    Attribute,
    DeriveParameters,
    EddsaParameters,
    InitializeArguments,
    LibraryInfo,
    Mechanism,
    SessionInfo,
    Template,
    TokenInfo,
)

USER, SO, CONTEXT_SPECIFIC = 1, 0, 2
"""CK_USER_TYPE."""

_OS_LOCKING_OK: Final = 2
_CKD_NULL: Final = 1
_LONGEST_SIGNATURE: Final = 1024
_LONGEST_ATTRIBUTE: Final = 1024
_BATCH: Final = 64
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


class Cryptoki:
    """One module's function list. Errors are python-pkcs11's exceptions."""

    def __init__(self, functions: int) -> None:
        # CK_VERSION is two octets, padded to a pointer's alignment: the first word.
        pointers = ctypes.cast(functions, POINTER(c_void_p))
        kind = ctypes.CFUNCTYPE(c_ulong)
        self._functions: dict[str, Any] = {
            name: ctypes.cast(pointer, kind) if (pointer := pointers[1 + place]) else _absent
            for name, place in _PLACES.items()
        }

    def initialize(self, reserved: str | None, *, locking: bool = True) -> int:
        """C_Initialize, with the system's locks or with none. Its return value.

        ``reserved`` goes into ``pReserved``: NSS wants its configuration there.
        """
        arguments = InitializeArguments(flags=_OS_LOCKING_OK if locking else 0)
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
        check(value)

    def login(self, session: int, user: int, pin: Pin) -> None:
        """C_Login; an empty PIN leaves it to the token's own keypad."""
        function = self._functions["C_Login"]
        if not pin:
            value = function(c_ulong(session), c_ulong(user), None, c_ulong(0))
        else:
            value = function(c_ulong(session), c_ulong(user), pin.octets, c_ulong(len(pin)))
        check(value)

    def logout(self, session: int) -> None:
        """C_Logout."""
        self._call("C_Logout", c_ulong(session))

    def derive(
        self, session: int, key: int, mechanism: int, peer: bytes, template: Template
    ) -> int:
        """C_DeriveKey by a mechanism of the ECDH1 family without a KDF: the new object's handle.

        ``peer`` is the other side's point as the token takes it; the secret is the token's to keep
        until ``destroy``.
        """
        parameters = DeriveParameters(_CKD_NULL, 0, None, len(peer), peer)
        wanted = Mechanism(mechanism, addressof(parameters), sizeof(parameters))
        handle = c_ulong()
        self._call(
            "C_DeriveKey",
            c_ulong(session),
            byref(wanted),
            c_ulong(key),
            template.copy(),
            c_ulong(len(template)),
            byref(handle),
        )
        return handle.value

    def sign_init(self, session: int, key: int, mechanism: int, *, parameters: bool) -> None:
        """C_SignInit; ``parameters``: with CK_EDDSA_PARAMS that say "pure, no context"."""
        wanted = Mechanism(mechanism, None, 0)
        if parameters:
            none = EddsaParameters()
            wanted.parameter, wanted.size = addressof(none), sizeof(none)
        self._call("C_SignInit", c_ulong(session), byref(wanted), c_ulong(key))

    def sign(self, session: int, octets: bytes, size: int) -> bytes:
        """C_Sign of a signature of ``size`` octets, or of what the module says it needs instead."""
        function, needed = self._functions["C_Sign"], c_ulong(size)
        for last in (False, True):
            buffer = ctypes.create_string_buffer(needed.value)
            value = function(c_ulong(session), octets, c_ulong(len(octets)), buffer, byref(needed))
            if value != BUFFER_TOO_SMALL or last or needed.value > _LONGEST_SIGNATURE:
                break
        check(value)
        return buffer.raw[: needed.value]

    def find(self, session: int, template: Template) -> list[int]:
        """Handles of every object that fits (C_FindObjectsInit, C_FindObjects, …Final)."""
        size = c_ulong(len(template))
        self._call("C_FindObjectsInit", c_ulong(session), template.copy(), size)
        found: dict[int, None] = {}
        batch, count, most = (c_ulong * _BATCH)(), c_ulong(), c_ulong(_BATCH)
        try:
            while True:  # until none is left, or a module that never says so repeats itself
                self._call("C_FindObjects", c_ulong(session), batch, most, byref(count))
                new = dict.fromkeys(batch[: min(count.value, _BATCH)])
                if new.keys() <= found.keys():
                    break
                found |= new
        finally:
            self._call("C_FindObjectsFinal", c_ulong(session))
        return list(found)

    def read(self, session: int, handle: int, attribute: int, limit: int) -> bytes:
        """C_GetAttributeValue of one attribute that has at most ``limit`` octets: one call."""
        buffer = ctypes.create_string_buffer(limit)
        asked = Attribute(attribute, addressof(buffer), limit)
        self._call(
            "C_GetAttributeValue", c_ulong(session), c_ulong(handle), byref(asked), c_ulong(1)
        )
        if asked.size > limit:  # CK_UNAVAILABLE_INFORMATION beside CKR_OK: some tokens do that
            raise exceptions.FunctionFailed
        return buffer.raw[: asked.size]

    def read_all(self, session: int, handle: int, wanted: Sequence[int]) -> dict[int, bytes]:
        """Those attributes that the token tells, in one call; one by one if it tells none.

        What it does not know, or keeps to itself, is left out. Each has fewer than 1024 octets.
        """
        buffers = [ctypes.create_string_buffer(_LONGEST_ATTRIBUTE) for _ in wanted]
        asked = (Attribute * len(wanted))()
        for one, number, buffer in zip(asked, wanted, buffers, strict=True):
            one.type, one.size = number, _LONGEST_ATTRIBUTE
            one.value = addressof(buffer)
        value = self._functions["C_GetAttributeValue"](
            c_ulong(session), c_ulong(handle), asked, c_ulong(len(wanted))
        )
        if value == OK or value in NOT_ALL_TOLD:
            told = zip(asked, buffers, strict=True)
            # A size that nobody touched is no answer: what we ask for is never that long.
            found = {o.type: b.raw[: o.size] for o, b in told if o.size < _LONGEST_ATTRIBUTE}
            # Some tokens stop at the first that they do not know, and leave the rest as it was.
            if value == OK or len(found) == len(wanted) - 1:
                return found
        elif len(wanted) == 1:
            check(value)
        if len(wanted) == 1:
            return {}
        one_by_one: dict[int, bytes] = {}
        for number in wanted:
            with suppress(exceptions.AttributeTypeInvalid, exceptions.FunctionFailed):
                one_by_one |= self.read_all(session, handle, [number])
        return one_by_one

    def is_logged_in(self, session: int) -> bool:
        """Whether the session sees private objects (C_GetSessionInfo)."""
        info = SessionInfo()
        self._call("C_GetSessionInfo", c_ulong(session), byref(info))
        return info.state in _USER_STATES

    def destroy(self, session: int, handle: int) -> None:
        """C_DestroyObject."""
        self._call("C_DestroyObject", c_ulong(session), c_ulong(handle))

    def _call(self, name: str, *arguments: Any) -> None:
        check(self._functions[name](*arguments))


def _absent(*_: Any) -> int:
    """A function that the module has no entry for, though the standard wants a stub there."""
    return FUNCTION_NOT_SUPPORTED
