"""ConnectionRequest: what a new device shows to an administrator (hsm-1 §6.1)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha512
from typing import ClassVar, Self

from mesh_hsm import udf
from mesh_hsm.curves import Point
from mesh_hsm.custody import CustodyStatement
from mesh_hsm.dare.strict_json import b64url, compact, parse_object
from mesh_hsm.errors import FormatError
from mesh_hsm.mesh.device_keys import BaseKeys
from mesh_hsm.mesh.keydata import KeyData, check_distinct, read_key
from mesh_hsm.mesh.profile_device import ProfileDevice, open_profile_device
from mesh_hsm.mesh.signed import Envelope, Signed, open_claimed, sign_object
from mesh_hsm.mesh.wire import Json, Members, to_time
from mesh_hsm.provider import Use

CUSTODY_NAMES = ("ProfileSignature", "Encryption", "Signature", "Authentication")


@dataclass(frozen=True, slots=True)
class ConnectionRequest:
    """``nonce`` is a nonce UDF, fresh for every request.

    ``custody_octets`` are the JSON octets of the custody statements, as the device states them, by
    ``CUSTODY_NAMES``: octets, so that their digest needs no canonical JSON. ``attestation``:
    evidence in forms yet to be defined.
    """

    TAG: ClassVar[str] = "ConnectionRequest"

    device: Signed[ProfileDevice]
    custody_octets: bytes
    nonce: str
    one_time: Point
    attestation: tuple[Json, ...]
    created: datetime

    def __post_init__(self) -> None:
        device = self.device.value
        bases = (device.profile_signature, *map(device.base, Use))
        check_distinct((self.one_time, *bases), self.TAG)
        parsed = udf.parse(self.nonce)
        if parsed.type_id != udf.TypeId.NONCE or len(parsed.octets) < 16:
            raise FormatError("the Nonce of a request is not a nonce UDF of 128 bits")
        if self.custody.keys() != set(CUSTODY_NAMES):
            raise FormatError("a request has a custody statement for each of the four keys")
        for statement in self.custody.values():
            CustodyStatement.from_json(statement)  # people are shown what is there

    @property
    def envelope_id(self) -> str:
        """The device's UDF."""
        return self.device.value.udf

    @property
    def custody(self) -> dict[str, dict[str, Json]]:
        """The statements, parsed: what the device claims of itself."""
        members = Members(parse_object(self.custody_octets), "CustodyStatements")
        return {name: members.inner(name).values for name in members.values}

    @property
    def custody_digest(self) -> bytes:
        """SHA-512 of ``custody_octets``."""
        return sha512(self.custody_octets).digest()

    def members(self) -> dict[str, Json]:
        """All members; ``CustodyStatements`` is base64url of JSON."""
        return {
            "EnvelopedProfileDevice": self.device.envelope,
            "CustodyStatements": b64url(self.custody_octets),
            "Attestation": list(self.attestation),
            "Nonce": self.nonce,
            "OneTime": KeyData(self.one_time).to_json(),
            "Created": to_time(self.created),
        }

    @classmethod
    def read(cls, members: Members) -> Self:
        """From the wire, the ProfileDevice in it verified."""
        return cls(
            device=open_profile_device(members.array("EnvelopedProfileDevice")),
            custody_octets=members.octets("CustodyStatements"),
            nonce=members.text("Nonce"),
            one_time=read_key(members, "OneTime", Use.ENCRYPT),
            attestation=tuple(members.array("Attestation")),
            created=members.time("Created"),
        )


def create_request(keys: BaseKeys, one_time: Point, *, now: datetime) -> Signed[ConnectionRequest]:
    """Sign a ProfileDevice and the request around it. Custody is read back from the keys now.

    Raises ``UnsupportedError`` for keys that cannot be combined, ``FormatError`` for one key in
    two roles, and what the device raises.
    """
    device = sign_object(keys.publics(), keys.profile, now)
    held = (keys.profile, keys.encryption, keys.signature, keys.authentication)
    statements = {
        name: key.custody().to_json() for name, key in zip(CUSTODY_NAMES, held, strict=True)
    }
    request = ConnectionRequest(
        device=device,
        custody_octets=compact(statements),
        nonce=udf.nonce(),
        one_time=one_time,
        attestation=(),
        created=now.replace(microsecond=0),
    )
    return sign_object(request, keys.profile, now)


def open_request(envelope: Envelope | bytes) -> Signed[ConnectionRequest]:
    """Verify a request and the ProfileDevice in it: consistent, not yet trusted."""
    return open_claimed(
        envelope, ConnectionRequest, lambda claimed: [claimed.device.value.profile_signature]
    )
