"""Sums of public contributions (threshold §3)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from Cryptodome.PublicKey.ECC import EccPoint
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh_hsm.curves import CURVES, ED448, P256, P384, X448, X25519, Curve, Point
from mesh_hsm.errors import FormatError, InvalidPointError
from mesh_hsm.threshold import combine


@settings(deadline=None)
@given(
    st.sampled_from(list(CURVES.values())),
    st.lists(st.integers(1, 2**64), min_size=1, max_size=4, unique=True),
)
def test_the_sum_of_publics_is_the_public_of_the_sum(curve: Curve, scalars: list[int]) -> None:
    contributions = [curve.base.multiply(x) for x in scalars]
    assert combine(contributions) == curve.base.multiply(sum(scalars))


@pytest.mark.parametrize("name", ["P-256", "P-384", "P-521", "Ed25519", "Ed448"])
def test_sums_agree_with_another_library(name: str) -> None:
    curve = CURVES[name]
    for x, y in ((1, 2), (5, 5), (2**200, 3**100), (curve.order - 2, 1)):
        ours = combine([curve.base.multiply(x), curve.base.multiply(y)])
        G = EccPoint(curve.base.x, curve.base.y, curve=name)
        theirs = G * x + G * y
        assert (ours.x, ours.y) == tuple(map(int, theirs.xy))


def test_one_contribution_is_itself() -> None:
    assert combine([P384.base]) == P384.base


def test_a_key_added_to_itself_is_doubled() -> None:
    # The published Ed25519 and Ed448 examples do this (threshold §3).
    assert combine([ED448.base, ED448.base]) == ED448.base.multiply(2)


G = P256.base
REFUSED: dict[str, Callable[[], list[Point]]] = {
    "x_i = 0": lambda: [G, P256.neutral],
    "x_i = 0 among others": lambda: [G, P256.neutral, G],
    "a neutral sum": lambda: [G, -G],
    "a neutral sum of three": lambda: [G, G, G.multiply(-2)],
    "Z equal to an input": lambda: [G, G.multiply(5), G.multiply(-5)],
    "another curve": lambda: [G, P384.base],
    "X25519 beside X448": lambda: [X25519.base, X448.base],
    "a contribution of order two": lambda: [X25519.base, X25519.point(0, 0)],
    "a contribution with torsion": lambda: [X448.base, X448.base + X448.point(0, 0)],
}


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED)
def test_refused_sums(make: Callable[[], list[Point]]) -> None:
    with pytest.raises(InvalidPointError):
        combine(make())


def test_no_contribution_at_all() -> None:
    with pytest.raises(FormatError, match="at least one share"):
        combine([])
