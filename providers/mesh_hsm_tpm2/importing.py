"""Taking a share into the TPM. Open this file for ``TPM2_Import``.

There is one way in: a share wrapped to our storage key, by us or by a remote administrator. The
auth value that the dealer knew is changed before the key gets a record (hsm-1 §10).
"""

from __future__ import annotations

import os
from dataclasses import replace

from tpm2_pytss import (
    ESAPI,
    TPM2_ALG,
    TPM2B_DATA,
    TPM2B_ENCRYPTED_SECRET,
    TPM2B_PRIVATE,
    TPM2B_PUBLIC,
    TPMT_PUBLIC,
    TPMT_SYM_DEF_OBJECT,
)

from mesh_hsm.errors import VerificationError
from mesh_hsm.provider import KeySpec
from mesh_hsm_tpm2 import creating, sessions, templates
from mesh_hsm_tpm2.records import Record
from mesh_hsm_tpm2.structures import AuthValue
from mesh_hsm_tpm2.tpm import Tpm
from mesh_hsm_tpm2.wrapping import WrappedShare, wrap_share

UNATTESTED = "parent: unattested"
FROM_MEMORY = "the scalar was in this machine's memory when it was imported"


def storage_key(tpm: Tpm) -> bytes:
    """TPMT_PUBLIC of our storage root key: what a dealer wraps a share to."""

    def read(esapi: ESAPI) -> bytes:
        root = tpm.root(esapi)
        public, _, _ = esapi.read_public(root, session1=tpm.session(esapi, sessions.OUTWARD))
        octets: bytes = public.publicArea.marshal()
        return octets

    return tpm.run(read)


def import_scalar(
    tpm: Tpm, spec: KeySpec, scalar: int, auth: AuthValue, known_by: tuple[str, ...]
) -> Record:
    """Wrap a scalar to our own storage key and import it."""
    policy = creating.policy_for(tpm, spec)
    # NUL ends an auth value early, so the throw-away one is drawn in hexadecimal.
    dealt = AuthValue(os.urandom(16).hex().encode() if auth else b"")
    share = wrap_share(
        storage_key(tpm), scalar, spec, pcr_digest=policy.pcr_digest, initial_auth=dealt.octets
    )
    return take(tpm, spec, share, dealt, auth, known_by, (FROM_MEMORY,), policy.pcr_digest)


def import_wrapped(
    tpm: Tpm,
    spec: KeySpec,
    share: WrappedShare,
    dealt: AuthValue,
    auth: AuthValue,
    known_by: tuple[str, ...],
) -> Record:
    """Import a share that a remote dealer wrapped to this TPM's storage key.

    Raises ``VerificationError`` for one wrapped to another TPM, or that is not a key of ``spec``.
    """
    policy = creating.policy_for(tpm, spec)
    notes = (UNATTESTED,)
    return take(tpm, spec, share, dealt, auth, known_by, notes, policy.pcr_digest)


def take(
    tpm: Tpm,
    spec: KeySpec,
    share: WrappedShare,
    dealt: AuthValue,
    auth: AuthValue,
    known_by: tuple[str, ...],
    notes: tuple[str, ...],
    pcr_digest: bytes,
) -> Record:
    """1 compare, 2 import, 3 change the dealer's auth value, 4 give it its place and record."""
    record = Record(
        label=spec.label,
        use=spec.use,
        pin=spec.pin,
        public=share.public.hex(),
        storage_root=tpm.enrolled().storage_root,
        pcrs=tuple(sorted(set(spec.pcrs))),
        pcr_digest=pcr_digest.hex(),
        known_by=known_by,
        notes=notes,
    )
    _compare(share, spec, record)

    def import_and_change(esapi: ESAPI) -> bytes:
        private = _import(tpm, esapi, share)
        if not auth and not dealt:
            return private
        with sessions.flushed(esapi, tpm.load(esapi, private, share.public)) as loaded:
            esapi.tr_set_auth(loaded, dealt.octets)
            session = tpm.session(esapi)
            changed = esapi.object_change_auth(
                loaded, tpm.root(esapi), auth.octets, session1=session
            )
            return bytes(changed.buffer)

    private = tpm.run(import_and_change)
    return creating.keep(tpm, record, private, persistent=spec.persistent)


def _compare(share: WrappedShare, spec: KeySpec, record: Record) -> None:
    """What the dealer sent has to be what was agreed on, before the TPM sees it."""
    if share.parent.hex() != record.storage_root:
        raise VerificationError("the share was wrapped to another TPM's storage key")
    template = templates.key(spec.algorithm, spec.use, record.policy, imported=True)
    if replace(record.area, unique=()) != template:
        raise VerificationError("the wrapped share is another kind of key than was asked for")


def _import(tpm: Tpm, esapi: ESAPI, share: WrappedShare) -> bytes:
    """TPM2_Import; an altered or foreign wrap fails its integrity check there."""
    area, _ = TPMT_PUBLIC.unmarshal(share.public)
    root = tpm.root(esapi)
    private = esapi.import_(
        root,
        TPM2B_DATA(),
        TPM2B_PUBLIC(publicArea=area),
        TPM2B_PRIVATE(share.duplicate),
        TPM2B_ENCRYPTED_SECRET(share.seed),
        TPMT_SYM_DEF_OBJECT(algorithm=TPM2_ALG.NULL),
        session1=tpm.session(esapi),
    )
    return bytes(private.buffer)
