"""A PKCS#11 module called as it is, by ctypes: nothing added, nothing hidden.

Open this file to test what a module itself says: attributes and codes that a binding would
interpret, keys that it has no name for. Numbers are those of PKCS #11 v3.0.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mesh_hsm.testing.softhsm_maker import RefusedError, TokenInfo

_HEADER = Path(__file__).with_name("interposer") / "cryptoki.h"
FUNCTIONS = re.findall(r"F\((C_\w+),", _HEADER.read_text())
"""Every function's name, in the order of CK_FUNCTION_LIST."""

Template = Mapping[int, bytes | bool | int]
UNAVAILABLE = ctypes.c_ulong(-1).value

CLASS, TOKEN, PRIVATE, LABEL, VALUE, KEY_TYPE, ID = 0, 1, 2, 3, 0x11, 0x100, 0x102
SENSITIVE, UNWRAP, SIGN, VERIFY, DERIVE = 0x103, 0x107, 0x108, 0x10A, 0x10C
VALUE_LEN, EXTRACTABLE, LOCAL, NEVER_EXTRACTABLE, ALWAYS_SENSITIVE = range(0x161, 0x166)
MODIFIABLE, COPYABLE, DESTROYABLE = range(0x170, 0x173)
EC_PARAMS, EC_POINT, ALWAYS_AUTHENTICATE = 0x180, 0x181, 0x202
ALLOWED_MECHANISMS = 0x40000600
DATA, PUBLIC_KEY, PRIVATE_KEY, SECRET_KEY = 0, 2, 3, 4
EC, GENERIC_SECRET, AES, EDWARDS, MONTGOMERY = 3, 0x10, 0x1F, 0x40, 0x41
EC_GENERATION, EDWARDS_GENERATION, MONTGOMERY_GENERATION = 0x1040, 0x1055, 0x1056
ECDSA, ECDH1_DERIVE, EDDSA = 0x1041, 0x1050, 0x1057
AES_GENERATION, AES_KEY_WRAP_PAD = 0x1080, 0x210A
SO, USER, CONTEXT_SPECIFIC = range(3)

READABLE = {
    CLASS: SECRET_KEY,
    KEY_TYPE: GENERIC_SECRET,
    TOKEN: False,
    SENSITIVE: False,
    EXTRACTABLE: True,
}


class _Attribute(ctypes.Structure):
    _fields_ = (("type", ctypes.c_ulong), ("value", ctypes.c_void_p), ("size", ctypes.c_ulong))


class _Mechanism(_Attribute):
    pass


class _Ecdh1Parameters(ctypes.Structure):
    _fields_ = (
        ("kdf", ctypes.c_ulong),
        ("shared_size", ctypes.c_ulong),
        ("shared", ctypes.c_void_p),
        ("public_size", ctypes.c_ulong),
        ("public", ctypes.c_char_p),
    )


class _SlotInfo(ctypes.Structure):
    _fields_ = (
        ("texts", ctypes.c_char * 96),
        ("flags", ctypes.c_ulong),
        ("versions", ctypes.c_ubyte * 4),
    )


class InitializeArguments(ctypes.Structure):
    """CK_C_INITIALIZE_ARGS."""

    _fields_ = (("mutexes", ctypes.c_void_p * 4), ("flags", ctypes.c_ulong), ("_", ctypes.c_void_p))


def _argument(value: Any) -> Any:
    if isinstance(value, int):
        return ctypes.c_ulong(value)
    return ctypes.byref(value) if isinstance(value, ctypes.Structure) else value


def _octets(value: bytes | bool | int) -> bytes:
    if isinstance(value, bool):
        return bytes([value])
    return bytes(ctypes.c_ulong(value)) if isinstance(value, int) else value


def _template(template: Template) -> tuple[ctypes.Array[_Attribute], int]:
    values = [ctypes.create_string_buffer(_octets(v), len(_octets(v))) for v in template.values()]
    attributes = (_Attribute * len(template))(
        *(
            (kind, ctypes.addressof(value), len(value))
            for kind, value in zip(template, values, strict=True)
        )
    )
    attributes.values = values  # kept alive
    return attributes, len(template)


class BareModule:
    """The module at ``path``. Whatever is refused raises ``RefusedError`` with its code."""

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))
        functions = ctypes.c_void_p()
        code = self._library.C_GetFunctionList(ctypes.byref(functions))
        if code:
            raise RefusedError("C_GetFunctionList", code)
        first = functions.value + ctypes.sizeof(ctypes.c_void_p)  # after the version
        self._entries = (ctypes.c_void_p * len(FUNCTIONS)).from_address(first)

    def __call__(self, name: str, *arguments: Any) -> None:
        """Call ``name``; an ``int`` is passed as CK_ULONG, a structure by its address."""
        function = ctypes.CFUNCTYPE(ctypes.c_ulong)(self._entries[FUNCTIONS.index(name)])
        code = function(*map(_argument, arguments))
        if code:
            raise RefusedError(name, code)

    def slots(self, *, present: bool = True, room: int | None = None) -> list[int]:
        """The slots, or those that hold a token."""
        count = ctypes.c_ulong()
        self("C_GetSlotList", int(present), None, ctypes.byref(count))
        if room is not None:
            count.value = room
        slots = (ctypes.c_ulong * count.value)()
        self("C_GetSlotList", int(present), slots, ctypes.byref(count))
        return list(slots)

    def slot_flags(self, slot: int) -> int:
        """The flags of CK_SLOT_INFO."""
        info = _SlotInfo()
        self("C_GetSlotInfo", slot, info)
        return int(info.flags)

    def token_info(self, slot: int) -> TokenInfo:
        """CK_TOKEN_INFO."""
        info = TokenInfo()
        self("C_GetTokenInfo", slot, ctypes.byref(info))
        return info

    def mechanisms(self, slot: int, room: int | None = None) -> list[int]:
        """The mechanism types that the token lists."""
        count = ctypes.c_ulong()
        self("C_GetMechanismList", slot, None, ctypes.byref(count))
        if room is not None:
            count.value = room
        types = (ctypes.c_ulong * count.value)()
        self("C_GetMechanismList", slot, types, ctypes.byref(count))
        return list(types)

    def mechanism_info(self, slot: int, mechanism: int) -> tuple[int, int, int]:
        """Its smallest and largest key size, and its flags."""
        info = (ctypes.c_ulong * 3)()
        self("C_GetMechanismInfo", slot, mechanism, info)
        return info[0], info[1], info[2]

    def open(self, slot: int) -> int:
        """A new read-write session."""
        session = ctypes.c_ulong()
        self("C_OpenSession", slot, 6, None, None, ctypes.byref(session))
        return session.value

    def login(self, session: int, pin: str | None, user: int = USER) -> None:
        """C_Login; without PIN, by the protected authentication path."""
        octets = None if pin is None else pin.encode()
        self("C_Login", session, user, octets, len(octets or b""))

    def generate(
        self, session: int, mechanism: int, public: Template, private: Template
    ) -> tuple[int, int]:
        """The handles of a new key pair."""
        made = ctypes.c_ulong(), ctypes.c_ulong()
        self(
            "C_GenerateKeyPair",
            session,
            _Mechanism(mechanism, None, 0),
            *_template(public),
            *_template(private),
            *map(ctypes.byref, made),
        )
        return made[0].value, made[1].value

    def generate_secret(self, session: int, mechanism: int, template: Template) -> int:
        """The handle of a new secret key."""
        made = ctypes.c_ulong()
        spoken = _Mechanism(mechanism, None, 0)
        self("C_GenerateKey", session, spoken, *_template(template), ctypes.byref(made))
        return made.value

    def unwrap(
        self, session: int, mechanism: int, wrapping: int, wrapped: bytes, template: Template
    ) -> int:
        """The handle of the key that was wrapped."""
        made = ctypes.c_ulong()
        self(
            *("C_UnwrapKey", session, _Mechanism(mechanism, None, 0), wrapping),
            *(wrapped, len(wrapped), *_template(template), ctypes.byref(made)),
        )
        return made.value

    def create(self, session: int, template: Template) -> int:
        """The handle of a new object."""
        made = ctypes.c_ulong()
        self("C_CreateObject", session, *_template(template), ctypes.byref(made))
        return made.value

    def change(self, session: int, key: int, template: Template) -> None:
        """C_SetAttributeValue."""
        self("C_SetAttributeValue", session, key, *_template(template))

    def read(self, session: int, key: int, kind: int, room: int | None = None) -> bytes:
        """One attribute."""
        attribute = _Attribute(kind, None, 0)
        self("C_GetAttributeValue", session, key, attribute, 1)
        if room is not None:
            attribute.size = room
        buffer = ctypes.create_string_buffer(attribute.size)
        attribute.value = ctypes.cast(buffer, ctypes.c_void_p)
        self("C_GetAttributeValue", session, key, attribute, 1)
        return buffer.raw[: attribute.size]

    def sizes(self, session: int, key: int, kinds: list[int]) -> tuple[int, list[int]]:
        """What one C_GetAttributeValue returns, and each attribute's ulValueLen."""
        attributes = (_Attribute * len(kinds))(*((kind, None, 0) for kind in kinds))
        try:
            self("C_GetAttributeValue", session, key, attributes, len(kinds))
        except RefusedError as error:
            return error.code, [attribute.size for attribute in attributes]
        return 0, [attribute.size for attribute in attributes]

    def find(self, session: int, template: Template) -> list[int]:
        """All objects that match."""
        self("C_FindObjectsInit", session, *_template(template))
        found: list[int] = []
        handles, count = (ctypes.c_ulong * 3)(), ctypes.c_ulong(1)
        while count.value:
            self("C_FindObjects", session, handles, len(handles), ctypes.byref(count))
            found += handles[: count.value]
        self("C_FindObjectsFinal", session)
        return found

    def derive(
        self, session: int, key: int, peer: bytes, template: Template = READABLE, *, kdf: int = 1
    ) -> int:
        """The handle of what ECDH1_DERIVE makes with the point ``peer``; 1 is CKD_NULL."""
        parameters = _Ecdh1Parameters(kdf, 0, None, len(peer), peer)
        pointer = ctypes.cast(ctypes.byref(parameters), ctypes.c_void_p)
        mechanism = _Mechanism(ECDH1_DERIVE, pointer, ctypes.sizeof(parameters))
        made = ctypes.c_ulong()
        self(
            *("C_DeriveKey", session, mechanism, key),
            *_template(template),
            ctypes.byref(made),
        )
        return made.value

    def begin_signature(self, session: int, key: int, mechanism: int) -> None:
        """C_SignInit."""
        self("C_SignInit", session, _Mechanism(mechanism, None, 0), key)

    def finish_signature(self, session: int, data: bytes, room: int) -> bytes:
        """C_Sign into a buffer of so many octets."""
        size = ctypes.c_ulong(room)
        buffer = ctypes.create_string_buffer(room)
        self("C_Sign", session, data, len(data), buffer, ctypes.byref(size))
        return buffer.raw[: size.value]

    def sign(self, session: int, key: int, mechanism: int, data: bytes) -> bytes:
        """C_SignInit, C_Sign for the size, C_Sign."""
        self.begin_signature(session, key, mechanism)
        size = ctypes.c_ulong()
        self("C_Sign", session, data, len(data), None, ctypes.byref(size))
        return self.finish_signature(session, data, size.value)
