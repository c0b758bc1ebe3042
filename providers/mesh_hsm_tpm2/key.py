"""Keys in the TPM. Open this file to audit the two commands that use a private key.

``TPM2_ECDH_ZGen`` and ``TPM2_Sign``, in salted sessions with parameter encryption where the command
allows, after the key's PIN or policy (hsm-1 §10).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tpm2_pytss import (
    ESAPI,
    ESYS_TR,
    TPM2_ALG,
    TPM2_RH,
    TPM2_ST,
    TPM2B_ECC_POINT,
    TPMA_SESSION,
    TPMS_ECC_POINT,
    TPMT_SIG_SCHEME,
    TPMT_TK_HASHCHECK,
)

from mesh_hsm.curves import Point
from mesh_hsm.custody import CustodyStatement
from mesh_hsm.errors import DeviceError, InvalidPointError
from mesh_hsm.provider import DeviceKey, TokenInfo
from mesh_hsm.uri import Uri
from mesh_hsm_tpm2 import sessions, statements
from mesh_hsm_tpm2.authorisation import Authoriser
from mesh_hsm_tpm2.records import Record
from mesh_hsm_tpm2.structures import point_octets
from mesh_hsm_tpm2.tpm import Tpm

T = TypeVar("T")


class Tpm2Key(DeviceKey):
    """One key under the storage root key, or persistent."""

    def __init__(
        self, tpm: Tpm, authoriser: Authoriser, info: TokenInfo, uri: Uri, record: Record
    ) -> None:
        self.uri = uri
        self.label = record.label
        self.use = record.use
        self.public = record.area.point
        self._tpm = tpm
        self._authoriser = authoriser
        self._info = info
        self._record = record

    def __repr__(self) -> str:
        return f"Tpm2Key({self.uri})"

    def custody(self) -> CustodyStatement:
        """What the TPM says of this key now, and the state of its dictionary-attack counter."""
        return statements.of_key(self._tpm, self._info, self._record, str(self.uri))

    def _agree(self, point: Point) -> Point:
        x, y = point_octets(point)

        def zgen(esapi: ESAPI, key: ESYS_TR, session: ESYS_TR) -> tuple[bytes, bytes]:
            sent = TPM2B_ECC_POINT(TPMS_ECC_POINT(x=x, y=y))
            # Kept in a variable until read: tpm2-pytss frees what a field would still point into.
            answer = esapi.ecdh_zgen(key, sent, session1=session)
            return bytes(answer.point.x), bytes(answer.point.y)

        answer = self._use(zgen, sessions.BOTH_WAYS)
        try:
            return point.curve.point(*(int.from_bytes(octets, "big") for octets in answer))
        except InvalidPointError as error:
            raise DeviceError(f"bad answer to agree: {error}", uri=str(self.uri)) from error

    def _sign(self, octets: bytes) -> bytes:
        size = self.public.curve.scalar_size

        def sign(esapi: ESAPI, key: ESYS_TR, session: ESYS_TR) -> bytes:
            scheme = TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL)  # the key's own, which is fixed
            ticket = TPMT_TK_HASHCHECK(tag=TPM2_ST.HASHCHECK, hierarchy=TPM2_RH.NULL)
            answer = esapi.sign(key, octets, scheme, ticket, session1=session)
            r, s = answer.signature.ecdsa.signatureR, answer.signature.ecdsa.signatureS
            return bytes(r).rjust(size, b"\0") + bytes(s).rjust(size, b"\0")

        return self._use(sign, sessions.INWARD)

    def _use(self, command: Callable[[ESAPI, ESYS_TR, ESYS_TR], T], protection: TPMA_SESSION) -> T:
        return self._authoriser.use(self._record, command, protection, str(self.uri))
