"""A key dealt to three holders: any two complete it, and nobody else does."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha512
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from independent.groups import GROUPS

from mesh_hsm.curves import CURVES, ED25519, P256, X25519, Curve, Point, SecretScalar, XOnly
from mesh_hsm.custody import CustodyClass, CustodyStatement, Hardware
from mesh_hsm.errors import (
    DeviceError,
    FormatError,
    InvalidPointError,
    MeshHsmError,
    UnsupportedError,
    VerificationError,
)
from mesh_hsm.provider import DeviceKey, Use
from mesh_hsm.threshold import Dealt, PartKey, Place, ScalarShare, combine, deal, pair_key
from mesh_hsm.threshold.composite import CompositeKey
from mesh_hsm.threshold.two_of_three import (
    HOLDERS,
    PAIRS,
    PLACES,
    check_parts,
    places_in,
    places_of,
)

CUSTODY = CustodyStatement(CustodyClass.IMPORTED, Hardware.SIMULATOR, "memory")
A, B_AB, B_BC, C_AC, C_BC = PLACES
Parts = dict[Place, Point]


def device(part: SecretScalar, use: Use = Use.ENCRYPT) -> ScalarShare:
    return ScalarShare(part, use, label="part", custody=CUSTODY)


def held(dealt: Dealt, *places: Place) -> dict[Place, DeviceKey]:
    return {place: device(dealt.parts[place]) for place in places}


# -- the arithmetic --------------------------------------------------------------------------------


def test_who_holds_what() -> None:
    assert [(place.holder, str(place)) for place in PLACES] == [
        ("A", "AB+AC"),
        ("B", "AB"),
        ("B", "BC"),
        ("C", "AC"),
        ("C", "BC"),
    ]
    for pair in PAIRS:
        assert [place.holder for place in places_in(pair)] == list(pair)


def test_the_scalars(curve: Curve) -> None:
    """threshold §4, letter by letter: a, k - a, b, k - a, k - b; public points by another hand."""
    dealt, n = deal(curve), curve.order
    a, without_a, b, again, without_b = (dealt.parts[place].value for place in PLACES)
    k = (a + without_a) % n
    assert again == without_a
    assert (b + without_b) % n == k
    assert len({k, a, without_a, b, without_b}) == 5
    group = GROUPS[curve.name]
    for scalar, point in ((k, dealt.public), (a, dealt.publics()[A]), (b, dealt.publics()[B_BC])):
        assert group.multiply(scalar, group.base) == (point.x, point.y)


def test_every_deal_is_another(curve: Curve) -> None:
    dealt = [deal(curve) for _ in range(3)]
    assert len({one.public.x for one in dealt}) == 3
    assert len({part.value for one in dealt for part in one.parts.values()}) == 12


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(["P-256", "P-384", "P-521", "X25519", "X448"]), st.binary(max_size=8))
def test_every_pair_gives_the_key_and_nothing_else_does(name: str, seed: bytes) -> None:
    dealt, n = deal(CURVES[name]), CURVES[name].order
    peer = SecretScalar(CURVES[name], 1 + int.from_bytes(sha512(seed).digest()) % (n - 1))
    expected = peer.x_of(dealt.public).octets()
    for pair in PAIRS:
        key = pair_key(dealt.public, dealt.publics(), held(dealt, *places_in(pair)))
        assert expected in list(key.agreements(peer.public()))
        assert key.agree(peer.public()) == peer.times(dealt.public)
    good = [set(places_in(pair)) for pair in PAIRS] + [{B_AB, A}, {C_AC, A}]
    # Each holder alone, with all he has; and parts of different pairs.
    for count in (1, 2):
        for chosen in combinations(PLACES, count):
            if set(chosen) in good:
                continue
            with pytest.raises(FormatError, match="no one pair"):
                pair_key(dealt.public, dealt.publics(), held(dealt, *chosen))
            if {B_AB, C_AC} == set(chosen):
                continue  # one scalar in two devices
            shares = [device(dealt.parts[place]) for place in chosen]
            mixed = CompositeKey(combine([one.public for one in shares]), Use.ENCRYPT, shares)
            assert mixed.public not in (dealt.public, -dealt.public)
            assert expected not in list(mixed.agreements(peer.public()))


def test_more_than_a_pair_is_none(curve: Curve) -> None:
    dealt = deal(curve)
    for chosen in ((), PLACES, (A, B_AB, C_AC)):
        with pytest.raises(FormatError, match="no one pair"):
            pair_key(dealt.public, dealt.publics(), held(dealt, *chosen))


def test_no_secret_is_shown(curve: Curve) -> None:
    dealt = deal(curve)
    for part in dealt.parts.values():
        for shown in (str(part.value), f"{part.value:x}"):
            assert shown not in repr(dealt) + str(dealt)
            assert shown not in repr(PartKey(device(part), part.public()))


def test_a_signature_curve_is_not_dealt() -> None:
    with pytest.raises(UnsupportedError):
        deal(ED25519)


# -- hostile records -------------------------------------------------------------------------------


def times(k: int) -> Point:
    return P256.base.multiply(k)


def laid_out(k: int, a: int, b: int) -> tuple[Point, Parts]:
    """A record that adds up, from small scalars."""
    scalars = (a, k - a, b, k - a, k - b)
    return times(k), {p: times(s) for p, s in zip(PLACES, scalars, strict=True)}


def changed(place: Place, to: Callable[[Point], Point]) -> tuple[Point, Parts]:
    K, parts = laid_out(100, 7, 11)
    return K, parts | {place: to(parts[place])}


HOSTILE: dict[str, tuple[tuple[Point, Parts], type[MeshHsmError]]] = {
    "A's part is another": (changed(A, lambda P: P + P), VerificationError),
    "B's part for AB is another": (changed(B_AB, lambda P: P + P), VerificationError),
    "B's part for BC is another": (changed(B_BC, lambda P: P + P), VerificationError),
    "C's part for AC is another": (changed(C_AC, lambda P: P + P), VerificationError),
    "C's part for BC is another": (changed(C_BC, lambda P: P + P), VerificationError),
    "a part with the other sign": (changed(C_BC, lambda P: -P), VerificationError),
    "a part of another curve": (changed(A, lambda P: X25519.base), InvalidPointError),
    "a neutral part": (changed(A, lambda P: P256.neutral), InvalidPointError),
    "a part that is the key": (laid_out(100, 100, 11), InvalidPointError),
    "a part that is the key but for its sign": (laid_out(100, -100, 11), InvalidPointError),
    "a part twice: half the key": (laid_out(100, 50, 11), InvalidPointError),
    "one split for all pairs": (laid_out(100, 7, 7), InvalidPointError),
    "one split for all pairs, turned round": (laid_out(100, 7, 93), InvalidPointError),
    "a part with the sign of another": (laid_out(100, 7, -7), InvalidPointError),
    "C's parts differ by the key": (laid_out(100, 7, 107), InvalidPointError),
    "B's parts differ by the key": (laid_out(100, 190, 10), InvalidPointError),
    "C's parts add up to the key": (laid_out(100, 60, 40), InvalidPointError),
    "B's parts add up to the key but for its sign": (laid_out(100, 7, -193), InvalidPointError),
    "C's parts add up to the key but for its sign": (laid_out(100, 7, 293), InvalidPointError),
    "the key is neutral": (laid_out(0, 7, 11), InvalidPointError),
    "a part is missing": (
        (times(100), {p: P for p, P in laid_out(100, 7, 11)[1].items() if p != C_BC}),
        FormatError,
    ),
    "a part too many": (
        (times(100), laid_out(100, 7, 11)[1] | {Place("C", ("AB",)): times(93)}),
        FormatError,
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_parts(case: str) -> None:
    (K, parts), error = HOSTILE[case]
    with pytest.raises(error) as caught:
        check_parts(K, parts)
    assert type(caught.value) is error


def test_honest_parts() -> None:
    check_parts(*laid_out(100, 7, 11))


def test_parts_with_torsion() -> None:
    """They add up, and one of them would tell a device's scalar mod h."""
    dealt = deal(X25519)
    points = dealt.publics()
    T = X25519.point(0, 0)
    torsion = points | {A: points[A] + T, B_AB: points[B_AB] + T, C_AC: points[C_AC] + T}
    with pytest.raises(InvalidPointError, match="prime-order"):
        check_parts(dealt.public, torsion)


# -- devices ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("answers", [XOnly, Point])
def test_a_device_that_shows_the_other_sign(fake: Any, answers: type) -> None:
    """A clamping device holds c = ±y: what it shows is ±Y, what it does is the same."""
    dealt = deal(X25519)
    points = dealt.publics()
    y = dealt.parts[A]

    def answer(S: Point) -> Point | XOnly:
        return y.x_of(S) if answers is XOnly else -y.times(S)

    shown = fake(-points[A], answer)
    keys = held(dealt, A, B_AB) | {A: shown}
    peer = SecretScalar.random(X25519)
    key = pair_key(dealt.public, points, keys)
    assert key.agree(peer.public()) == peer.times(dealt.public)
    assert peer.x_of(dealt.public).octets() in list(key.agreements(peer.public()))
    part = PartKey(shown, points[A])
    part.check_possession(y)
    assert (part.uri, part.label, part.use) == (shown.uri, shown.label, shown.use)
    assert part.custody() == shown.custody()


@pytest.mark.parametrize("name", ["P-256", "X25519"])
def test_a_device_with_another_key(name: str) -> None:
    dealt = deal(CURVES[name])
    points = dealt.publics()
    other = device(SecretScalar.random(CURVES[name]))
    with pytest.raises(VerificationError, match="another than the part") as caught:
        pair_key(dealt.public, points, held(dealt, A) | {B_AB: other})
    assert caught.value.uri == str(other.uri)


def test_the_sign_counts_where_devices_know_it(fake: Any) -> None:
    dealt = deal(P256)
    points = dealt.publics()
    with pytest.raises(VerificationError):
        PartKey(fake(-points[A], dealt.parts[A].times), points[A])


def test_a_device_that_did_not_take_its_part(curve: Curve, fake: Any) -> None:
    dealt = deal(curve)
    liar = fake(dealt.publics()[A], SecretScalar.random(curve).x_of)
    with pytest.raises(DeviceError, match="does not hold the part"):
        PartKey(liar, dealt.publics()[A]).check_possession(dealt.parts[A])


def test_parts_for_another_use(curve: Curve) -> None:
    dealt = deal(curve)
    keys = {p: device(dealt.parts[p], Use.AUTHENTICATE) for p in places_in("AB")}
    with pytest.raises(FormatError, match="same use"):
        pair_key(dealt.public, dealt.publics(), keys)


def test_every_holder_has_his_own() -> None:
    assert [len(places_of(holder)) for holder in HOLDERS] == [1, 2, 2]
