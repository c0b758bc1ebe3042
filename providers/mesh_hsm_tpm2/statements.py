"""Custody statements: what the TPM says of a key, read back now. Open this file for their words."""

from __future__ import annotations

from dataclasses import replace

from tpm2_pytss import ESAPI

from mesh_hsm.custody import CustodyClass, CustodyStatement
from mesh_hsm.errors import FormatError
from mesh_hsm.provider import TokenInfo
from mesh_hsm_tpm2 import endorsement, identity, lockout, sessions, templates
from mesh_hsm_tpm2.policies import PCR_BANK
from mesh_hsm_tpm2.records import Record
from mesh_hsm_tpm2.storage_root import Pin
from mesh_hsm_tpm2.structures import Attr, PublicArea
from mesh_hsm_tpm2.tpm import Tpm


def of_key(tpm: Tpm, info: TokenInfo, record: Record, uri: str) -> CustodyStatement:
    """Read a key's attributes, policy and the dictionary-attack parameters from the TPM."""

    def ask(esapi: ESAPI) -> tuple[bytes, lockout.Lockout, identity.Identity]:
        key = tpm.key(esapi, record)
        public, _, _ = esapi.read_public(key, session1=tpm.session(esapi, sessions.OUTWARD))
        return public.publicArea.marshal(), lockout.read(esapi), identity.read(esapi)

    octets, counter, firmware = tpm.run(ask, uri)
    custody, area = classify(octets, record)
    pin = tpm.enrolled()
    return CustodyStatement(
        custody=custody,
        hardware=firmware.hardware(pin),
        device=info.label,
        firmware=firmware.firmware,
        pin=record.pin,
        pcrs=record.pcrs,
        pcr_bank=PCR_BANK if record.pcrs else None,
        dictionary_attack=replace(
            counter.statement, protected=bool(counter.recovery) and not _uncounted(area)
        ),
        known_by=record.known_by,
        notes=(
            *record.notes,
            *_notes_on_storage(record),
            *_notes_on_lockout(counter),
            *_notes_on_identity(pin),
            *firmware.warnings,
        ),
    )


def classify(octets: bytes, record: Record) -> tuple[CustodyClass, PublicArea | None]:
    """The class that a TPMT_PUBLIC proves, and its parsed form where it is one of ours.

    ``imported`` only for a policy that we recognise as having no Duplicate branch (hsm-1 §10).
    """
    try:
        area = PublicArea.parse(octets)
    except FormatError:
        return CustodyClass.UNKNOWN, None
    if area.attributes & templates.GENERATED == templates.GENERATED:
        return CustodyClass.GENERATED, area
    # An empty policy satisfies no policy session, so nothing authorises TPM2_Duplicate either.
    if area.policy in (b"", record.policy.digest):
        return CustodyClass.IMPORTED, area
    return CustodyClass.EXPORTABLE, area


def _uncounted(area: PublicArea | None) -> bool:
    return area is None or bool(area.attributes & Attr.NO_DA)


def _notes_on_storage(record: Record) -> tuple[str, ...]:
    if record.persistent is not None:
        return (f"kept in the TPM itself, at {record.persistent:#x}, and nowhere else",)
    return (
        "the encrypted key file is good for ever on this TPM: deleting it or changing its PIN "
        "revokes no copy of the old file",
    )


def _notes_on_lockout(counter: lockout.Lockout) -> tuple[str, ...]:
    notes = []
    if not counter.lockout_auth_set:
        notes.append(
            "the TPM's lockout password is empty: root on this machine can reset the count of "
            "wrong PINs"
        )
    if not counter.recovery:
        notes.append("the TPM counts no wrong PINs: its recovery time is 0")
    return tuple(notes)


def _notes_on_identity(pin: Pin) -> tuple[str, ...]:
    if pin.proof == endorsement.BY_CERTIFICATE:
        return (f"endorsement key certified by {pin.issuer}",)
    if pin.proof == endorsement.FIRST_USE:
        return ("the TPM's endorsement key was taken on trust at first use",)
    return ("the TPM's endorsement key could not be used: the hierarchy has a password",)
