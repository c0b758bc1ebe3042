"""Judging what a device far away says of its key: evidence, looked at by who knows its format.

Open this file to verify evidence that ``Attests.attest`` gave, on whichever machine.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from mesh_hsm.curves import Point
from mesh_hsm.custody import CustodyStatement
from mesh_hsm.provider import Use
from mesh_hsm.threshold.challenge import Question, Verifier


@runtime_checkable
class Judges(Protocol):
    """Judges the evidence of one family of devices; none need be plugged in.

    Found through the entry-point group ``mesh_hsm.judges``, made with the folder (a ``Path``) of
    that scheme's records, where roots of its owner's choice may lie. Needs no device's library.
    """

    scheme: str

    def ask(self, introduction: bytes) -> Question | None:
        """What a device that gave this ``introduction`` is to be asked beside the rest.

        None where there is nothing. Raises ``FormatError`` for no introduction,
        ``VerificationError`` for one that contradicts itself.
        """
        ...

    def judge(self, evidence: bytes, public: Point, use: Use, asked: Verifier) -> CustodyStatement:
        """What was proved of ``public`` to the verifier who ``asked``, good for one answer.

        Raises ``FormatError`` for what is no evidence, ``VerificationError`` for what does not
        check, ``CannotVerifyError`` where nobody known here vouches for the device.
        """
        ...
