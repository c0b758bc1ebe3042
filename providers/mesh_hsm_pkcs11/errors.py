"""From a module's return value to our errors. Open this file when a token says CKR_ something.

Modules differ in which value they choose for the same mishap; so we act on classes of values, and
whatever is not known stays a ``DeviceError`` that repeats its name.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pkcs11 import exceptions as ckr
from pkcs11.exceptions import PKCS11Error

from mesh_hsm.errors import (
    AccessError,
    DeviceError,
    FormatError,
    LockedOutError,
    MeshHsmError,
    UnsupportedError,
    WrongSecretError,
)

GONE = (
    ckr.SessionHandleInvalid,
    ckr.SessionClosed,
    ckr.DeviceRemoved,
    ckr.TokenNotPresent,
    ckr.TokenNotRecognised,
    ckr.UserNotLoggedIn,
    ckr.SlotIDInvalid,
)
"""The session, its login or the token under it went away; opening it again may help."""

VANISHED = (ckr.KeyHandleInvalid, ckr.ObjectHandleInvalid)
"""The object was destroyed, by us or by somebody else."""

LACKING = (
    ckr.FunctionNotSupported,
    ckr.MechanismInvalid,
    ckr.MechanismParamInvalid,
    ckr.DomainParamsInvalid,
    ckr.KeySizeRange,
    ckr.KeyTypeInconsistent,
)
"""The module cannot do it at all."""

TEMPLATE = (
    ckr.AttributeTypeInvalid,
    ckr.AttributeValueInvalid,
    ckr.AttributeReadOnly,
    ckr.TemplateInconsistent,
    ckr.TemplateIncomplete,
)
"""An attribute is not to the module's taste; also said where it makes no session keys at all."""

HARMLESS = (
    *LACKING,
    *TEMPLATE,
    ckr.ArgumentsBad,
    ckr.DataInvalid,
    ckr.DataLenRange,
    ckr.PublicKeyInvalid,
)
"""Not like that; and nothing was done."""

REFUSED = (*HARMLESS, ckr.GeneralError, ckr.FunctionFailed)
"""Not like that; asked in another way, a module may do it. Modules choose among these freely; of
the last two nobody knows whether something was done."""

_NO_MODULE = ("(not initialized)", "0x190")
_UNKNOWN_CURVE = "0x140"  # CKR_CURVE_NOT_SUPPORTED, which python-pkcs11 does not know


def is_gone(error: PKCS11Error) -> bool:
    """Whether to open everything again and try once more."""
    return isinstance(error, GONE) or is_uninitialised(error)


def is_refusal(error: PKCS11Error) -> bool:
    """Whether the module says that it cannot, rather than that it failed this time."""
    return isinstance(error, REFUSED) or _UNKNOWN_CURVE in str(error)


def is_uninitialised(error: PKCS11Error) -> bool:
    """CKR_CRYPTOKI_NOT_INITIALIZED, for which the binding has no class of its own."""
    return type(error) is PKCS11Error and any(text in str(error) for text in _NO_MODULE)


@contextmanager
def explained(doing: str, uri: str | None = None) -> Iterator[None]:
    """Turn what the module says within the block into one of our errors.

    ``doing`` completes "the token refused to …".
    """
    try:
        yield
    except PKCS11Error as error:
        raise explain(error, doing, uri) from error


def explain(error: PKCS11Error, doing: str, uri: str | None = None) -> MeshHsmError:
    """Our error for one of the module's."""
    said = f"the token refused to {doing} ({name(error)})"
    if isinstance(error, ckr.PinIncorrect):
        return WrongSecretError("the token refused the PIN", uri=uri)
    if isinstance(error, ckr.PinLocked):
        return locked_out(uri)
    if isinstance(error, (ckr.PinLenRange, ckr.PinInvalid, ckr.PinTooWeak)):
        return FormatError(f"the token does not take such a PIN ({name(error)})", uri=uri)
    if isinstance(error, ckr.PinExpired):
        return AccessError(
            "the token wants its PIN changed before anything else",
            hint=f"mesh-hsm pin change --token '{uri or 'TOKEN'}'",
            uri=uri,
        )
    if isinstance(error, ckr.UserNotLoggedIn):
        return AccessError(f"the token would {doing} only for a user who is logged in", uri=uri)
    if isinstance(error, ckr.UserPinNotInitialized):
        return AccessError(
            "the token has no user PIN yet",
            hint=f"mesh-hsm pin reset '{uri or 'TOKEN'}' as its security officer",
            uri=uri,
        )
    if isinstance(error, ckr.AnotherUserAlreadyLoggedIn):
        return AccessError("somebody else is logged in to the token in this process", uri=uri)
    if isinstance(error, ckr.SessionCount):
        return DeviceError(
            "the token has no session left for us",
            hint="close other programs that use it",
            uri=uri,
        )
    if isinstance(error, ckr.SessionExists):
        return DeviceError(
            "the token is in use", hint="close what uses it, here and elsewhere", uri=uri
        )
    if isinstance(error, ckr.TokenWriteProtected):
        return AccessError("the token is write-protected", uri=uri)
    if isinstance(error, (ckr.DeviceMemory, ckr.HostMemory)):
        return DeviceError(f"{said}: no memory left", hint="delete keys that nobody needs", uri=uri)
    if isinstance(error, LACKING) or _UNKNOWN_CURVE in str(error):
        return UnsupportedError(said, uri=uri)
    if is_gone(error):
        return DeviceError(
            f"the token went away ({name(error)})", hint="plug it in, and try again", uri=uri
        )
    return DeviceError(said, uri=uri)


def locked_out(uri: str | None = None) -> LockedOutError:
    """The error for a token that takes no PIN any more, right or wrong."""
    return LockedOutError(
        "the token's PIN is locked after too many wrong ones",
        hint=f"mesh-hsm pin reset '{uri or 'TOKEN'}' as its security officer",
        uri=uri,
    )


def name(error: PKCS11Error) -> str:
    """What the module said: the binding's name for it, or its number. One line, no secret."""
    text = str(error).strip()
    if type(error) is PKCS11Error and text:
        return text.splitlines()[0]
    return type(error).__name__
