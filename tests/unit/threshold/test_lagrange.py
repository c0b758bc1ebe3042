"""Splitting scalars and weighting their shares (threshold §4)."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh_hsm.curves import CURVES, P256, Curve
from mesh_hsm.errors import FormatError
from mesh_hsm.threshold import lagrange

curves = st.sampled_from(list(CURVES.values()))


@settings(deadline=None)
@given(curves, st.integers(1, 2**200), st.integers(2, 6))
def test_all_parts_of_a_split_add_up(curve: Curve, x: int, count: int) -> None:
    parts = lagrange.split(curve, x, count)
    assert len(parts) == count
    assert sum(parts) % curve.order == x % curve.order
    assert all(0 < part < curve.order for part in parts)


@settings(deadline=None)
@given(curves, st.integers(1, 2**200), st.integers(2, 4), st.integers(0, 2))
def test_any_threshold_of_shares_gives_the_scalar_back_and_fewer_do_not(
    curve: Curve, x: int, threshold: int, spare: int
) -> None:
    shares = lagrange.shamir_split(curve, x, threshold, threshold + spare)

    def joined(chosen: tuple[int, ...]) -> int:
        weights = lagrange.coefficients(curve, chosen)
        return sum(weights[i] * shares[i] for i in chosen) % curve.order

    for chosen in itertools.combinations(shares, threshold):
        assert joined(chosen) == x % curve.order
    for chosen in itertools.combinations(shares, threshold - 1):
        assert joined(chosen) != x % curve.order


def test_a_split_is_fresh_every_time() -> None:
    assert lagrange.split(P256, 5, 2) != lagrange.split(P256, 5, 2)
    assert lagrange.shamir_split(P256, 5, 2, 3) != lagrange.shamir_split(P256, 5, 2, 3)


def test_zero_parts_are_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    # x = 5 and a first part of 5 would leave 0 for the last one.
    drawn = iter([4, 6])
    monkeypatch.setattr(lagrange.secrets, "randbelow", lambda bound: next(drawn))
    assert lagrange.split(P256, 5, 2) == (7, P256.order - 2)


def test_a_polynomial_of_too_low_degree_or_with_a_root_is_drawn_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # First a constant polynomial, then one with f(2) = 6 - 3·2 = 0, then f(t) = 6 + t.
    drawn = iter([0, P256.order - 3, 1])
    monkeypatch.setattr(lagrange.secrets, "randbelow", lambda bound: next(drawn))
    assert lagrange.shamir_split(P256, 6, 2, 3) == {1: 7, 2: 8, 3: 9}


@pytest.mark.parametrize(("x", "count"), [(1, 1), (1, 0), (0, 2), (P256.order, 2)])
def test_splits_that_protect_nothing(x: int, count: int) -> None:
    with pytest.raises(FormatError):
        lagrange.split(P256, x, count)


@pytest.mark.parametrize(("x", "t", "count"), [(1, 1, 3), (1, 4, 3), (0, 2, 3), (P256.order, 2, 3)])
def test_shamir_splits_that_protect_nothing(x: int, t: int, count: int) -> None:
    with pytest.raises(FormatError):
        lagrange.shamir_split(P256, x, t, count)


@pytest.mark.parametrize(
    "indices",
    [[], [0, 1], [1, 1], [1, P256.order + 1], [P256.order]],
    ids=["none", "zero", "twice", "twice mod n", "zero mod n"],
)
def test_indices_without_coefficients(indices: list[int]) -> None:
    with pytest.raises(FormatError):
        lagrange.coefficients(P256, indices)
