"""Judges what a YubiKey proves. Open this file to verify evidence far from any YubiKey."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from mesh_hsm.curves import Point
from mesh_hsm.custody import CustodyStatement
from mesh_hsm.errors import FormatError
from mesh_hsm.provider import Use
from mesh_hsm.threshold import Question, Verifier
from mesh_hsm_yubikey import evidence as proof
from mesh_hsm_yubikey import judging, roots

ROOTS: Final = "piv-roots"


class YubiKeyJudge:
    """A ``Judges``. Roots besides Yubico's are in the folder ``piv-roots`` of ``records``."""

    scheme = "yubikey"

    def __init__(self, records: Path) -> None:
        self._records = records

    def ask(self, introduction: bytes) -> Question | None:
        """A YubiKey introduces itself by nothing, and is asked nothing beside the rest."""
        if introduction:
            raise FormatError("a YubiKey has no introduction")
        return None

    def judge(self, evidence: bytes, public: Point, use: Use, asked: Verifier) -> CustodyStatement:
        """What a YubiKey proved to ``asked``, under Yubico's roots or those in ``piv-roots``."""
        trusted = roots.trusted(self._records / ROOTS)
        found = proof.verify(evidence, public, use, asked, trusted)
        serial = "of unknown serial number" if found.serial is None else str(found.serial)
        return judging.proved(found, use, f"YubiKey {serial}, slot {found.slot}")
