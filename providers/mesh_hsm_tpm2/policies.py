"""Key policies: what has to be true before a key works. Open this file for their digests.

A policy is PCR values, a PIN, or both (hsm-1 §10). Never PolicyPassword, and never a branch for
Duplicate: a policy that this module can compute keeps the key in its TPM.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from mesh_hsm.errors import FormatError
from mesh_hsm_tpm2.structures import Alg, sized

PCR_BANK = "sha256"
_POLICY_AUTH_VALUE = 0x0000016B
_POLICY_PCR = 0x0000017F


@dataclass(frozen=True, slots=True)
class Policy:
    """What an authPolicy demands. ``pcr_digest`` is SHA-256 over the PCR values, in order."""

    pcrs: tuple[int, ...] = ()
    pcr_digest: bytes = b""
    pin: bool = False

    @property
    def digest(self) -> bytes:
        """The authPolicy; empty where the key has none and is used with its auth value alone.

        A key with a PIN and no PCRs is such a key: userWithAuth serves it, in one command.
        """
        if not self.pcrs:
            return b""
        value = bytes(32)
        for code, body in self.steps:
            value = _extended(value, code, body)
        return value

    @property
    def steps(self) -> tuple[tuple[int, bytes], ...]:
        """The policy commands in order: command code and parameters, as key files hold them."""
        if not self.pcrs:
            return ()
        pcr = (_POLICY_PCR, sized(self.pcr_digest) + pcr_selection(self.pcrs))
        return (pcr, (_POLICY_AUTH_VALUE, b"")) if self.pin else (pcr,)


def _extended(value: bytes, code: int, body: bytes) -> bytes:
    """One policy command's effect on policyDigest (TPM 2.0 Part 3 §23.7, §23.17)."""
    if code == _POLICY_PCR:
        digest, selection = body[2:34], body[34:]
        body = selection + digest
    return hashlib.sha256(value + code.to_bytes(4, "big") + body).digest()


def pcr_selection(pcrs: tuple[int, ...]) -> bytes:
    """TPML_PCR_SELECTION of one SHA-256 bank. Raises ``FormatError`` for an index beyond 23."""
    if any(not 0 <= index < 24 for index in pcrs):
        raise FormatError("a PCR has an index from 0 to 23")
    bitmap = sum(1 << index for index in set(pcrs)).to_bytes(3, "little")
    return (1).to_bytes(4, "big") + Alg.SHA256.to_bytes(2, "big") + b"\x03" + bitmap


def pcr_digest(values: list[bytes]) -> bytes:
    """The pcrDigest of PolicyPCR: SHA-256 over PCR values in order of their index."""
    return hashlib.sha256(b"".join(values)).digest()
