"""From status words and PC/SC codes to our errors. Open this file when a card says 6-something.

What is not known stays a ``DeviceError`` that repeats the status word.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from smartcard.Exceptions import SmartcardException
from yubikit.core import BadResponseError, CommandError, NotSupportedError
from yubikit.core.smartcard import SW, ApduError

from mesh_hsm.errors import (
    AccessError,
    DeviceError,
    LockedOutError,
    MeshHsmError,
    UnsupportedError,
)

MALFORMED: Final = (
    BadResponseError,
    ValueError,
    LookupError,
    TypeError,
    struct.error,
    EOFError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What yubikit and its library raise while they take apart an answer that is none."""

_LOOK: Final = "pull it out and plug it in again; mesh-hsm doctor says what is known of it"


class CardGoneError(DeviceError):
    """The card was pulled out, or reset by somebody else, while we talked to it."""


@contextmanager
def explained(doing: str, uri: str) -> Iterator[None]:
    """Turn what yubikit or PC/SC raises within the block into one of our errors.

    ``doing`` completes "the YubiKey refused to …".
    """
    try:
        yield
    except (CommandError, NotSupportedError) as error:
        raise explain(error, doing, uri) from error
    except SmartcardException as error:
        raise gone(doing, uri) from error
    except MALFORMED as error:
        raise DeviceError(
            f"the YubiKey gave a malformed answer when it was asked to {doing}",
            hint=_LOOK,
            uri=uri,
        ) from error


def explain(error: Exception, doing: str, uri: str) -> MeshHsmError:
    """Our error for one of yubikit's."""
    if isinstance(error, NotSupportedError):
        return UnsupportedError(
            f"this YubiKey cannot {doing}: {error}", hint="mesh-hsm doctor", uri=uri
        )
    if not isinstance(error, ApduError):
        return DeviceError(f"the YubiKey refused to {doing}", hint=_LOOK, uri=uri)
    said = f"the YubiKey refused to {doing} (SW={error.sw:04X})"
    if error.sw == SW.SECURITY_CONDITION_NOT_SATISFIED:
        return AccessError(said, hint="run it again, and give the PIN when it is asked", uri=uri)
    if error.sw == SW.AUTH_METHOD_BLOCKED:
        return blocked("PIN", uri)
    if error.sw in (SW.INVALID_INSTRUCTION, SW.FUNCTION_NOT_SUPPORTED):
        return UnsupportedError(
            said, hint="mesh-hsm doctor shows its firmware; it cannot be updated", uri=uri
        )
    if error.sw == SW.NO_SPACE:
        return DeviceError(
            f"{said}: no memory left", hint="delete keys or certificates nobody needs", uri=uri
        )
    return DeviceError(said, hint=_LOOK, uri=uri)


def gone(doing: str, uri: str) -> CardGoneError:
    """The error for a card that is no longer there."""
    return CardGoneError(
        f"the YubiKey went away while it was asked to {doing}",
        hint="plug it in again, and look with mesh-hsm key list what it holds",
        uri=uri,
    )


def blocked(which: str, uri: str) -> LockedOutError:
    """The error for a PIN or PUK without tries."""
    way_out = (
        f"mesh-hsm pin unblock '{uri}' sets a new one with the PUK"
        if which == "PIN"
        else f"the PIN serves on; without it, mesh-hsm token init '{uri}' --label NAME --erase"
    )
    return LockedOutError(
        f"the YubiKey's {which} is blocked after too many wrong ones", hint=way_out, uri=uri
    )
