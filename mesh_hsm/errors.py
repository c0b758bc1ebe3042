"""Every error this toolkit raises on purpose, and the exit code the command line gives it.

Open this file to see what can go wrong. Facts are attributes, so that a caller never parses a
message; ``hint`` names the next thing to do. No secret ever reaches a message or an attribute.
"""

from __future__ import annotations

from typing import ClassVar


class MeshHsmError(Exception):
    """Root of the hierarchy. ``str()`` is one line; ``hint`` is what to try next."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str | None = None, uri: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint
        self.uri = uri


# -- what was given ------------------------------------------------------------------------------


class FormatError(MeshHsmError):
    """Octets or text that are not what they should be: truncated, oversized, non-canonical."""

    exit_code = 3


class InvalidPointError(FormatError):
    """A public point that no device may see: off the curve, on the twist, small order, neutral."""


class NotFoundError(MeshHsmError):
    """No such key, token, profile or file; or a prefix that fits several."""

    exit_code = 4


class ConflictError(MeshHsmError):
    """It is there already, and would have been overwritten."""

    exit_code = 11


# -- what was not allowed ------------------------------------------------------------------------


class AccessError(MeshHsmError):
    """The device or file did not let us in."""

    exit_code = 5


class SecretRequiredError(AccessError):
    """A PIN or passphrase is needed and the secret source has none to give."""


class WrongSecretError(AccessError):
    """A PIN or passphrase was refused. ``attempts_remaining`` is None where nothing counts."""

    def __init__(
        self,
        message: str,
        *,
        attempts_remaining: int | None = None,
        hint: str | None = None,
        uri: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint, uri=uri)
        self.attempts_remaining = attempts_remaining


class LastTryError(AccessError):
    """One try is left and nobody agreed to spend it. Nothing was sent to the device."""


class LockedOutError(AccessError):
    """The device refuses every secret, right ones too, for ``recovery_seconds`` (None: forever)."""

    def __init__(
        self,
        message: str,
        *,
        recovery_seconds: int | None = None,
        hint: str | None = None,
        uri: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint, uri=uri)
        self.recovery_seconds = recovery_seconds


class PolicyError(AccessError):
    """The key's own policy refused: a PCR has changed, or a session that may not use the key."""


class UnsupportedError(MeshHsmError):
    """The device, the curve or this version cannot do it. Said before anything is sent."""

    exit_code = 6


# -- what did not check --------------------------------------------------------------------------


class VerificationError(MeshHsmError):
    """A signature, proof, digest, pin or version did not check."""

    exit_code = 7


class CannotVerifyError(VerificationError):
    """It could not be checked at all. A careless caller who catches the parent fails closed."""


class DecryptionError(MeshHsmError):
    """No key at hand opens it, or the authentication tag is wrong. No plaintext was released."""

    exit_code = 8


# -- what failed ---------------------------------------------------------------------------------


class ProviderUnavailableError(MeshHsmError):
    """A provider's library, daemon or device is absent. ``hint`` says what to install or start."""

    exit_code = 9


class DeviceError(MeshHsmError):
    """The device failed, vanished, or gave an answer that is off the curve or does not verify."""

    exit_code = 10


class StorageError(MeshHsmError):
    """Disk full, no permission, interrupted: what was there before is still there, whole.

    Only where the message says so is the new file in place, and may not survive a power loss.
    """

    exit_code = 12
