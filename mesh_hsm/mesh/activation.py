"""ActivationDevice: the seed of the contributions, on its way to the device (schema §4).

It travels encrypted under the device's encryption key *and* the request's one-time key, for nobody
else, and rests afterwards only sealed on the device (hsm-1 §6.3).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha512
from typing import ClassVar, Self

from mesh_hsm.dare.strict_json import b64url
from mesh_hsm.mesh.contribution import check_seed
from mesh_hsm.mesh.wire import Json, Members
from mesh_hsm.udf import parse_seed, present_seed


@dataclass(frozen=True, slots=True)
class ActivationDevice:
    """``seed``: id (2 octets) || 32 secret octets, on the wire the UDF ``ActivationKey``.

    The digests, of the payloads, bind it to one request and one ConnectionDevice.
    """

    TAG: ClassVar[str] = "ActivationDevice"

    seed: bytes = field(repr=False)
    authority_udf: str
    subject_udf: str
    request_digest: bytes
    connection_digest: bytes

    def __post_init__(self) -> None:
        check_seed(self.seed)

    @property
    def envelope_id(self) -> str:
        """The device's UDF."""
        return self.subject_udf

    def members(self) -> dict[str, Json]:
        """All members. ``ActivationKey`` is secret."""
        return {
            "ActivationKey": present_seed(self.seed),
            "AuthorityUdf": self.authority_udf,
            "SubjectUdf": self.subject_udf,
            "RequestDigest": b64url(self.request_digest),
            "ConnectionDigest": b64url(self.connection_digest),
        }

    @classmethod
    def read(cls, members: Members) -> Self:
        """From the decrypted payload."""
        size = sha512().digest_size
        return cls(
            seed=parse_seed(members.text("ActivationKey")),
            authority_udf=members.text("AuthorityUdf"),
            subject_udf=members.text("SubjectUdf"),
            request_digest=members.octets("RequestDigest", size),
            connection_digest=members.octets("ConnectionDigest", size),
        )
