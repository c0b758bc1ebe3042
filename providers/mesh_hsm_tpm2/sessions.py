"""Sessions: what keeps PINs and agreed points off the bus. Open this file to audit the wire.

Every session is salted to a key that only this TPM holds, authorises by HMAC, and encrypts the
first parameter both ways with AES-128-CFB where the command allows (hsm-1 §10).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tpm2_pytss import (
    ESAPI,
    ESYS_TR,
    TPM2_ALG,
    TPM2_SE,
    TPMA_SESSION,
    TPML_PCR_SELECTION,
    TPMT_SYM_DEF,
    TPMU_SYM_KEY_BITS,
    TPMU_SYM_MODE,
    TSS2_Exception,
)

from mesh_hsm_tpm2.policies import Policy, pcr_selection

BOTH_WAYS = TPMA_SESSION.CONTINUESESSION | TPMA_SESSION.DECRYPT | TPMA_SESSION.ENCRYPT
INWARD = TPMA_SESSION.CONTINUESESSION | TPMA_SESSION.DECRYPT
"""For commands whose answer cannot be encrypted: ESAPI would drop the attribute silently."""
OUTWARD = TPMA_SESSION.CONTINUESESSION | TPMA_SESSION.ENCRYPT
PLAIN = TPMA_SESSION.CONTINUESESSION
_ALL = TPMA_SESSION(0xFF)
_AES_128_CFB = TPMT_SYM_DEF(
    algorithm=TPM2_ALG.AES,
    keyBits=TPMU_SYM_KEY_BITS(aes=128),
    mode=TPMU_SYM_MODE(aes=TPM2_ALG.CFB),
)


def start(esapi: ESAPI, salt_to: ESYS_TR, kind: TPM2_SE = TPM2_SE.HMAC) -> ESYS_TR:
    """A session salted to a loaded key whose name has been checked. The caller flushes it."""
    return esapi.start_auth_session(
        tpm_key=salt_to,
        bind=ESYS_TR.NONE,
        session_type=kind,
        symmetric=_AES_128_CFB,
        auth_hash=TPM2_ALG.SHA256,
    )


def protect(esapi: ESAPI, session: ESYS_TR, attributes: TPMA_SESSION) -> ESYS_TR:
    """The session, set up for the next command. No command is sent."""
    esapi.trsess_set_attributes(session, attributes, _ALL)
    return session


def run_policy(esapi: ESAPI, session: ESYS_TR, policy: Policy) -> None:
    """Satisfy a policy: one command for the PCRs, one for the PIN. Again before every use.

    The expected PCR digest goes along, so that a changed PCR is told before any PIN is sent.
    """
    if policy.pcrs:
        selection, _ = TPML_PCR_SELECTION.unmarshal(pcr_selection(policy.pcrs))
        esapi.policy_pcr(session, policy.pcr_digest, selection)
    if policy.pin:
        esapi.policy_auth_value(session)


@contextmanager
def flushed(esapi: ESAPI, handle: ESYS_TR) -> Iterator[ESYS_TR]:
    """A handle that is flushed on every path."""
    try:
        yield handle
    finally:
        flush(esapi, handle)


def flush(esapi: ESAPI, handle: ESYS_TR) -> None:
    """Flush a session or transient object, if it is still there."""
    try:
        esapi.flush_context(handle)
    except TSS2_Exception:
        # The TPM has forgotten it already (reset, or flushed by another); forget it here too.
        with suppress(TSS2_Exception):
            esapi.tr_close(handle)
