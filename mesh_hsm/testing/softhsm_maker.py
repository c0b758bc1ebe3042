"""Makes one SoftHSM token, as a program of its own: ``softhsm.py`` runs it, no user does.

A process that called C_Initialize keeps the SOFTHSM2_CONF it found then, so the test's own process
must not make tokens; and ``softhsm2-util`` takes PINs only as arguments, which every process of
the machine can read. This program reads one JSON object from standard input (``module``,
``label``, ``so_pin``, ``pin``) and prints one: the token's ``label``, ``manufacturer``, ``model``
and ``serial``, or which ``call`` gave which ``code`` (PKCS #11 v3.0 §5). It imports nothing of
mesh-hsm, so that it can be run by its path from anywhere.
"""

from __future__ import annotations

import ctypes
import json
import sys
from typing import Any

_OK = 0
_SO = 0
_SERIAL_SESSION, _RW_SESSION = 4, 2
_TOKEN_INITIALIZED = 0x400


class InitializeArguments(ctypes.Structure):
    """CK_C_INITIALIZE_ARGS (PKCS #11 v3.0 §3.7)."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("create", "destroy", "lock", "unlock")),
        ("flags", ctypes.c_ulong),
        ("reserved", ctypes.c_void_p),
    )


class TokenInfo(ctypes.Structure):
    """CK_TOKEN_INFO (PKCS #11 v3.0 §3.2): texts padded with spaces."""

    _fields_ = (
        ("label", ctypes.c_char * 32),
        ("manufacturer", ctypes.c_char * 32),
        ("model", ctypes.c_char * 16),
        ("serial", ctypes.c_char * 16),
        ("flags", ctypes.c_ulong),
        ("counts_and_memory", ctypes.c_ulong * 10),
        ("versions", ctypes.c_ubyte * 4),
        ("utc_time", ctypes.c_char * 16),
    )


class RefusedError(Exception):
    """A call gave another code than CKR_OK."""

    def __init__(self, call: str, code: int) -> None:
        super().__init__(call, code)
        self.call = call
        self.code = code


class Module:
    """The functions that a module exports. An ``int`` is passed as CK_ULONG, octets as they are.

    Each raises ``RefusedError`` unless it gives CKR_OK.
    """

    def __init__(self, path: str, mode: int = ctypes.DEFAULT_MODE) -> None:
        self._library = ctypes.CDLL(path, mode)

    def __call__(self, name: str, *arguments: Any) -> None:
        """Call the function ``name``."""
        function = getattr(self._library, name)
        function.restype = ctypes.c_ulong
        code = function(*(ctypes.c_ulong(a) if isinstance(a, int) else a for a in arguments))
        if code != _OK:
            raise RefusedError(name, code)


def make(module: Module, label: bytes, so_pin: bytes, pin: bytes) -> TokenInfo:
    """Initialise the slot that holds no token yet, and set both PINs."""
    module("C_Initialize", None)
    slot = _free_slot(module)
    module("C_InitToken", slot, so_pin, len(so_pin), label.ljust(32))
    session = ctypes.c_ulong()
    flags = _SERIAL_SESSION | _RW_SESSION
    module("C_OpenSession", slot, flags, None, None, ctypes.byref(session))
    module("C_Login", session, _SO, so_pin, len(so_pin))
    module("C_InitPIN", session, pin, len(pin))
    module("C_CloseSession", session)
    made = _info(module, slot)
    module("C_Finalize", None)
    return made


def _free_slot(module: Module) -> int:
    present, count = ctypes.c_ubyte(1), ctypes.c_ulong()
    module("C_GetSlotList", present, None, ctypes.byref(count))
    slots = (ctypes.c_ulong * count.value)()
    module("C_GetSlotList", present, slots, ctypes.byref(count))
    # SoftHSM always offers one that is not in use yet.
    return next(slot for slot in slots if not _info(module, slot).flags & _TOKEN_INITIALIZED)


def _info(module: Module, slot: int) -> TokenInfo:
    info = TokenInfo()
    module("C_GetTokenInfo", slot, ctypes.byref(info))
    return info


def main() -> int:
    """Make the token that standard input describes."""
    asked = json.load(sys.stdin)
    secret = (asked["so_pin"].encode(), asked["pin"].encode())
    try:
        made = make(Module(asked["module"]), asked["label"].encode(), *secret)
    except RefusedError as error:
        print(json.dumps({"call": error.call, "code": error.code}))
        return 1
    names = ("label", "manufacturer", "model", "serial")
    print(json.dumps({name: getattr(made, name).decode().rstrip(" ") for name in names}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
