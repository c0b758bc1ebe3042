"""Mesh objects in older and newer published forms: read, never written.

Open this file for the vocabularies of the drafts (schema §2, §8): members go by an alias table, not
by one schema, and objects by their members rather than their tags. Signatures of published forms do
not cover metadata, so what is read here is shown to people and never decides about trust.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from mesh_hsm import dare
from mesh_hsm.curves import X25519, Point, curve
from mesh_hsm.dare import jsonb
from mesh_hsm.dare.jsonb import binary
from mesh_hsm.errors import FormatError, VerificationError
from mesh_hsm.mesh.signed import Envelope
from mesh_hsm.mesh.wire import Members
from mesh_hsm.udf import CONTENT_TYPE, OLDER_CONTENT_TYPES, fingerprint

_TAGS: Final = {
    "ProfileMaster": "ProfileMaster",
    "ProfileMesh": "ProfileMaster",
    "ProfileDevice": "ProfileDevice",
    "ConnectionDevice": "ConnectionDevice",
}
_KEYS: Final = {
    "ProfileSignature": ("ProfileSignature", "KeyOfflineSignature", "MasterSignatureKey"),
    "AdministratorSignature": (
        "AdministratorSignature",
        "KeysOnlineSignature",
        "OnlineSignatureKeys",
    ),
    "EscrowEncryption": ("EscrowEncryption", "KeysMasterEscrow", "MasterEscrowKeys"),
    "Encryption": ("Encryption", "BaseEncryption", "DeviceEncryption", "KeyEncryption"),
    "Signature": ("Signature", "BaseSignature", "DeviceSignature", "KeySignature"),
    "Authentication": (
        "Authentication",
        "BaseAuthentication",
        "DeviceAuthentication",
        "KeyAuthentication",
    ),
}


@dataclass(frozen=True, slots=True)
class PublishedObject:
    """``tag`` and the names in ``keys`` are the ones that we write (schema §3)."""

    tag: str
    keys: dict[str, tuple[Point, ...]]

    def key(self, name: str) -> Point:
        """The only key of that name. Raises ``FormatError``."""
        found = self.keys.get(name, ())
        if len(found) != 1:
            raise FormatError(f"this {self.tag} has {len(found)} keys named {name}")
        return found[0]


def read_published(payload: bytes) -> PublishedObject:
    """Read a payload, JSON or JSON-B. Nothing is verified but that each key has its UDF.

    Raises ``FormatError``, ``InvalidPointError``, ``UnsupportedError``, and ``VerificationError``
    if a UDF is not that of its key under any content type ever published (udf §6).
    """
    value = jsonb.loads(payload)
    if not isinstance(value, dict) or len(value) != 1 or (tag := next(iter(value))) not in _TAGS:
        raise FormatError("not a Mesh object that is known here")
    members = Members.of(value[tag], tag)
    keys = {name: tuple(_keys(members, aliases)) for name, aliases in _KEYS.items()}
    return PublishedObject(_TAGS[tag], {name: found for name, found in keys.items() if found})


def open_published_profile(envelope: Envelope | bytes) -> PublishedObject:
    """Read a profile and verify that its own permanent key has signed the payload (schema §1)."""
    profile = read_published(dare.peek_payload(envelope))
    public = profile.key("ProfileSignature")
    report = dare.unseal(envelope, trusted={fingerprint(public).octets: public}).report
    if [one.status for one in report.signers] != [dare.SignatureStatus.HEADER_NOT_COVERED]:
        raise VerificationError("the profile is not signed by its own key")
    return profile


def _keys(members: Members, aliases: tuple[str, ...]) -> Iterator[Point]:
    for alias in aliases:
        if alias in members:
            value = members.any(alias)
            for one in value if isinstance(value, list) else [value]:
                yield _key(Members.of(one, alias))


def _key(members: Members) -> Point:
    inner = members.inner("PublicParameters").inner("PublicKeyECDH")
    on, octets = curve(inner.text("crv")), binary(inner.any("Public"))
    # Published X25519 keys come without the sign octet (threshold §2.4).
    plain = on is X25519 and len(octets) == on.scalar_size
    public = on.decode_x(octets) if plain else on.decode(octets)
    udf: Any = members.text("Udf" if "Udf" in members else "UDF")
    if udf not in (fingerprint(public, one).udf() for one in (CONTENT_TYPE, *OLDER_CONTENT_TYPES)):
        raise VerificationError("a published UDF is not that of its key")
    return public
