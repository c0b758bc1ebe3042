"""The TPM's count of wrong PINs. Open this file for what happens before a PIN is tried.

One counter serves every key with noDA clear, disk encryption's too (hsm-1 §10).
"""

from __future__ import annotations

from dataclasses import dataclass

from tpm2_pytss import ESAPI, TPM2_CAP

from mesh_hsm.custody import DictionaryAttack
from mesh_hsm.errors import LastTryError, LockedOutError
from mesh_hsm.secret_source import SecretKind, SecretRequest, SecretSource
from mesh_hsm_tpm2.structures import AuthValue

_PERMANENT, _COUNTER = 0x200, 0x20E  # TPM_PT_PERMANENT, TPM_PT_LOCKOUT_COUNTER and the next three
_LOCKOUT_AUTH_SET, _IN_LOCKOUT = 1 << 2, 1 << 9  # TPMA_PERMANENT


@dataclass(frozen=True, slots=True)
class Lockout:
    """The counter and its parameters; times in seconds. ``recovery`` 0: nothing is counted."""

    counter: int
    max_tries: int
    recovery: int
    lockout_recovery: int
    lockout_auth_set: bool
    in_lockout: bool

    @property
    def attempts_remaining(self) -> int | None:
        """Wrong PINs left before the lockout; None where nothing counts."""
        if not self.recovery:
            return None
        return 0 if self.in_lockout else max(0, self.max_tries - self.counter)

    @property
    def statement(self) -> DictionaryAttack:
        """The same for a custody statement."""
        return DictionaryAttack(
            protected=bool(self.recovery),
            max_tries=self.max_tries,
            recovery_seconds=self.recovery,
            lockout_recovery_seconds=self.lockout_recovery,
            lockout_auth_set=self.lockout_auth_set,
        )


def read(esapi: ESAPI) -> Lockout:
    """Ask the TPM: one command."""
    _, answer = esapi.get_capability(TPM2_CAP.TPM_PROPERTIES, _PERMANENT, 32)
    listed = answer.data.tpmProperties
    values = {int(item.property): int(item.value) for item in listed}
    permanent = values[_PERMANENT]
    counter, max_tries, recovery, lockout_recovery = (values[_COUNTER + i] for i in range(4))
    return Lockout(
        counter,
        max_tries,
        recovery,
        lockout_recovery,
        lockout_auth_set=bool(permanent & _LOCKOUT_AUTH_SET),
        in_lockout=bool(permanent & _IN_LOCKOUT),
    )


def ask_pin(lockout: Lockout, secrets: SecretSource, subject: str) -> AuthValue:
    """Ask for a PIN, saying what is left; nothing has been sent when this raises.

    Raises ``LockedOutError``, ``LastTryError`` without consent, ``SecretRequiredError``.
    """
    remaining = lockout.attempts_remaining
    if remaining == 0:
        raise locked_out(lockout)
    request = SecretRequest(SecretKind.PIN, subject, remaining)
    if remaining == 1 and not secrets.consents_to_last_try(request):
        raise LastTryError(
            f"one try is left before the TPM locks out; the PIN of {subject} was not tried",
            hint=f"agree to it (--use-last-try), or wait {lockout.recovery} seconds for another",
        )
    return AuthValue.of_pin(secrets.secret(request))


def locked_out(lockout: Lockout) -> LockedOutError:
    """The error for a TPM that refuses right PINs too, with the time until the next try."""
    return LockedOutError(
        "the TPM is locked out after too many wrong PINs and refuses right ones too",
        recovery_seconds=lockout.recovery,
        hint=way_out(lockout),
    )


def way_out(lockout: Lockout) -> str:
    """How to end a lockout. A wrong lockout password would lock the lockout hierarchy itself."""
    password = " -p file:PASSWORD-FILE" if lockout.lockout_auth_set else ""
    wait = f"wait {lockout.recovery} seconds for one try"
    return f"{wait}, or: tpm2_dictionarylockout -c{password}"
