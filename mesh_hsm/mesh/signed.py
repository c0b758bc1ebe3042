"""A Mesh object together with the envelope whose signatures vouch for it.

Open this file to see how objects are signed and read back, and what is checked on every read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Envelope = list[Any]
"""A DARE envelope in text form: the JSON array ``[header, payload, trailer]``."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Signed(Generic[T]):
    """``value`` was read from ``envelope`` after its signatures were verified.

    ``digest`` is SHA-512 of the payload octets, by which other objects refer to this one.
    """

    value: T
    envelope: Envelope
    digest: bytes

    @property
    def text(self) -> bytes:
        """The envelope as a file's content."""
        return json.dumps(self.envelope, separators=(",", ":")).encode("ascii") + b"\n"
