"""AdministratorKeySet: a key that any two of three administrators use together (threshold §4).

Open this file for the object that says which part is whose, and for how it is made and opened. It
holds no secret. That its parts add up is checked whenever one is read; whether it is to be trusted,
``open_key_set`` says: encrypt to no other. To decrypt, no trust is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha512
from typing import ClassVar, Final, Self

from mesh_hsm import dare
from mesh_hsm.curves import Point
from mesh_hsm.custody import CompositeCustody, CustodyClass, CustodyStatement
from mesh_hsm.dare import Signer
from mesh_hsm.dare.strict_json import b64url
from mesh_hsm.errors import FormatError, VerificationError
from mesh_hsm.framing import F
from mesh_hsm.mesh.keydata import KeyData, read_key
from mesh_hsm.mesh.profile_master import ProfileMaster
from mesh_hsm.mesh.signed import Envelope, Signed, as_envelope, open_object, sign_object
from mesh_hsm.mesh.wire import Json, Members, decode, to_time
from mesh_hsm.provider import DeviceKey, Use
from mesh_hsm.threshold.proof import prove, verify_proof
from mesh_hsm.threshold.two_of_three import (
    HOLDERS,
    PLACES,
    Dealt,
    PartKey,
    Place,
    check_parts,
    places_in,
    places_of,
)
from mesh_hsm.udf import udf_of

THRESHOLD: Final = 2
NOTES: Final = (
    "the parts were imported: nobody can prove that copies of them exist nowhere else",
    "the dealer had the whole key in memory when it was made",
    "one token may be lost, and the other two still open; when two are lost, nothing does",
)
"""What no statement about the parts can change (hsm-1 §4)."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part: its public point, its proof (T || s), its label on the token, and its custody.

    ``custody`` is as the token stated it when the part was imported.
    """

    public: Point
    proof: bytes
    label: str
    custody: CustodyStatement


@dataclass(frozen=True, slots=True)
class AdministratorKeySet:
    """``names`` are the administrators A, B and C; ``parts`` are in the order of ``PLACES``.

    Raises ``VerificationError`` for parts that do not add up, ``InvalidPointError``, and
    ``FormatError`` for names that are not three different ones and for statements that do not say
    who dealt.
    """

    TAG: ClassVar[str] = "AdministratorKeySet"

    name: str
    authority_udf: str
    public: Point
    names: tuple[str, ...]
    parts: tuple[Part, ...]
    dealer: str
    created: datetime

    def __post_init__(self) -> None:
        for text in (self.name, *self.names):
            check_name(text)
        if len(set(self.names)) != len(HOLDERS) or len(self.names) != len(HOLDERS):
            raise FormatError("a key set has three administrators with different names")
        for part in self.parts:
            if part.custody.custody is CustodyClass.GENERATED or (
                dealer_text(self.dealer) not in part.custody.known_by
            ):
                raise FormatError("a part of a key set does not say that its dealer has known it")
        check_parts(self.public, self.points())

    @property
    def udf(self) -> str:
        """The UDF of the combined key."""
        return udf_of(self.public)

    @property
    def envelope_id(self) -> str:
        """The UDF of the combined key."""
        return self.udf

    def points(self) -> dict[Place, Point]:
        """The public point of every part. Raises ``FormatError`` unless there are five."""
        if len(self.parts) != len(PLACES):
            raise FormatError("a key set has five parts")
        return {place: part.public for place, part in zip(PLACES, self.parts, strict=True)}

    def verify_proofs(self) -> None:
        """Return if whoever made this knew every part; else raise ``VerificationError``.

        So no part was put there that nobody has, by which a pair would open nothing.
        """
        points = self.points()
        for place, part in zip(PLACES, self.parts, strict=True):
            context = _context(self.name, self.names, self.created, place)
            beside = points[_partner(place)]
            verify_proof(part.proof, beside, self.public, Use.ENCRYPT, context, self.authority_udf)

    def name_of(self, holder: str) -> str:
        """The name of the administrator A, B or C."""
        return self.names[HOLDERS.index(holder)]

    def held_by(self, holder: str) -> tuple[tuple[Place, Part], ...]:
        """The parts of the administrator A, B or C."""
        both = zip(PLACES, self.parts, strict=True)
        return tuple((place, part) for place, part in both if place.holder == holder)

    def custody(self) -> CompositeCustody:
        """What the key is worth: one share for each administrator, his weakest part (hsm-1 §4)."""
        weakest = (
            max((part.custody for _, part in self.held_by(holder)), key=_weakness)
            for holder in HOLDERS
        )
        return CompositeCustody.additive(tuple(weakest), THRESHOLD)

    def members(self) -> dict[str, Json]:
        """All members."""
        return {
            "Name": self.name,
            "AuthorityUdf": self.authority_udf,
            "Encryption": KeyData(self.public).to_json(),
            "Threshold": THRESHOLD,
            "Administrators": [
                {
                    "Name": self.name_of(holder),
                    "Parts": [_to_json(place, part) for place, part in self.held_by(holder)],
                }
                for holder in HOLDERS
            ],
            "Dealer": self.dealer,
            "Created": to_time(self.created),
        }

    @classmethod
    def read(cls, members: Members) -> Self:
        """From the wire, sums checked."""
        if members.number("Threshold") != THRESHOLD:
            raise FormatError("only key sets of which two administrators are needed are known here")
        public = read_key(members, "Encryption", Use.ENCRYPT)
        listed = [Members.of(one, "Administrators") for one in members.array("Administrators")]
        if len(listed) != len(HOLDERS):
            raise FormatError("a key set has three administrators")
        parts = (
            part
            for holder, one in zip(HOLDERS, listed, strict=True)
            for part in _read_parts(one, holder)
        )
        return cls(
            name=members.text("Name"),
            authority_udf=members.text("AuthorityUdf"),
            public=public,
            names=tuple(one.text("Name") for one in listed),
            parts=tuple(parts),
            dealer=members.text("Dealer"),
            created=members.time("Created"),
        )


def check_name(text: str) -> None:
    """Refuse what is no name of a key set or of an administrator. Raises ``FormatError``."""
    # Names reach terminals, labels on tokens and options of the form NAME=VALUE.
    if not 1 <= len(text) <= 32 or not text.isprintable() or set("=/ ") & set(text):
        raise FormatError("a name is 1 to 32 printable characters, without space, = and /")


def dealer_text(dealer: str) -> str:
    """How custody statements name the dealer among those who have known a part."""
    return f"the dealer: {dealer}"


def create_key_set(
    dealt: Dealt,
    held: Mapping[Place, DeviceKey],
    *,
    name: str,
    names: Sequence[str],
    dealer: str,
    master: Signed[ProfileMaster],
    administrator: Signer,
    now: datetime,
) -> Signed[AdministratorKeySet]:
    """Vouch for a key set whose parts are in their devices: each is asked for one agreement.

    ``held`` are the imported keys. Raises ``DeviceError`` for a device that does not hold its part,
    ``VerificationError`` for a signer whom ``master`` does not list, and what devices raise.
    """
    created = now.replace(microsecond=0)
    points = dealt.publics()
    parts = []
    for place, scalar in dealt.parts.items():
        key = PartKey(held[place], points[place])
        key.check_possession(scalar)
        context = _context(name, names, created, place)
        beside = points[_partner(place)]
        proof = prove(scalar, beside, dealt.public, Use.ENCRYPT, context, master.value.udf)
        parts.append(Part(points[place], proof, key.label, key.custody()))
    value = AdministratorKeySet(
        name=name,
        authority_udf=master.value.udf,
        public=dealt.public,
        names=tuple(names),
        parts=tuple(parts),
        dealer=dealer,
        created=created,
    )
    signed = sign_object(value, administrator, now)
    return open_key_set(signed.envelope, master.value)


def open_key_set(envelope: Envelope | bytes, master: ProfileMaster) -> Signed[AdministratorKeySet]:
    """Verify that an administrator of the Mesh, or its master key, vouches for a key set.

    Raises ``VerificationError``, ``FormatError``.
    """
    signers = [master.profile_signature, *master.administrator_signature]
    signed = open_object(envelope, AdministratorKeySet, signers)
    if signed.value.authority_udf != master.udf:
        raise VerificationError("the key set belongs to another Mesh")
    signed.value.verify_proofs()
    return signed


def peek_key_set(envelope: Envelope | bytes) -> AdministratorKeySet:
    """A key set as it is, whoever made it: good for decrypting, never for encrypting to.

    Raises ``FormatError``, ``VerificationError``.
    """
    payload = dare.peek_payload(as_envelope(envelope))
    return AdministratorKeySet.read(decode(payload, AdministratorKeySet.TAG))


def _partner(place: Place) -> Place:
    """The other part of the first pair that this one serves."""
    one, other = places_in(place.pairs[0])
    return other if place == one else one


def _context(name: str, names: Sequence[str], created: datetime, place: Place) -> bytes:
    """What a part's proof is about, beside its points and the Mesh: 64 octets."""
    texts = (text.encode() for text in (name, *names))
    framed = F("mesh-hsm/1 key set", to_time(created), place.holder, str(place), *texts)
    return sha512(framed).digest()


def _weakness(statement: CustodyStatement) -> int:
    return statement.custody.weakness


def _to_json(place: Place, part: Part) -> dict[str, Json]:
    return {
        "Pairs": list(place.pairs),
        "Encryption": KeyData(part.public).to_json(),
        "Proof": b64url(part.proof),
        "Label": part.label,
        "Custody": part.custody.to_json(),
    }


def _read_parts(administrator: Members, holder: str) -> list[Part]:
    listed = [Members.of(one, "Parts") for one in administrator.array("Parts")]
    if [one.array("Pairs") for one in listed] != [list(one.pairs) for one in places_of(holder)]:
        raise FormatError(f"the parts of {holder} are not those of the pairs that {holder} is in")
    return [
        Part(
            read_key(one, "Encryption", Use.ENCRYPT),
            one.octets("Proof"),
            one.text("Label"),
            CustodyStatement.from_json(one.any("Custody")),
        )
        for one in listed
    ]
