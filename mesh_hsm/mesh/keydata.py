"""A public key on the wire, and the check that a person confirmed the right one.

Open this file for ``KeyData`` (schema §1) and for what counts as a confirmed UDF (hsm-1 §6).
"""

from __future__ import annotations

from dataclasses import dataclass

from mesh_hsm.curves import Point
from mesh_hsm.mesh.wire import Json


@dataclass(frozen=True, slots=True)
class KeyData:
    """A public key with its UDF, which is never taken from the wire but computed."""

    public: Point

    @property
    def udf(self) -> str:
        """The key's UDF at 140 bits, as people see it."""
        raise NotImplementedError

    def to_json(self) -> dict[str, Json]:
        """``{"Udf":…,"PublicParameters":{"PublicKeyECDH":{"crv":…,"Public":…}}}``."""
        raise NotImplementedError

    @classmethod
    def from_json(cls, value: Json, where: str) -> KeyData:
        """Read a key. ``FormatError``, ``InvalidPointError``; ``VerificationError`` if its ``Udf``
        is not that of the key.
        """
        raise NotImplementedError


def confirm(text: str, public: Point) -> None:
    """Check that what a person typed or scanned is the UDF of a key, at 140 bits or more.

    Case, dashes and spaces do not matter. Raises ``VerificationError``; ``FormatError`` for text
    too short to prove anything.
    """
    raise NotImplementedError
