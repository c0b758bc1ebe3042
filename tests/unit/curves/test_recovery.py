"""The full point from two x-only answers: threshold §6(b), hsm-1 §9."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mesh_hsm.curves import ED25519, P256, P384, X25519, Curve, Point, XOnly, recover
from mesh_hsm.errors import InvalidPointError, UnsupportedError, VerificationError

Torsion = Callable[[Curve], tuple[Point, ...]]
examples = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
multipliers = st.integers(2, 2**40)


def answers(x: int, S: Point, T: Point) -> tuple[XOnly, XOnly]:
    """What an honest device with the small, public scalar x answers to S and S + T."""
    return XOnly(S.curve, S.multiply(x).x), XOnly(S.curve, (S + T).multiply(x).x)


@examples
@given(x=multipliers, s=multipliers, t=multipliers)
def test_honest_answers_give_the_point(x_curve: Curve, x: int, s: int, t: int) -> None:
    S, T = x_curve.base.multiply(s), x_curve.base.multiply(t)
    assert recover(T.multiply(x), *answers(x, S, T)) == S.multiply(x)
    assert recover(T.multiply(-x), *answers(x, S, T)) == S.multiply(-x)


@examples
@given(x=multipliers, s=multipliers, fault=st.integers(2**90, 2**100))
def test_faulty_answers_are_found(x_curve: Curve, x: int, s: int, fault: int) -> None:
    # Faults above every x·s, so that none makes the answers for another point.
    G = x_curve.base
    S, X = G.multiply(s), G.multiply(x)
    x1, x3 = answers(x, S, G)
    other = XOnly(x_curve, G.multiply(x * s + fault).x)
    for pair in [
        (XOnly(x_curve, (x1.x + fault) % x_curve.field_prime), x3),
        (x1, XOnly(x_curve, (x3.x + fault) % x_curve.field_prime)),
        (other, x3),
        (x1, other),
    ]:
        with pytest.raises(VerificationError):
            recover(X, *pair)
    with pytest.raises(VerificationError):
        recover(G.multiply(x + fault), x1, x3)


def test_s_equal_to_t(x_curve: Curve) -> None:
    G = x_curve.base
    X = G.multiply(77)
    x1, x3 = answers(77, G, G)
    assert x1.x == X.x
    assert recover(X, x1, x3) == X
    with pytest.raises(VerificationError, match="do not fit"):
        recover(X, x1, x1)
    with pytest.raises(VerificationError, match="do not fit"):
        recover(X, x1, XOnly(x_curve, 0))


def test_answers_beyond_the_field_are_refused(x_curve: Curve) -> None:
    G, p = x_curve.base, x_curve.field_prime
    x1, x3 = answers(5, G.multiply(3), G)
    for pair in [
        (XOnly(x_curve, x1.x + p), x3),
        (x1, XOnly(x_curve, x3.x + p)),
        (x1, XOnly(x_curve, x3.x - p)),
    ]:
        with pytest.raises(VerificationError):
            recover(G.multiply(5), *pair)


def test_a_consistent_liar_is_not_found_here(x_curve: Curve) -> None:
    # hsm-1 §9: why the blinded form exists. If this ever fails, the documentation is wrong.
    G = x_curve.base
    X, lie = G.multiply(5), G.multiply(999)
    pair = XOnly(x_curve, lie.x), XOnly(x_curve, (lie + X).x)
    assert recover(X, *pair) == lie


def test_interchanged_answers_are_such_a_lie(x_curve: Curve) -> None:
    # -(xS + X) + X = -xS: a caller must not mix up which answer belongs to which question.
    G = x_curve.base
    x1, x3 = answers(5, G.multiply(3), G)
    assert recover(G.multiply(5), x3, x1) == -G.multiply(20)


def test_torsion_of_s_is_killed_by_a_clamped_device(
    montgomery_curve: Curve, torsion: Torsion
) -> None:
    h = montgomery_curve.cofactor
    S, G = montgomery_curve.base.multiply(31), montgomery_curve.base
    for T in torsion(montgomery_curve):
        assert recover(G.multiply(9 * h), *answers(9 * h, S + T, G)) == S.multiply(9 * h)


def test_answers_of_another_curve_are_refused() -> None:
    G = P256.base
    x1, x3 = answers(5, G.multiply(3), G)
    with pytest.raises(VerificationError, match="another curve"):
        recover(G.multiply(5), XOnly(P384, x1.x), x3)
    with pytest.raises(VerificationError, match="another curve"):
        recover(G.multiply(5), x1, XOnly(P384, x3.x))


def test_a_public_point_that_cannot_serve() -> None:
    x = XOnly(X25519, 9)
    for X in (X25519.neutral, X25519.point(0, 0)):
        with pytest.raises(InvalidPointError):
            recover(X, x, x)


def test_edwards_devices_do_not_answer_x() -> None:
    with pytest.raises(UnsupportedError, match="Ed25519"):
        recover(ED25519.base, XOnly(ED25519, 1), XOnly(ED25519, 1))
