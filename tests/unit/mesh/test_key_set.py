"""AdministratorKeySet: who may vouch for one, and which ones are refused although somebody did."""

from __future__ import annotations

from base64 import urlsafe_b64decode
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from independent import proof as another
from independent.groups import GROUPS
from independent.rules import F

from mesh_hsm.curves import ED25519, P384, X25519, SecretScalar, curve
from mesh_hsm.custody import CustodyClass, CustodyStatement, Hardware
from mesh_hsm.errors import (
    DeviceError,
    FormatError,
    InvalidPointError,
    MeshHsmError,
    UnsupportedError,
    VerificationError,
)
from mesh_hsm.mesh import AdministratorKeySet, KeyData, create_key_set, open_key_set, peek_key_set
from mesh_hsm.mesh.key_set import dealer_text
from mesh_hsm.mesh.signed import seal_object
from mesh_hsm.provider import DeviceKey, Use
from mesh_hsm.threshold import Dealt, Place, ScalarShare, deal
from mesh_hsm.threshold.two_of_three import PLACES, places_in
from mesh_hsm.udf import udf_of

NAMES = ("anna", "ben", "carla")
DEALER = "dora"


def imported(custody: CustodyClass = CustodyClass.IMPORTED, **more: Any) -> CustodyStatement:
    given: dict[str, Any] = {"known_by": (dealer_text(DEALER),)}
    return CustodyStatement(custody, Hardware.SIMULATOR, "memory", **given | more)


def in_devices(dealt: Dealt, custody: CustodyStatement | None = None) -> dict[Place, DeviceKey]:
    return {
        place: ScalarShare(part, Use.ENCRYPT, label=f"board-{place}", custody=custody or imported())
        for place, part in dealt.parts.items()
    }


def create(mesh: Any, now: Any, dealt: Dealt | None = None, **changes: Any) -> Any:
    dealt = dealt or deal(P384)
    given: dict[str, Any] = {
        "name": "board",
        "names": NAMES,
        "dealer": DEALER,
        "master": mesh.profile,
        "administrator": mesh.administrator,
        "now": now,
    }
    held = changes.pop("held", None) or in_devices(dealt)
    return create_key_set(dealt, held, **given | changes)


@pytest.fixture(scope="module")
def dealt() -> Dealt:
    return deal(P384)


@pytest.fixture(scope="module")
def now() -> datetime:
    return datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def signed(mesh: Any, now: Any, dealt: Dealt) -> Any:
    return create(mesh, now, dealt)


# -- what one says ---------------------------------------------------------------------------------


def test_what_it_says(signed: Any, mesh: Any, dealt: Dealt, now: Any) -> None:
    value = signed.value
    assert value.udf == value.envelope_id == udf_of(dealt.public)
    assert (value.authority_udf, value.created) == (mesh.udf, now)
    assert value.points() == dealt.publics()
    assert [value.name_of(holder) for holder in "ABC"] == list(NAMES)
    assert [part.label for _, part in value.held_by("C")] == ["board-AC", "board-BC"]
    assert open_key_set(signed.text, mesh.profile.value) == signed
    assert peek_key_set(signed.text) == value
    custody = value.custody()
    assert (custody.threshold, len(custody.shares)) == (2, 3)
    assert custody.theft is custody.loss is CustodyClass.IMPORTED
    assert custody.proved is False
    assert {share.known_by for share in custody.shares} == {("the dealer: dora",)}


def test_the_master_key_may_vouch_too(mesh: Any, now: Any) -> None:
    made = create(mesh, now, administrator=mesh.master)
    assert made.signer == mesh.master.public


def test_nobody_s_scalar_is_in_it(signed: Any, dealt: Dealt) -> None:
    payload = str(signed.value.members())
    for part in dealt.parts.values():
        octets = P384.scalar_octets(part.value)
        for shown in (str(part.value), octets.hex()):
            assert shown not in payload


def test_theft_of_the_weakest_two(mesh: Any, now: Any, dealt: Dealt) -> None:
    """A thief takes the two weakest; each holder's weakest part is what he takes."""
    held = in_devices(dealt)
    weak = in_devices(dealt, imported(CustodyClass.SOFTWARE))
    one = create(mesh, now, dealt, held=held | {PLACES[2]: weak[PLACES[2]]})
    assert one.value.custody().theft is CustodyClass.IMPORTED
    two = create(mesh, now, dealt, held=held | {p: weak[p] for p in (PLACES[0], PLACES[2])})
    assert two.value.custody().theft is CustodyClass.SOFTWARE


@pytest.mark.parametrize("name", ["P-256", "X25519", "X448"])
def test_another_hand_checks_the_proofs(mesh: Any, now: Any, name: str) -> None:
    """tests/independent, from the octets of the payload and the text of the reference alone."""
    value = create(mesh, now, deal(curve(name))).value.members()
    group = GROUPS[name]

    def point(key: Any) -> Any:
        octets = key["PublicParameters"]["PublicKeyECDH"]["Public"]
        return group.sound(group.decode(urlsafe_b64decode(octets + "==")))

    K = point(value["Encryption"])
    texts = [value["Name"], *(one["Name"] for one in value["Administrators"])]
    parts = {
        (holder, *part["Pairs"]): part
        for holder, one in zip("ABC", value["Administrators"], strict=True)
        for part in one["Parts"]
    }
    assert len(parts) == 5
    for (holder, *pairs), part in parts.items():
        (beside,) = (
            other for (who, *theirs), other in parts.items() if who != holder and pairs[0] in theirs
        )
        assert group.add(point(part["Encryption"]), point(beside["Encryption"])) == K
        framed = F("mesh-hsm/1 key set", value["Created"], holder, "+".join(pairs), *texts)
        octets = urlsafe_b64decode(part["Proof"] + "==")
        X = point(beside["Encryption"])
        another.verify(name, "Encryption", X, K, octets, framed, value["AuthorityUdf"])


# -- who vouches -----------------------------------------------------------------------------------


def test_a_stranger_vouches(mesh: Any, stranger: Any, now: Any, signed: Any) -> None:
    with pytest.raises(VerificationError, match="not signed by whom"):
        create(mesh, now, administrator=stranger.administrator)
    with pytest.raises(VerificationError, match="not signed by whom"):
        open_key_set(signed.text, stranger.profile.value)


def test_an_administrator_who_was_removed(
    mesh: Any, now: Any, signed: Any, make_signer: Any
) -> None:
    later = mesh.next_version(administrators=[make_signer("new").public])
    with pytest.raises(VerificationError, match="not signed by whom"):
        open_key_set(signed.text, later.value)
    assert peek_key_set(signed.text) == signed.value  # what was encrypted to it still opens


def test_an_administrator_of_two_meshes(mesh: Any, stranger: Any, now: Any, signed: Any) -> None:
    """His signature for one is none for the other."""
    both = stranger.next_version(administrators=[mesh.administrator.public])
    with pytest.raises(VerificationError, match="another Mesh"):
        open_key_set(signed.text, both.value)


# -- what is refused although an administrator signed it -------------------------------------------


Members = dict[str, Any]


def parts(members: Members, holder: int) -> list[Members]:
    found: list[Members] = members["Administrators"][holder]["Parts"]
    return found


def _swap_administrators(members: Members) -> None:
    one = members["Administrators"]
    one[0], one[1] = one[1], one[0]


def _swap_parts(members: Members) -> None:
    """B's parts change places: mixed, they add up to nothing."""
    parts(members, 1).reverse()


def _swap_labels(members: Members) -> None:
    """The keys stay where they are, the pairs change: the same from the other side."""
    one, other = parts(members, 1)
    one["Encryption"], other["Encryption"] = other["Encryption"], one["Encryption"]


def _no_dealer(members: Members) -> None:
    parts(members, 0)[0]["Custody"]["known_by"] = []


def _generated(members: Members) -> None:
    parts(members, 0)[0]["Custody"]["custody"] = "generated"


def _proof_of_another_part(members: Members) -> None:
    """B's and C's k - a are one scalar, but each proves his own."""
    parts(members, 1)[0]["Proof"] = parts(members, 2)[0]["Proof"]


def _no_part(members: Members) -> None:
    parts(members, 2).pop()


def _fourth(members: Members) -> None:
    members["Administrators"].append(members["Administrators"][0] | {"Name": "dan"})


def _wrong_udf(members: Members) -> None:
    parts(members, 0)[0]["Encryption"]["Udf"] = members["Encryption"]["Udf"]


def _other_curve(members: Members) -> None:
    parts(members, 0)[0]["Encryption"] = KeyData(X25519.base).to_json()


def _signature_curve(members: Members) -> None:
    members["Encryption"] = KeyData(ED25519.base).to_json()


def _set(name: str, value: Any) -> Callable[[Members], None]:
    return lambda members: members.update({name: value})


def _named(holder: int, name: str) -> Callable[[Members], None]:
    return lambda members: members["Administrators"][holder].update(Name=name)


HOSTILE: dict[str, tuple[Callable[[Members], None], type[MeshHsmError]]] = {
    "administrators changed round": (_swap_administrators, FormatError),
    "parts of two pairs changed round": (_swap_parts, FormatError),
    "pairs of two parts changed round": (_swap_labels, VerificationError),
    "a part that its dealer denies": (_no_dealer, FormatError),
    "a part said to be generated": (_generated, FormatError),
    "a proof made for another place": (_proof_of_another_part, VerificationError),
    "a part is missing": (_no_part, FormatError),
    "a fourth administrator": (_fourth, FormatError),
    "two administrators of one name": (_named(1, "anna"), FormatError),
    "a name that steers the terminal": (_named(1, "\x1b[2J"), FormatError),
    "a name that is no name": (_named(1, "ben=carla"), FormatError),
    "a long name": (_set("Name", 33 * "x"), FormatError),
    "a part with the key's UDF": (_wrong_udf, VerificationError),
    "a part on another curve": (_other_curve, InvalidPointError),
    "a key that signs": (_signature_curve, UnsupportedError),
    "one is enough": (_set("Threshold", 1), FormatError),
    "three are needed": (_set("Threshold", 3), FormatError),
    "a name other than the proofs'": (_set("Name", "bored"), VerificationError),
    "an administrator other than the proofs'": (_named(2, "mallory"), VerificationError),
    "a time other than the proofs'": (_set("Created", "2026-11-24T12:00:00Z"), VerificationError),
    "parts that are no list": (lambda m: m["Administrators"][0].update(Parts={}), FormatError),
    "no custody": (lambda m: parts(m, 0)[0].pop("Custody"), FormatError),
    "pairs that are no list": (lambda m: parts(m, 0)[0].update(Pairs="AB+AC"), FormatError),
}
UNTRUSTED_ONLY = {
    "a proof made for another place",
    "a name other than the proofs'",
    "an administrator other than the proofs'",
    "a time other than the proofs'",
}
"""What is no harm to whoever decrypts: sums hold, and only the proofs do not."""


class Crafted:
    """Whatever members somebody writes, signed by an administrator."""

    TAG = AdministratorKeySet.TAG

    def __init__(self, value: AdministratorKeySet, change: Callable[[Members], None]) -> None:
        self.envelope_id, self._members = value.udf, value.members()
        change(self._members)

    def members(self) -> Members:
        return self._members


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_objects(mesh: Any, signed: Any, now: Any, case: str) -> None:
    change, error = HOSTILE[case]
    envelope = seal_object(Crafted(signed.value, change), mesh.administrator, now)  # type: ignore[arg-type]  not an object of ours
    with pytest.raises(error):
        open_key_set(envelope, mesh.profile.value)
    if case not in UNTRUSTED_ONLY:
        with pytest.raises(error):
            peek_key_set(envelope)


def test_the_crafting_itself(mesh: Any, signed: Any, now: Any) -> None:
    envelope = seal_object(Crafted(signed.value, lambda m: None), mesh.administrator, now)  # type: ignore[arg-type]  not an object of ours
    assert open_key_set(envelope, mesh.profile.value).value == signed.value


def test_a_key_whose_parts_nobody_knows(mesh: Any, signed: Any, now: Any) -> None:
    """K and b are somebody's, a and k - a are points that only add up: AB would open nothing."""
    value = signed.value
    points = value.points()
    foreign = SecretScalar.random(P384).public()
    crafted = dict(points)
    first, second = places_in("AB")
    crafted[first] = foreign
    for place in (second, places_in("AC")[1]):
        crafted[place] = value.public - foreign
    changed = [
        replace(p, public=crafted[place]) for place, p in zip(PLACES, value.parts, strict=True)
    ]
    envelope = seal_object(replace(value, parts=tuple(changed)), mesh.administrator, now)
    with pytest.raises(VerificationError, match="proof"):
        open_key_set(envelope, mesh.profile.value)


# -- making one ------------------------------------------------------------------------------------


def test_a_device_that_did_not_take_its_part(mesh: Any, now: Any, dealt: Dealt) -> None:
    """It shows the part's public key, and multiplies by something else: nothing is signed."""
    held = in_devices(dealt)
    liar = ScalarShare(SecretScalar.random(P384), Use.ENCRYPT, label="liar", custody=imported())
    liar.public = dealt.publics()[PLACES[3]]
    with pytest.raises(DeviceError, match="does not hold the part"):
        create(mesh, now, dealt, held=held | {PLACES[3]: liar})


def test_parts_that_are_not_five(signed: Any) -> None:
    with pytest.raises(FormatError, match="five parts"):
        replace(signed.value, parts=signed.value.parts[:4])


def test_a_device_that_forgets_its_dealer(mesh: Any, now: Any, dealt: Dealt) -> None:
    with pytest.raises(FormatError, match="dealer has known it"):
        create(mesh, now, dealt, held=in_devices(dealt, imported(known_by=())))


def test_every_key_set_is_another(mesh: Any, now: Any, signed: Any, dealt: Dealt) -> None:
    """The same parts under a later date: proofs are not carried over."""
    later = create(mesh, now + timedelta(days=1), dealt)
    swapped = replace(signed.value, parts=later.value.parts)
    with pytest.raises(VerificationError, match="proof"):
        swapped.verify_proofs()
    signed.value.verify_proofs()
