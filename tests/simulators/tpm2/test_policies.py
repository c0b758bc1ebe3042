"""PCR policies are enforced by the TPM, and every key can still be certified."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tpm2_pytss import (
    ESAPI,
    ESYS_TR,
    TPM2_ALG,
    TPM2_ECC,
    TPM2_SE,
    TPM2_ST,
    TPM2B_ATTEST,
    TPM2B_DATA,
    TPM2B_ECC_POINT,
    TPM2B_PRIVATE,
    TPM2B_PUBLIC,
    TPM2B_SENSITIVE_CREATE,
    TPMA_OBJECT,
    TPML_PCR_SELECTION,
    TPMS_ATTEST,
    TPMS_ECC_PARMS,
    TPMS_ECC_POINT,
    TPMS_SCHEME_HASH,
    TPMT_ECC_SCHEME,
    TPMT_KDF_SCHEME,
    TPMT_PUBLIC,
    TPMT_SIG_SCHEME,
    TPMT_SYM_DEF_OBJECT,
    TPMT_TK_CREATION,
    TPMU_ASYM_SCHEME,
    TPMU_PUBLIC_PARMS,
    TSS2_Exception,
)

from mesh_hsm.curves import P384
from mesh_hsm.custody import PinPolicy
from mesh_hsm.errors import PolicyError
from mesh_hsm.provider import KeySpec, Use
from mesh_hsm.testing.swtpm import Swtpm
from mesh_hsm.testing.tpm_wire import Command, Tap
from mesh_hsm_tpm2 import sessions, templates
from mesh_hsm_tpm2.records import Records
from mesh_hsm_tpm2.structures import PublicArea, point_octets

from .conftest import PIN, Open

TPM_RC_AUTH_UNAVAILABLE = 0x12F
KINDS = {
    "no PIN": (PinPolicy.NONE, ()),
    "PIN": (PinPolicy.ONCE, ()),
    "PCR": (PinPolicy.NONE, (7, 16)),
    "PIN and PCR": (PinPolicy.ONCE, (7, 16)),
}
WITH_PCR = [name for name, (_, pcrs) in KINDS.items() if pcrs]


@contextmanager
def raw(rig: Swtpm, records: Path, label: str) -> Iterator[tuple[ESAPI, ESYS_TR, ESYS_TR]]:
    """The TPM, a storage root and one of our keys, by nothing but the TPM library."""
    store = Records(records)
    record, blob = store.load(label), store.key_file(label)
    with ESAPI(rig.tcti) as esapi:
        area, _ = TPMT_PUBLIC.unmarshal(templates.STORAGE_ROOT.marshal())
        root, *_ = esapi.create_primary(TPM2B_SENSITIVE_CREATE(), TPM2B_PUBLIC(publicArea=area))
        area, _ = TPMT_PUBLIC.unmarshal(bytes.fromhex(record.public))
        key = esapi.load(root, TPM2B_PRIVATE(blob.private), TPM2B_PUBLIC(publicArea=area))
        try:
            yield esapi, root, key
        finally:
            esapi.flush_context(key)
            esapi.flush_context(root)


def attestation_key(esapi: ESAPI) -> ESYS_TR:
    """A restricted signing key: what it signs is the TPM's own statement."""
    scheme = TPMT_ECC_SCHEME(
        scheme=TPM2_ALG.ECDSA,
        details=TPMU_ASYM_SCHEME(ecdsa=TPMS_SCHEME_HASH(hashAlg=TPM2_ALG.SHA256)),
    )
    parameters = TPMS_ECC_PARMS(
        symmetric=TPMT_SYM_DEF_OBJECT(algorithm=TPM2_ALG.NULL),
        scheme=scheme,
        curveID=TPM2_ECC.NIST_P256,
        kdf=TPMT_KDF_SCHEME(scheme=TPM2_ALG.NULL),
    )
    area = TPMT_PUBLIC(
        type=TPM2_ALG.ECC,
        nameAlg=TPM2_ALG.SHA256,
        objectAttributes=TPMA_OBJECT.USERWITHAUTH
        | TPMA_OBJECT.RESTRICTED
        | TPMA_OBJECT.SIGN_ENCRYPT
        | TPMA_OBJECT.FIXEDTPM
        | TPMA_OBJECT.FIXEDPARENT
        | TPMA_OBJECT.SENSITIVEDATAORIGIN,
        parameters=TPMU_PUBLIC_PARMS(eccDetail=parameters),
    )
    handle, *_ = esapi.create_primary(TPM2B_SENSITIVE_CREATE(), TPM2B_PUBLIC(publicArea=area))
    return handle


def certified_name(statement: TPM2B_ATTEST) -> bytes:
    attest, _ = TPMS_ATTEST.unmarshal(bytes(statement.attestationData))
    attested = attest.attested
    name = attested.certify.name if attest.type == TPM2_ST.ATTEST_CERTIFY else None
    return bytes(name if name is not None else attested.creation.objectName)


@pytest.mark.parametrize("kind", WITH_PCR)
@pytest.mark.parametrize("use", [Use.ENCRYPT, Use.SIGN])
def test_a_changed_pcr_closes_the_key(
    swtpm: Swtpm, tap: Tap, open_token: Open, kind: str, use: Use
) -> None:
    """``PolicyError`` naming the PCRs, and neither the PIN's proof nor the key command is sent."""
    key = open_token().generate(KeySpec("P-384", use, "bound", *KINDS[kind]))

    def exercise() -> None:
        key.sign(bytes(48)) if use is Use.SIGN else key.agree(P384.base)

    exercise()
    swtpm.extend_pcr(8)
    exercise()  # another PCR is nobody's business
    swtpm.extend_pcr(16)
    tap.clear()
    with pytest.raises(PolicyError, match="PCR 7, 16 no longer"):
        exercise()
    assert tap.commands == [Command.POLICY_PCR, Command.FLUSH_CONTEXT]
    with pytest.raises(PolicyError):
        exercise()
    swtpm.restart()  # PCRs as after a boot: 16 is what it was
    exercise()


@pytest.mark.parametrize("kind", WITH_PCR)
def test_a_pcr_key_is_not_used_by_pin_alone(
    swtpm: Swtpm, open_token: Open, records: Path, kind: str
) -> None:
    """userWithAuth is clear: the TPM itself refuses a session without policy (hsm-1 §10)."""
    with open_token() as token:
        token.generate(KeySpec("P-384", Use.ENCRYPT, "bound", *KINDS[kind]))
    x, y = point_octets(P384.base)
    with raw(swtpm, records, "bound") as (esapi, root, key):
        esapi.tr_set_auth(key, PIN if KINDS[kind][0] else b"")
        with sessions.flushed(esapi, sessions.start(esapi, root)) as session:
            with pytest.raises(TSS2_Exception) as refused:
                esapi.ecdh_zgen(
                    key,
                    TPM2B_ECC_POINT(TPMS_ECC_POINT(x=x, y=y)),
                    session1=sessions.protect(esapi, session, sessions.BOTH_WAYS),
                )
            assert refused.value.rc == TPM_RC_AUTH_UNAVAILABLE


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("use", [Use.ENCRYPT, Use.SIGN])
def test_every_key_can_be_certified(
    swtpm: Swtpm, open_token: Open, records: Path, kind: str, use: Use
) -> None:
    """TPM2_Certify and TPM2_CertifyCreation under a restricted key, from what the record keeps."""
    pin, pcrs = KINDS[kind]
    with open_token() as token:
        public = token.generate(KeySpec("P-256", use, "subject", pin, pcrs)).public
    record = Records(records).load("subject")
    scheme = TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL)
    with raw(swtpm, records, "subject") as (esapi, _, key):
        ak = attestation_key(esapi)
        esapi.tr_set_auth(key, PIN if pin is not PinPolicy.NONE else b"")
        session = esapi.start_auth_session(
            tpm_key=ESYS_TR.NONE,
            bind=ESYS_TR.NONE,
            session_type=TPM2_SE.HMAC,
            symmetric=sessions._AES_128_CFB,
            auth_hash=TPM2_ALG.SHA256,
        )
        with sessions.flushed(esapi, ak), sessions.flushed(esapi, session):
            sessions.protect(esapi, session, sessions.PLAIN)
            statement, _ = esapi.certify(
                key, ak, TPM2B_DATA(b"nonce"), scheme, session1=session, session2=ESYS_TR.PASSWORD
            )
            assert certified_name(statement) == record.area.name
            ticket, _ = TPMT_TK_CREATION.unmarshal(bytes.fromhex(record.creation.ticket))
            statement, _ = esapi.certify_creation(
                ak,
                key,
                TPM2B_DATA(b"nonce"),
                bytes.fromhex(record.creation.digest),
                scheme,
                ticket,
            )
            assert certified_name(statement) == record.area.name
    assert record.area.point == public


def test_templates_are_read_back(swtpm: Swtpm, open_token: Open, records: Path) -> None:
    """What the TPM holds is what hsm-1 §10 asks for, attribute by attribute."""
    with open_token() as token:
        for kind, (pin, pcrs) in KINDS.items():
            for use in (Use.ENCRYPT, Use.SIGN):
                token.generate(KeySpec("P-384", use, f"{kind} {use}", pin, pcrs))
    for kind, (_, pcrs) in KINDS.items():
        for use in (Use.ENCRYPT, Use.SIGN):
            with raw(swtpm, records, f"{kind} {use}") as (esapi, _, key):
                public, _, _ = esapi.read_public(key)
                area = public.publicArea
                attributes = area.objectAttributes
                on = TPMA_OBJECT.FIXEDTPM | TPMA_OBJECT.FIXEDPARENT
                on |= TPMA_OBJECT.SENSITIVEDATAORIGIN
                on |= TPMA_OBJECT.SIGN_ENCRYPT if use is Use.SIGN else TPMA_OBJECT.DECRYPT
                if not pcrs:
                    on |= TPMA_OBJECT.USERWITHAUTH
                assert attributes == on
                scheme = area.parameters.eccDetail.scheme
                if use is Use.SIGN:
                    assert scheme.scheme == TPM2_ALG.ECDSA
                    assert scheme.details.ecdsa.hashAlg == TPM2_ALG.SHA384
                else:
                    assert scheme.scheme == TPM2_ALG.NULL


def test_our_policy_digest_is_the_tpms(swtpm: Swtpm, open_token: Open, records: Path) -> None:
    """A trial session run by the TPM gives the digest that we compute."""
    with open_token() as token:
        for kind, (pin, pcrs) in KINDS.items():
            token.generate(KeySpec("P-256", Use.ENCRYPT, kind, pin, pcrs))
    with ESAPI(swtpm.tcti) as esapi:
        for kind in WITH_PCR:
            record = Records(records).load(kind)
            trial = esapi.start_auth_session(
                tpm_key=ESYS_TR.NONE,
                bind=ESYS_TR.NONE,
                session_type=TPM2_SE.TRIAL,
                symmetric=sessions._AES_128_CFB,
                auth_hash=TPM2_ALG.SHA256,
            )
            with sessions.flushed(esapi, trial):
                esapi.policy_pcr(trial, b"", TPML_PCR_SELECTION.parse("sha256:7,16"))
                if record.pin is not PinPolicy.NONE:
                    esapi.policy_auth_value(trial)
                digest = esapi.policy_get_digest(trial)
                assert bytes(digest) == record.policy.digest == record.area.policy
        for kind in set(KINDS) - set(WITH_PCR):
            area = PublicArea.parse(bytes.fromhex(Records(records).load(kind).public))
            assert area.policy == b""
