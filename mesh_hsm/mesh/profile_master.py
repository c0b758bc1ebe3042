"""ProfileMaster: the root of a personal Mesh (schema §2-§3, hsm-1 §7).

Open this file for what the master key signs: administrators, escrow keys, version.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha512
from typing import ClassVar, Self

from mesh_hsm.curves import Point
from mesh_hsm.dare import Signer
from mesh_hsm.dare.strict_json import b64url, un_b64url
from mesh_hsm.errors import FormatError, VerificationError
from mesh_hsm.mesh.keydata import KeyData, check_distinct, check_use, read_key, read_keys
from mesh_hsm.mesh.signed import Envelope, Signed, open_claimed, sign_object
from mesh_hsm.mesh.wire import Json, Members
from mesh_hsm.provider import Use
from mesh_hsm.udf import udf_of


@dataclass(frozen=True, slots=True)
class ProfileMaster:
    """``udf`` (of the master key) names the Mesh for life.

    ``version`` counts from 1; ``previous_digest`` is SHA-512 of the payload of the version before,
    empty for 1. ``surviving_connections`` are digests of ConnectionDevice payloads that outlive
    the administrator who signed them.
    """

    TAG: ClassVar[str] = "ProfileMaster"

    profile_signature: Point
    administrator_signature: tuple[Point, ...]
    escrow_encryption: tuple[Point, ...]
    version: int = 1
    previous_digest: bytes = b""
    surviving_connections: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        keys = (*self.administrator_signature, *self.escrow_encryption)
        check_distinct((self.profile_signature, *keys), self.TAG)
        for public in (self.profile_signature, *self.administrator_signature):
            check_use(public, Use.SIGN, self.TAG)
        for public in self.escrow_encryption:
            check_use(public, Use.ENCRYPT, self.TAG)
        if not self.administrator_signature:
            raise FormatError("a ProfileMaster names at least one administrator")
        if len(self.previous_digest) != (sha512().digest_size if self.version > 1 else 0):
            raise FormatError(
                "a ProfileMaster after version 1, and only then, names the one before"
            )

    @property
    def udf(self) -> str:
        """The identifier of the Mesh."""
        return udf_of(self.profile_signature)

    @property
    def envelope_id(self) -> str:
        """The identifier of the Mesh."""
        return self.udf

    def members(self) -> dict[str, Json]:
        """All members, empty ones too: later versions fill them without a new format."""
        return {
            "ProfileSignature": KeyData(self.profile_signature).to_json(),
            "AdministratorSignature": [KeyData(k).to_json() for k in self.administrator_signature],
            "EscrowEncryption": [KeyData(k).to_json() for k in self.escrow_encryption],
            "Version": self.version,
            "PreviousDigest": b64url(self.previous_digest),
            "SurvivingConnections": [b64url(digest) for digest in self.surviving_connections],
        }

    @classmethod
    def read(cls, members: Members) -> Self:
        """From the wire. Raises ``FormatError``, ``VerificationError``."""
        return cls(
            read_key(members, "ProfileSignature", Use.SIGN),
            read_keys(members, "AdministratorSignature", Use.SIGN),
            read_keys(members, "EscrowEncryption", Use.ENCRYPT),
            members.number("Version", least=1),
            members.octets("PreviousDigest"),
            tuple(_digest(one) for one in members.array("SurvivingConnections")),
        )


def create_profile_master(
    master: Signer,
    administrators: Sequence[Point],
    escrow: Sequence[Point],
    *,
    now: datetime,
    previous: Signed[ProfileMaster] | None = None,
    surviving_connections: Sequence[bytes] = (),
) -> Signed[ProfileMaster]:
    """Sign version 1, or the version after ``previous``, with the master key.

    Raises ``FormatError`` for one key in two roles or no administrator, ``VerificationError`` if
    ``previous`` belongs to another Mesh.
    """
    if previous is not None and previous.value.profile_signature != master.public:
        raise VerificationError("the previous ProfileMaster has another master key")
    profile = ProfileMaster(
        master.public,
        tuple(administrators),
        tuple(escrow),
        version=previous.value.version + 1 if previous else 1,
        previous_digest=previous.digest if previous else b"",
        surviving_connections=tuple(surviving_connections),
    )
    return sign_object(profile, master, now)


def open_profile_master(envelope: Envelope | bytes) -> Signed[ProfileMaster]:
    """Verify a ProfileMaster's own signature.

    That makes it consistent, not trusted: compare its ``udf`` with a confirmed or pinned one.
    """
    return open_claimed(envelope, ProfileMaster, lambda claimed: [claimed.profile_signature])


def _digest(value: Json) -> bytes:
    return un_b64url(value, "a digest in SurvivingConnections", sha512().digest_size)
