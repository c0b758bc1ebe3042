"""Judging what a device far away says of its key: evidence, looked at by who knows its format.

Open this file to verify evidence that ``Attests.attest`` gave, on whichever machine.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from mesh_hsm.curves import Point
from mesh_hsm.custody import CustodyStatement
from mesh_hsm.provider import Use
from mesh_hsm.threshold.challenge import Verifier


@runtime_checkable
class Judges(Protocol):
    """A provider that judges the evidence of devices like its own; none need be plugged in."""

    def judge(self, evidence: bytes, public: Point, use: Use, asked: Verifier) -> CustodyStatement:
        """What was proved of ``public`` to the verifier who ``asked``, good for one answer.

        Raises ``FormatError`` for what is no evidence, ``VerificationError`` for what does not
        check, ``CannotVerifyError`` where nobody known here vouches for the device.
        """
        ...
