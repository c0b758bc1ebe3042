"""The C structures of PKCS #11 v3.0 that we fill or read. Open this file beside the standard's §3.

Alignment is the platform's own, as everywhere but on Windows.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from ctypes import addressof, c_char_p, c_ubyte, c_ulong, c_void_p


class Version(ctypes.Structure):
    """CK_VERSION."""

    _fields_ = (("major", c_ubyte), ("minor", c_ubyte))


class LibraryInfo(ctypes.Structure):
    """CK_INFO. Text is padded with spaces."""

    _fields_ = (
        ("cryptoki", Version),
        ("manufacturer", c_ubyte * 32),
        ("flags", c_ulong),
        ("description", c_ubyte * 32),
        ("version", Version),
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
        ("hardware", Version),
        ("firmware", Version),
        ("time", c_ubyte * 16),
    )


class SessionInfo(ctypes.Structure):
    """CK_SESSION_INFO."""

    _fields_ = tuple((name, c_ulong) for name in ("slot", "state", "flags", "error"))


class InitializeArguments(ctypes.Structure):
    """CK_C_INITIALIZE_ARGS."""

    _fields_ = (("mutexes", c_void_p * 4), ("flags", c_ulong), ("reserved", c_void_p))


class Attribute(ctypes.Structure):
    """CK_ATTRIBUTE."""

    _fields_ = (("type", c_ulong), ("value", c_void_p), ("size", c_ulong))


class Mechanism(ctypes.Structure):
    """CK_MECHANISM."""

    _fields_ = (("mechanism", c_ulong), ("parameter", c_void_p), ("size", c_ulong))


class DeriveParameters(ctypes.Structure):
    """CK_ECDH1_DERIVE_PARAMS. It keeps the octets that it points to."""

    _fields_ = (
        ("kdf", c_ulong),
        ("shared_size", c_ulong),
        ("shared", c_char_p),
        ("public_size", c_ulong),
        ("public", c_char_p),
    )


class EddsaParameters(ctypes.Structure):
    """CK_EDDSA_PARAMS: not prehashed, no context."""

    _fields_ = (("prehashed", c_ubyte), ("context_size", c_ulong), ("context", c_void_p))


class Template:
    """A template, made once: CK_ATTRIBUTEs and the octets that they point to."""

    def __init__(self, values: Mapping[int, bytes]) -> None:
        self._octets = [ctypes.create_string_buffer(value, len(value)) for value in values.values()]
        self._kind = Attribute * len(values)
        self._made = self._kind(
            *(
                Attribute(number, addressof(octets), len(octets))
                for number, octets in zip(values, self._octets, strict=True)
            )
        )

    def __len__(self) -> int:
        return len(self._octets)

    def copy(self) -> ctypes.Array[Attribute]:
        """CK_ATTRIBUTEs for one call: a module that writes into them harms no other."""
        return self._kind.from_buffer_copy(self._made)
