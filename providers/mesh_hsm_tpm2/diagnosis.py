"""What ``doctor`` finds wrong with a TPM. Open this file for the codes TPM001 to TPM010.

Each has a section in docs/reference/doctor.md. Nothing is changed, and nobody is asked anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tpm2_pytss import ESAPI

from mesh_hsm.custody import Hardware
from mesh_hsm.errors import MeshHsmError, ProviderUnavailableError
from mesh_hsm.provider import Finding, Severity
from mesh_hsm_tpm2 import endorsement, identity, lockout
from mesh_hsm_tpm2.records import Records
from mesh_hsm_tpm2.storage_root import Pin
from mesh_hsm_tpm2.tpm import Tpm

_FIRST_TRIES_MATTER = 2


def unreachable(error: ProviderUnavailableError) -> Finding:
    """Why there is no TPM to look at, told by what the system said."""
    cause, remedy = error.__cause__, error.hint or "check the TCTI string"
    if isinstance(cause, FileNotFoundError):
        return Finding("TPM001", Severity.WARNING, str(error), remedy)
    if isinstance(cause, PermissionError):
        return Finding("TPM002", Severity.ERROR, str(error), remedy)
    return Finding("TPM003", Severity.ERROR, str(error), remedy)


def of_tpm(tpm: Tpm, folder: Path) -> Iterator[Finding]:
    """Everything there is to say of a TPM that answers."""

    def ask(esapi: ESAPI) -> tuple[lockout.Lockout, identity.Identity]:
        return lockout.read(esapi), identity.read(esapi)

    try:
        counter, firmware = tpm.run(ask)
    except MeshHsmError as error:
        remedy = error.hint or "switch the machine off and on again"
        yield Finding("TPM003", Severity.ERROR, str(error), remedy)
        return
    yield from _of_counter(counter)
    yield from _of_records(folder)
    yield from _of_hardware(firmware, tpm.pin)


def _of_counter(counter: lockout.Lockout) -> Iterator[Finding]:
    left = counter.attempts_remaining
    if left == 0:
        yield Finding(
            "TPM004",
            Severity.ERROR,
            "the TPM is locked out after too many wrong PINs",
            lockout.way_out(counter),
        )
    elif left is not None and counter.counter:
        yield Finding(
            "TPM007",
            Severity.WARNING if left < _FIRST_TRIES_MATTER else Severity.NOTE,
            f"{counter.counter} of {counter.max_tries} tries at a PIN are used up",
            f"each {counter.recovery} seconds give one back",
        )
    if not counter.lockout_auth_set:
        yield Finding(
            "TPM005",
            Severity.WARNING,
            "lockoutAuth is empty: root can reset the count of wrong PINs",
            "tpm2_changeauth -c lockout file:PASSWORD-FILE",
        )


def _of_records(folder: Path) -> Iterator[Finding]:
    records = Records(folder)
    try:
        bound = [label for label in records.labels() if records.load(label).pcrs]
    except MeshHsmError as error:
        yield Finding("STATE003", Severity.ERROR, str(error), "restore the file from a copy")
        return
    if bound:
        yield Finding(
            "TPM006",
            Severity.NOTE,
            f"keys bound to PCRs are lost by a firmware update: {', '.join(bound)}",
            "before an update, make sure that the backup opens: mesh-hsm dare decode --backup",
        )


def _of_hardware(firmware: identity.Identity, pin: Pin | None) -> Iterator[Finding]:
    if firmware.hardware(pin) is Hardware.SIMULATOR:
        yield Finding(
            "TPM008", Severity.NOTE, "the TPM is a simulator and protects nothing", "use a real one"
        )
    elif pin is not None and pin.proof != endorsement.BY_CERTIFICATE:
        yield Finding(
            "TPM009",
            Severity.NOTE,
            f"nobody vouches for the TPM: endorsement key {pin.proof}",
            "put its manufacturer's root certificate into the folder ek-roots and enrol anew",
        )
    for sentence in firmware.warnings:
        yield Finding("TPM010", Severity.WARNING, sentence, "fwupdmgr update")
