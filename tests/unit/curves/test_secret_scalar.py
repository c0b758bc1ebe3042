"""Software shares: one more x-only device (threshold §10, hsm-1 §9)."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mesh_hsm.curves import (
    CURVES,
    ED448,
    ED25519,
    P256,
    P384,
    X448,
    X25519,
    ClampedScalar,
    Curve,
    Point,
    SecretScalar,
    clamp,
)
from mesh_hsm.curves.secret_scalar import _ladder
from mesh_hsm.errors import FormatError, InvalidPointError, UnsupportedError

Torsion = Callable[[Curve], tuple[Point, ...]]
examples = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def scalars(curve: Curve) -> st.SearchStrategy[int]:
    # Full-width values: tiny multiples of h have no clamped form (test_scalars_without_...).
    n = curve.order
    return st.integers(2**200, n - 2**200) | st.sampled_from([1, 3, 5, n - 1, n - 3, n // 2])


@examples
@given(data=st.data(), s=st.integers(1, 2**64))
def test_times_is_the_group_law(x_curve: Curve, data: st.DataObject, s: int) -> None:
    k = data.draw(scalars(x_curve))
    secret, S = SecretScalar(x_curve, k), x_curve.base.multiply(s)
    assert secret.public() == x_curve.base.multiply(k)
    assert secret.times(S) == S.multiply(k)
    assert secret.x_of(S).x == S.multiply(k).x
    assert secret.x_of(-S) == secret.x_of(S)
    assert secret.times(-S) == -secret.times(S)


def test_times_plus_and_minus_the_base(x_curve: Curve) -> None:
    secret = SecretScalar.random(x_curve)
    assert secret.times(x_curve.base) == secret.public()
    assert secret.times(-x_curve.base) == -secret.public()
    two = x_curve.base + x_curve.base
    assert secret.times(-two) == -(secret.public() + secret.public())


def test_torsion_never_reaches_the_answer(montgomery_curve: Curve, torsion: Torsion) -> None:
    secret = SecretScalar.random(montgomery_curve)
    S = montgomery_curve.base.multiply(12345)
    for T in torsion(montgomery_curve):
        assert secret.times(S + T) == secret.times(S)
        # S + G is of small order here, so the other neighbour must be asked for.
        assert secret.times(T - montgomery_curve.base) == -secret.public()
        assert secret.times(T + montgomery_curve.base) == secret.public()


def test_points_of_small_order_are_refused(x_curve: Curve, torsion: Torsion) -> None:
    secret = SecretScalar.random(x_curve)
    for T in torsion(x_curve):
        with pytest.raises(InvalidPointError):
            secret.x_of(T)
        with pytest.raises(InvalidPointError):
            secret.times(T)


def test_an_all_zero_ladder_is_refused(montgomery_curve: Curve, torsion: Torsion) -> None:
    # Behind the check above stands the library's own (RFC 7748 §6).
    octets = clamp(montgomery_curve, SecretScalar.random(montgomery_curve).value).octets()
    points = [T for T in torsion(montgomery_curve) if not T.is_neutral]
    for T in points:
        with pytest.raises(InvalidPointError, match="zero"):
            _ladder(montgomery_curve, octets, T)


def test_points_of_another_curve_are_refused() -> None:
    secret = SecretScalar.random(P256)
    for point in (P384.base, X25519.base):
        with pytest.raises(InvalidPointError):
            secret.x_of(point)
        with pytest.raises(InvalidPointError):
            secret.times(point)


def test_values_outside_one_to_n_are_refused(x_curve: Curve) -> None:
    n = x_curve.order
    for value in (0, n, 2 * n, n + 1, -1):
        with pytest.raises(FormatError, match=r"\[1, n\)"):
            SecretScalar(x_curve, value)


def test_edwards_scalars_are_not_multiplied() -> None:
    for curve in (ED25519, ED448):
        with pytest.raises(UnsupportedError):
            SecretScalar(curve, 5)


def test_random_scalars_differ(x_curve: Curve) -> None:
    drawn = {SecretScalar.random(x_curve).value for _ in range(20)}
    assert len(drawn) == 20
    assert all(0 < value < x_curve.order for value in drawn)
    assert max(value.bit_length() for value in drawn) > x_curve.order.bit_length() - 10


def test_a_secret_does_not_show_nor_travel(x_curve: Curve) -> None:
    secret = SecretScalar.random(x_curve)
    secret.public()
    for shown in (repr(secret), str(secret), f"{secret}"):
        assert shown == f"<secret scalar of {x_curve.name}>"
    for move in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="neither pickled nor copied"):
            move(secret)
    assert secret != SecretScalar(x_curve, secret.value)
    assert not hasattr(secret, "__dict__")
    with pytest.raises(AttributeError):
        secret.value = 5  # type: ignore[misc]
    assert secret.curve is x_curve


MONTGOMERY = [X25519, X448]


@pytest.mark.parametrize("curve", MONTGOMERY, ids=repr)
class TestClamp:
    @settings(max_examples=100, deadline=None)
    @given(data=st.data())
    def test_identities(self, curve: Curve, data: st.DataObject) -> None:
        y = data.draw(scalars(curve))
        n, h = curve.order, curve.cofactor
        scalar = clamp(curve, y)
        top = {"X25519": 254, "X448": 447}[curve.name]
        assert scalar.sigma in (1, -1)
        assert (scalar.sigma * scalar.c - y) % n == 0
        assert scalar.c % h == 0
        assert 1 << top <= scalar.c < 2 << top
        assert scalar.octets() == scalar.c.to_bytes(curve.scalar_size, "little")
        # RFC 7748 §5 leaves the octets as they are.
        octets = bytearray(scalar.octets())
        if curve is X25519:
            octets[0] &= 248
            octets[31] = octets[31] & 127 | 64
        else:
            octets[0] &= 252
            octets[55] |= 128
        assert octets == scalar.octets()

    def test_both_signs_occur(self, curve: Curve) -> None:
        signs = [clamp(curve, SecretScalar.random(curve).value).sigma for _ in range(64)]
        assert set(signs) == {1, -1}

    def test_a_clamped_scalar_stands_for_itself(self, curve: Curve) -> None:
        top = curve.field_prime.bit_length() - 1
        c = (1 << top) + 12345 * curve.cofactor
        scalar = clamp(curve, c)
        assert scalar.sigma * scalar.c % curve.order == c % curve.order

    def test_zero_is_refused(self, curve: Curve) -> None:
        for y in (0, curve.order, -3 * curve.order):
            with pytest.raises(FormatError, match="zero"):
                clamp(curve, y)

    def test_scalars_without_a_clamped_form_are_refused(self, curve: Curve) -> None:
        # threshold §10: the exceptions, a share of 2^-120 of all scalars.
        y = {"X25519": 8, "X448": 2}[curve.name]
        for value in (y, curve.order - y):
            with pytest.raises(FormatError, match="no clamped form") as caught:
                clamp(curve, value)
            assert caught.value.hint == "draw another share"
            with pytest.raises(FormatError):
                SecretScalar(curve, value)

    def test_the_neighbour_stays_inside_the_clamp_range(self, curve: Curve) -> None:
        # u((c + h)G) would leave the range, or be zero: the step goes the other way.
        h, n = curve.cofactor, curve.order
        low = 1 << curve.field_prime.bit_length() - 1
        ends = [low, low + h, 2 * low - 2 * h, 2 * low - h]
        if curve is X448:
            ends += [h * n - h, h * n + h]  # c + h = 0 mod n, and cG = hG
        for c in ends:
            assert clamp(curve, c % n).c == c
            for value in (c % n, -c % n):
                assert SecretScalar(curve, value).public() == curve.base.multiply(value)

    def test_only_clamped_values_are_held(self, curve: Curve) -> None:
        good = clamp(curve, 3)
        for sigma, c in [(0, good.c), (2, good.c), (1, good.c + 1), (1, 8), (1, good.c << 1)]:
            with pytest.raises(FormatError):
                ClampedScalar(curve, sigma, c)

    def test_it_does_not_show_nor_travel(self, curve: Curve) -> None:
        scalar = clamp(curve, 3)
        assert str(scalar.c) not in repr(scalar)
        for move in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="neither pickled nor copied"):
                move(scalar)


def test_the_upper_representative_serves_tiny_x448_scalars() -> None:
    # On X25519 h·n lies above the clamp range, so there is none.
    assert clamp(X448, 4).c == 4 + 4 * X448.order
    assert SecretScalar(X448, 4).public() == X448.base.multiply(4)


def test_only_montgomery_scalars_are_clamped() -> None:
    for curve in CURVES.values():
        if curve.family != "montgomery":
            with pytest.raises(UnsupportedError):
                clamp(curve, 5)
            with pytest.raises(UnsupportedError):
                ClampedScalar(curve, 1, 1 << curve.field_prime.bit_length() - 1)
