"""A lone coordinate: its square root by the library, and its check without one, by Euler's way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mesh_hsm.curves import CURVES, Curve, Point, XOnly
from mesh_hsm.curves.cubic import CubicCurve, legendre
from mesh_hsm.curves.montgomery import square_root
from mesh_hsm.errors import InvalidPointError

Torsion = Callable[[Curve], tuple[Point, ...]]
coordinates = st.integers(0, 2**521 - 1) | st.integers(0, 1000)
PRIMES = sorted({c.field_prime for c in CURVES.values()} | {3, 5, 7, 11, 13, 17})
# The fixtures are constants, so examples may share them.
examples = settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def raised(call: Callable[..., Any], *arguments: Any) -> str | None:
    try:
        call(*arguments)
    except InvalidPointError as error:
        return str(error)
    return None


def euler(a: int, p: int) -> int:
    power = pow(a, (p - 1) // 2, p)
    return -1 if power == p - 1 else power


@examples
@given(a=st.integers(-(2**600), 2**600), p=st.sampled_from(PRIMES))
@example(a=0, p=2**255 - 19)
def test_legendre_is_eulers_criterion(a: int, p: int) -> None:
    assert legendre(a, p) == euler(a, p)
    assert legendre(a * a, p) == (a % p != 0)
    assert legendre(a * p, p) == 0


@pytest.mark.parametrize("p", [3, 5, 7, 11, 13, 17, 251, 257])
def test_legendre_of_everything_mod_a_small_prime(p: int) -> None:
    assert [legendre(a, p) for a in range(p)] == [euler(a, p) for a in range(p)]


@examples
@given(x=coordinates, odd=st.booleans())
def test_a_lift_is_the_root_of_the_equation(x_curve: Curve, x: int, odd: bool) -> None:
    assert isinstance(x_curve, CubicCurve)
    p = x_curve.field_prime
    x %= p
    square = x_curve.right_side(x)
    if euler(square, p) < 0 or (square == 0 and odd):
        assert str(raised(x_curve.lift, x, odd)).startswith(("no point", "the point"))
        return
    y = x_curve.lift(x, odd).y
    assert y * y % p == square
    assert y % 2 == odd


@examples
@given(x=coordinates)
def test_the_check_of_an_answer_says_what_its_lift_would_say(x_curve: Curve, x: int) -> None:
    x %= x_curve.field_prime
    assert raised(x_curve.check_x, x) == raised(lambda: x_curve.lift(x).check_foreign())


def test_the_check_of_an_answer_refuses_what_is_beyond_the_field(x_curve: Curve) -> None:
    x, p = x_curve.base.x, x_curve.field_prime
    x_curve.check_x(x)
    for beyond in (x + p, x - p, p, -1):
        assert "beyond the field" in str(raised(x_curve.check_x, beyond))


def test_the_check_of_an_answer_refuses_small_orders_and_no_others(
    cofactor_curve: Curve, torsion: Torsion
) -> None:
    assert cofactor_curve.neutral.has_small_order
    for T in torsion(cofactor_curve):
        assert T.has_small_order
        mixed = cofactor_curve.base + T
        assert not mixed.has_small_order
        if cofactor_curve.family == "montgomery":
            cofactor_curve.check_x(mixed.x)
            if not T.is_neutral:
                assert "small-order" in str(raised(cofactor_curve.check_x, T.x))
        else:
            cofactor_curve.check_x(mixed.y)
            assert "small-order" in str(raised(cofactor_curve.check_x, T.y))


def test_a_checked_answer_still_lifts(x_curve: Curve) -> None:
    P = x_curve.base.multiply(3)
    answer = XOnly(x_curve, P.x)
    answer.check_answer()
    assert set(answer.lifts()) == {P, -P}
    assert answer.lifts()[0] is answer.lifts()[0]


@examples
@given(a=st.integers(0, 2**448), p=st.sampled_from([2**255 - 19, 2**448 - 2**224 - 1]))
def test_square_roots(a: int, p: int) -> None:
    root = square_root(a * a % p, p)
    assert root in (a % p, -a % p)


def test_a_forged_point_is_no_foreign_point(any_curve: Curve) -> None:
    x, y = any_curve.base.x, any_curve.base.y
    forged = any_curve.point(x, y)
    object.__setattr__(forged, "affine", (x, y + 1))
    for check in (forged.check_foreign, forged.check_answer):
        assert "not a point" in str(raised(check))
