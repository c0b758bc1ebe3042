"""ConnectionDevice: an administrator vouches for a device's combined keys (hsm-1 §5, §7)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha512
from typing import ClassVar, Self

from mesh_hsm import dare, udf
from mesh_hsm.curves import Point
from mesh_hsm.dare.strict_json import b64url
from mesh_hsm.errors import FormatError, VerificationError
from mesh_hsm.mesh.keydata import KeyData, check_distinct, read_key
from mesh_hsm.mesh.profile_master import ProfileMaster
from mesh_hsm.mesh.signed import Envelope, Signed, Vouched, as_envelope, open_object
from mesh_hsm.mesh.wire import Json, Members, to_time
from mesh_hsm.provider import Use

NAMES = {Use.ENCRYPT: "Encryption", Use.SIGN: "Signature", Use.AUTHENTICATE: "Authentication"}


@dataclass(frozen=True, slots=True)
class CombinedKey:
    """A composite public key and the proof (T || s) that the device's base key is in it.

    None: no proof was given.
    """

    public: Point
    proof: bytes | None

    def to_json(self) -> dict[str, Json]:
        """A ``KeyData`` with the member ``Proof``."""
        proof = {} if self.proof is None else {"Proof": b64url(self.proof)}
        return KeyData(self.public).to_json() | proof


@dataclass(frozen=True, slots=True)
class ConnectionDevice:
    """Bound to one Mesh (``authority_udf``) and one device (``subject_udf``).

    ``serial`` is a nonce UDF, unique without a counter to keep. The digests are SHA-512: of the
    ProfileDevice payload, and of the custody statements that the administrator was shown.
    """

    TAG: ClassVar[str] = "ConnectionDevice"

    authority_udf: str
    subject_udf: str
    serial: str
    profile_master_version: int
    profile_device_digest: bytes
    custody_digest: bytes
    created: datetime
    not_on_or_after: datetime
    encryption: CombinedKey
    signature: CombinedKey
    authentication: CombinedKey

    def __post_init__(self) -> None:
        check_distinct([self.combined(use).public for use in Use], self.TAG)
        if udf.parse(self.serial).type_id != udf.TypeId.NONCE:
            raise FormatError("the Serial of a connection is not a nonce UDF")
        if self.created >= self.not_on_or_after:
            raise FormatError("the connection ends before it begins")

    @property
    def envelope_id(self) -> str:
        """The device's UDF."""
        return self.subject_udf

    def combined(self, use: Use) -> CombinedKey:
        """The combined key of a use."""
        return {
            Use.ENCRYPT: self.encryption,
            Use.SIGN: self.signature,
            Use.AUTHENTICATE: self.authentication,
        }[use]

    def members(self) -> dict[str, Json]:
        """All members."""
        return {
            "AuthorityUdf": self.authority_udf,
            "SubjectUdf": self.subject_udf,
            "Serial": self.serial,
            "ProfileMasterVersion": self.profile_master_version,
            "ProfileDeviceDigest": b64url(self.profile_device_digest),
            "CustodyDigest": b64url(self.custody_digest),
            "Created": to_time(self.created),
            "NotOnOrAfter": to_time(self.not_on_or_after),
            **{name: self.combined(use).to_json() for use, name in NAMES.items()},
        }

    @classmethod
    def read(cls, members: Members) -> Self:
        """From the wire. Proofs are checked later, against the ProfileDevice."""
        size = sha512().digest_size
        return cls(
            authority_udf=members.text("AuthorityUdf"),
            subject_udf=members.text("SubjectUdf"),
            serial=members.text("Serial"),
            profile_master_version=members.number("ProfileMasterVersion", least=1),
            profile_device_digest=members.octets("ProfileDeviceDigest", size),
            custody_digest=members.octets("CustodyDigest", size),
            created=members.time("Created"),
            not_on_or_after=members.time("NotOnOrAfter"),
            encryption=_combined(members, Use.ENCRYPT),
            signature=_combined(members, Use.SIGN),
            authentication=_combined(members, Use.AUTHENTICATE),
        )


def open_connection(
    envelope: Envelope | bytes, master: ProfileMaster, *, countersigner: Point | None = None
) -> Signed[ConnectionDevice]:
    """Verify that ``master`` answers for a connection. Nothing else yet.

    It does by listing its administrator, or its digest among the surviving: then the master key
    stands for the administrator who was removed (hsm-1 §7). ``countersigner`` is reported in
    ``Signed.countersigners`` if its signature is there.
    """
    envelope = as_envelope(envelope)
    digest = sha512(dare.peek_payload(envelope)).digest()
    survives = digest in master.surviving_connections
    return open_object(
        envelope,
        ConnectionDevice,
        master.administrator_signature,
        countersigners=() if countersigner is None else (countersigner,),
        vouched=Vouched(digest, master.profile_signature) if survives else None,
        why=f": by an administrator of version {master.version}, or one whom it survives",
    )


def open_own_connection(envelope: Envelope | bytes, own: Point) -> Signed[ConnectionDevice]:
    """A device's own connection, as it countersigned it, whether anybody answers for it or not.

    What was encrypted to the device still opens after its administrator was removed. Raises
    ``VerificationError`` for one that ``own``, its profile key, has not countersigned.
    """
    envelope = as_envelope(envelope)
    digest = sha512(dare.peek_payload(envelope)).digest()
    opened = open_object(
        envelope, ConnectionDevice, (), countersigners=(own,), vouched=Vouched(digest, own)
    )
    if opened.countersigners != (own,):
        raise VerificationError("the device has not countersigned this connection")
    return opened


def _combined(members: Members, use: Use) -> CombinedKey:
    public = read_key(members, NAMES[use], use)
    inner = members.inner(NAMES[use])
    return CombinedKey(public, inner.octets("Proof") if "Proof" in inner else None)
