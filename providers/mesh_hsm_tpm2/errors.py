"""TPM response codes, and the one function that turns them into our errors.

Open this file when a TPM says a number. Codes are those of TPM 2.0 Part 2 §6.6, without the part
that says which handle, parameter or session was meant.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

from tpm2_pytss import TSS2_Exception

from mesh_hsm.errors import (
    DeviceError,
    FormatError,
    InvalidPointError,
    LockedOutError,
    MeshHsmError,
    PolicyError,
    ProviderUnavailableError,
    UnsupportedError,
    WrongSecretError,
)


class Rc(IntEnum):
    """TPM_RC, as far as we act on it."""

    VALUE = 0x084
    HANDLE = 0x08B
    AUTH_FAIL = 0x08E  # wrong, and counted
    POLICY_FAIL = 0x09D
    INTEGRITY = 0x09F
    BAD_AUTH = 0x0A2  # wrong, and not counted
    CURVE = 0x0A6
    POINT = 0x0A7
    INITIALIZE = 0x100
    FAILURE = 0x101
    PCR_CHANGED = 0x128
    AUTH_UNAVAILABLE = 0x12F
    COMMAND_CODE = 0x143
    NV_SPACE = 0x14B
    OBJECT_MEMORY = 0x902
    SESSION_MEMORY = 0x903
    SESSION_HANDLES = 0x905
    OBJECT_HANDLES = 0x906
    LOCKOUT = 0x921


_LAYER, _TPM_LAYERS, _TCTI_LAYER = 0xFF0000, (0, 0x0B0000, 0x0C0000), 0x0A0000
_GONE = range(0x910, 0x91F)  # TPM_RC_REFERENCE_H0 … S6: no such object or session any more
_FULL = (Rc.OBJECT_MEMORY, Rc.OBJECT_HANDLES, Rc.SESSION_MEMORY, Rc.SESSION_HANDLES)
_RESPONSE_HMAC_WRONG = 0x07001B


def code(error: TSS2_Exception) -> int:
    """The TPM's own code, or the whole number where the software above it complains."""
    rc = int(error.rc)
    if rc & _LAYER not in _TPM_LAYERS:
        return rc
    rc &= 0xFFFF
    return rc & 0x0BF if rc & 0x080 else rc  # format one: drop handle, parameter or session


def has_forgotten(error: TSS2_Exception) -> bool:
    """Whether the TPM was reset, or somebody flushed what we had loaded."""
    return code(error) == Rc.INITIALIZE or code(error) in _GONE


def is_disconnected(error: TSS2_Exception) -> bool:
    """Whether the way to the TPM broke, rather than the TPM."""
    return int(error.rc) & _LAYER == _TCTI_LAYER


def lacks_room(error: TSS2_Exception) -> bool:
    """Whether the TPM's few slots for objects or sessions are taken."""
    return code(error) in _FULL


def mapped(error: TSS2_Exception, uri: str | None = None) -> MeshHsmError:
    """Our error for a TPM's; raise it ``from`` the TPM's, which keeps the number.

    What a code means can depend on the command. Callers that know better ask ``code`` first.
    """
    rc = code(error)
    if is_disconnected(error):
        return ProviderUnavailableError(
            "the TPM does not answer", hint="check its device or TCTI string", uri=uri
        )
    if lacks_room(error):
        return DeviceError(
            "the TPM's slots are taken by other programs",
            hint="share it by the kernel's resource manager: device:/dev/tpmrm0",
            uri=uri,
        )
    make = _ERRORS.get(rc)
    return make(uri) if make else DeviceError(f"the TPM failed ({int(error.rc):#x})", uri=uri)


_ERRORS: dict[int, Callable[[str | None], MeshHsmError]] = {
    Rc.AUTH_FAIL: lambda uri: WrongSecretError("the TPM refused the PIN", uri=uri),
    Rc.BAD_AUTH: lambda uri: WrongSecretError("the TPM refused the password", uri=uri),
    Rc.LOCKOUT: lambda uri: LockedOutError(
        "the TPM is locked out after too many wrong PINs and refuses right ones too", uri=uri
    ),
    Rc.POLICY_FAIL: lambda uri: PolicyError("the key's policy refused", uri=uri),
    Rc.PCR_CHANGED: lambda uri: PolicyError("a PCR changed while the key was used", uri=uri),
    Rc.AUTH_UNAVAILABLE: lambda uri: PolicyError(
        "the key works under its policy only, not by PIN alone", uri=uri
    ),
    Rc.POINT: lambda uri: InvalidPointError("the TPM refused the point", uri=uri),
    Rc.CURVE: lambda uri: UnsupportedError("this TPM has no such curve", uri=uri),
    Rc.COMMAND_CODE: lambda uri: UnsupportedError("this TPM lacks a command we need", uri=uri),
    Rc.INTEGRITY: lambda uri: DeviceError(
        "the blob was made by another TPM, or was altered", uri=uri
    ),
    Rc.NV_SPACE: lambda uri: DeviceError(
        "the TPM has no room for another persistent key",
        hint="delete one with: mesh-hsm key delete",
        uri=uri,
    ),
    Rc.FAILURE: lambda uri: DeviceError(
        "the TPM is in failure mode", hint="switch the machine off and on again", uri=uri
    ),
    Rc.INITIALIZE: lambda uri: DeviceError("the TPM was reset and not started again", uri=uri),
    Rc.VALUE: lambda uri: FormatError("the TPM refused a value", uri=uri),
    _RESPONSE_HMAC_WRONG: lambda uri: DeviceError(
        "an answer of the TPM was altered on its way", uri=uri
    ),
}
