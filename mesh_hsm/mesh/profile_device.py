"""ProfileDevice: a device's own keys, before anybody has vouched for it (schema §2-§3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from mesh_hsm.curves import Point
from mesh_hsm.errors import UnsupportedError
from mesh_hsm.mesh.keydata import KeyData, check_distinct, check_use, read_key
from mesh_hsm.mesh.signed import Envelope, Signed, open_claimed
from mesh_hsm.mesh.wire import Json, Members
from mesh_hsm.provider import Use
from mesh_hsm.udf import udf_of


@dataclass(frozen=True, slots=True)
class ProfileDevice:
    """``udf`` (of the profile key) names the device for life. The other three are base keys."""

    TAG: ClassVar[str] = "ProfileDevice"

    profile_signature: Point
    encryption: Point
    signature: Point
    authentication: Point

    def __post_init__(self) -> None:
        check_use(self.profile_signature, Use.SIGN, "ProfileSignature")
        check_distinct((self.profile_signature, *map(self.base, Use)), self.TAG)
        for use in Use:
            check_use(self.base(use), use, self.TAG)
        if self.signature.curve.name not in ("P-256", "P-384"):
            raise UnsupportedError(
                f"a device's signature key on {self.signature.curve.name} cannot be combined",
                hint="only ECDSA on P-384 and P-256 is shared by unmodified devices",
            )

    @property
    def udf(self) -> str:
        """The identifier of the device."""
        return udf_of(self.profile_signature)

    @property
    def envelope_id(self) -> str:
        """The identifier of the device."""
        return self.udf

    def base(self, use: Use) -> Point:
        """The base key of a use."""
        return {
            Use.ENCRYPT: self.encryption,
            Use.SIGN: self.signature,
            Use.AUTHENTICATE: self.authentication,
        }[use]

    def members(self) -> dict[str, Json]:
        """The four keys."""
        return {
            "ProfileSignature": KeyData(self.profile_signature).to_json(),
            "Encryption": KeyData(self.encryption).to_json(),
            "Signature": KeyData(self.signature).to_json(),
            "Authentication": KeyData(self.authentication).to_json(),
        }

    @classmethod
    def read(cls, members: Members) -> Self:
        """From the wire. Raises ``FormatError``, ``VerificationError``, ``UnsupportedError``."""
        return cls(
            read_key(members, "ProfileSignature", Use.SIGN),
            read_key(members, "Encryption", Use.ENCRYPT),
            read_key(members, "Signature", Use.SIGN),
            read_key(members, "Authentication", Use.AUTHENTICATE),
        )


def open_profile_device(envelope: Envelope | bytes) -> Signed[ProfileDevice]:
    """Verify a ProfileDevice's own signature: consistent, not yet trusted."""
    return open_claimed(envelope, ProfileDevice, lambda claimed: [claimed.profile_signature])
