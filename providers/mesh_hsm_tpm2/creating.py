"""Making a key inside the TPM, in steps that leave nothing behind when one of them fails.

Open this file for generation, persistent places and deletion.
"""

from __future__ import annotations

from contextlib import ExitStack, suppress

from tpm2_pytss import (
    ESAPI,
    ESYS_TR,
    TPM2B_DATA,
    TPM2B_PUBLIC,
    TPM2B_SENSITIVE_CREATE,
    TPML_PCR_SELECTION,
    TPMS_SENSITIVE_CREATE,
    TPMT_PUBLIC,
    TSS2_Exception,
)

from mesh_hsm.custody import PinPolicy
from mesh_hsm.errors import DeviceError
from mesh_hsm.provider import KeySpec
from mesh_hsm_tpm2 import sessions, slots, storage_root, templates
from mesh_hsm_tpm2.blobs import KeyFile
from mesh_hsm_tpm2.policies import Policy, pcr_digest, pcr_selection
from mesh_hsm_tpm2.records import Creation, Record
from mesh_hsm_tpm2.structures import AuthValue
from mesh_hsm_tpm2.tpm import Tpm

# The owner's range (Part 2 §7.5), away from what the TCG's handle registry reserves in it.
_FIRST_PLACE, _LAST_PLACE = 0x81400000, 0x817FFFFF


def policy_for(tpm: Tpm, spec: KeySpec) -> Policy:
    """The policy that a specification asks for, over the PCR values of this moment."""
    pin = spec.pin is not PinPolicy.NONE
    pcrs = tuple(sorted(set(spec.pcrs)))
    return Policy(pcrs, tpm.run(lambda esapi: read_pcrs(esapi, pcrs)) if pcrs else b"", pin)


def read_pcrs(esapi: ESAPI, pcrs: tuple[int, ...]) -> bytes:
    """SHA-256 over the present values of PCRs of the SHA-256 bank, in order of index."""
    values: list[bytes] = []
    for index in sorted(pcrs):  # one at a time: a TPM may answer with fewer than were asked for
        selection, _ = TPML_PCR_SELECTION.unmarshal(pcr_selection((index,)))
        _, _, answer = esapi.pcr_read(selection)
        if not len(answer):
            raise DeviceError(f"the TPM has no SHA-256 bank with PCR {index}")
        value = answer[0]
        values.append(bytes(value))
    return pcr_digest(values)


def generate(tpm: Tpm, spec: KeySpec, auth: AuthValue) -> Record:
    """Make a key: 1 create, 2 write the blob or take a persistent place, 3 write the record."""
    policy = policy_for(tpm, spec)
    template = templates.key(spec.algorithm, spec.use, policy)
    area, _ = TPMT_PUBLIC.unmarshal(template.marshal())
    sensitive = TPM2B_SENSITIVE_CREATE(TPMS_SENSITIVE_CREATE(userAuth=auth.octets))

    def create(esapi: ESAPI) -> tuple[bytes, bytes, Creation]:
        root = tpm.root(esapi)
        private, public, data, digest, ticket = esapi.create(
            root,
            sensitive,
            TPM2B_PUBLIC(publicArea=area),
            TPM2B_DATA(),
            TPML_PCR_SELECTION(),
            session1=tpm.session(esapi),
        )
        creation = Creation(
            data.creationData.marshal().hex(), bytes(digest).hex(), ticket.marshal().hex()
        )
        return bytes(private.buffer), public.publicArea.marshal(), creation

    private, public, creation = tpm.run(create)
    record = Record(
        label=spec.label,
        use=spec.use,
        pin=spec.pin,
        public=public.hex(),
        storage_root=tpm.enrolled().storage_root,
        pcrs=policy.pcrs,
        pcr_digest=policy.pcr_digest.hex(),
        creation=creation,
    )
    return keep(tpm, record, private, persistent=spec.persistent)


def keep(tpm: Tpm, record: Record, private: bytes, *, persistent: bool) -> Record:
    """Give a made or imported key its place and its record, or leave nothing behind."""
    with ExitStack() as undo:
        undo.callback(tpm.records.remove, record.label)
        if persistent:
            record = record.at(make_persistent(tpm, private, bytes.fromhex(record.public)))
            undo.callback(evict, tpm, record)
        else:
            tpm.records.save_key_file(record.label, key_file(tpm, record, private))
        tpm.records.save(record)
        undo.pop_all()
    return record


def key_file(tpm: Tpm, record: Record, private: bytes) -> KeyFile:
    """The TPM key file of a key, as other tools read it."""
    return KeyFile(
        bytes.fromhex(record.public),
        private,
        empty_auth=record.pin is PinPolicy.NONE,
        parent=tpm.parent,
        policy=record.policy.steps,
    )


def make_persistent(tpm: Tpm, private: bytes, public: bytes) -> int:
    """TPM2_EvictControl to the first free place of the owner's range."""

    def move(esapi: ESAPI) -> int:
        with sessions.flushed(esapi, tpm.load(esapi, private, public)) as loaded:
            place = _free_place(esapi)
            kept = _evict_control(tpm, esapi, loaded, place)
            esapi.tr_close(kept)
            return place

    return tpm.run(move)


def evict(tpm: Tpm, record: Record) -> None:
    """Remove a persistent key from the TPM, if that place still holds this very key."""

    def remove(esapi: ESAPI) -> None:
        place = record.persistent
        handle = None if place is None else tpm.find_persistent(esapi, record)
        if place is not None and handle is not None:
            _evict_control(tpm, esapi, handle, place)
            # ESAPI would go on answering for this place with the old key's name.
            with suppress(TSS2_Exception):
                esapi.tr_close(handle)

    tpm.unload(record.label)
    tpm.run(remove)


def _evict_control(tpm: Tpm, esapi: ESAPI, handle: ESYS_TR, place: int) -> ESYS_TR:
    return storage_root.as_owner(
        esapi,
        tpm.secrets,
        tpm.session(esapi, sessions.PLAIN),
        lambda by: esapi.evict_control(ESYS_TR.OWNER, handle, place, session1=by),
    )


def _free_place(esapi: ESAPI) -> int:
    taken = set(slots.listed(esapi, _FIRST_PLACE))
    return next(place for place in range(_FIRST_PLACE, _LAST_PLACE) if place not in taken)
