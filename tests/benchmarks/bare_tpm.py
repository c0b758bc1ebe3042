"""The peer: tpm2-pytss's ESAPI, used as directly as it can be with the same session protection."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from cryptography.hazmat.primitives.asymmetric import ec
from tpm2_pytss import (
    ESAPI,
    ESYS_TR,
    TPM2_ALG,
    TPM2_RH,
    TPM2_SE,
    TPM2_ST,
    TPM2B_ECC_POINT,
    TPM2B_PUBLIC,
    TPM2B_SENSITIVE_CREATE,
    TPMA_SESSION,
    TPMS_ECC_POINT,
    TPMS_SENSITIVE_CREATE,
    TPMT_SIG_SCHEME,
    TPMT_SYM_DEF,
    TPMT_TK_HASHCHECK,
    TPMU_SYM_KEY_BITS,
    TPMU_SYM_MODE,
)

_ATTRIBUTES = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth"
_BOTH_WAYS = TPMA_SESSION.CONTINUESESSION | TPMA_SESSION.DECRYPT | TPMA_SESSION.ENCRYPT
_INWARD = TPMA_SESSION.CONTINUESESSION | TPMA_SESSION.DECRYPT
_ALL = TPMA_SESSION(0xFF)


class BareTpm:
    """One ESAPI context, one salted and encrypted session, one loaded key."""

    def __init__(self, tcti: str, pin: bytes) -> None:
        self._tcti, self._pin = tcti, pin

    def __enter__(self) -> Self:
        self.esapi = ESAPI(self._tcti)
        self._handles: list[ESYS_TR] = []
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for handle in self._handles:
            self.esapi.flush_context(handle)
        self.esapi.close()

    def make(self, algorithm: str, use: str) -> ESYS_TR:
        """A key with our PIN under a storage key, which is flushed to leave room."""
        storage = "ecc256:aes128cfb"
        root, *_ = self.esapi.create_primary(
            None,
            in_public=TPM2B_PUBLIC.parse(
                storage, objectAttributes=f"{_ATTRIBUTES}|restricted|decrypt|noda"
            ),
        )
        self.session = self.esapi.start_auth_session(
            tpm_key=root,
            bind=ESYS_TR.NONE,
            session_type=TPM2_SE.HMAC,
            symmetric=TPMT_SYM_DEF(
                algorithm=TPM2_ALG.AES,
                keyBits=TPMU_SYM_KEY_BITS(aes=128),
                mode=TPMU_SYM_MODE(aes=TPM2_ALG.CFB),
            ),
            auth_hash=TPM2_ALG.SHA256,
        )
        sensitive = TPM2B_SENSITIVE_CREATE(TPMS_SENSITIVE_CREATE(userAuth=self._pin))
        public = TPM2B_PUBLIC.parse(algorithm, objectAttributes=f"{_ATTRIBUTES}|{use}")
        private, public, *_ = self.esapi.create(root, sensitive, public)
        key = self.esapi.load(root, private, public)
        self.esapi.flush_context(root)
        self.esapi.tr_set_auth(key, self._pin)
        self._handles = [self.session, key]
        point = public.publicArea.unique.ecc
        numbers = (int.from_bytes(bytes(octets)) for octets in (point.x, point.y))
        self.public = ec.EllipticCurvePublicNumbers(*numbers, ec.SECP384R1()).public_key()
        return key

    def zgen(self, key: ESYS_TR, x: bytes, y: bytes) -> tuple[bytes, bytes]:
        """TPM2_ECDH_ZGen: one command."""
        self.esapi.trsess_set_attributes(self.session, _BOTH_WAYS, _ALL)
        sent = TPM2B_ECC_POINT(TPMS_ECC_POINT(x=x, y=y))
        answer = self.esapi.ecdh_zgen(key, sent, session1=self.session)
        return bytes(answer.point.x), bytes(answer.point.y)

    def sign(self, key: ESYS_TR, digest: bytes) -> tuple[bytes, bytes]:
        """TPM2_Sign: one command."""
        self.esapi.trsess_set_attributes(self.session, _INWARD, _ALL)
        scheme = TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL)
        ticket = TPMT_TK_HASHCHECK(tag=TPM2_ST.HASHCHECK, hierarchy=TPM2_RH.NULL)
        answer = self.esapi.sign(key, digest, scheme, ticket, session1=self.session)
        ecdsa = answer.signature.ecdsa
        return bytes(ecdsa.signatureR), bytes(ecdsa.signatureS)
