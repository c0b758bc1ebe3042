from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mesh_hsm.curves import CURVES, ED25519, P256, P384, X25519, Curve, Point, curve
from mesh_hsm.errors import FormatError, InvalidPointError, UnsupportedError

Torsion = Callable[[Curve], tuple[Point, ...]]
multipliers = st.integers(-(2**40), 2**40) | st.sampled_from([0, 1, -1, 2])
# The fixtures are constants, so examples may share them.
examples = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@examples
@given(multipliers, multipliers, multipliers, st.integers(0, 7))
def test_group_laws(any_curve: Curve, torsion: Torsion, a: int, b: int, c: int, t: int) -> None:
    G, O = any_curve.base, any_curve.neutral  # noqa: E741  the usual name of the neutral element
    P = G.multiply(a) + torsion(any_curve)[t % any_curve.cofactor]
    Q, R = G.multiply(b), G.multiply(c)
    assert P + Q == Q + P
    assert (P + Q) + R == P + (Q + R)
    assert P + O == P == O + P
    assert P - P == O == P + -P
    assert P - Q == -(Q - P)
    assert P.multiply(2) == P + P
    assert G.multiply(b + c) == Q + R
    assert Q.multiply(c) == R.multiply(b)


def test_multiply_agrees_with_repeated_addition(any_curve: Curve, torsion: Torsion) -> None:
    for T in torsion(any_curve):
        P = any_curve.base + T
        total = any_curve.neutral
        for k in range(40):
            assert P.multiply(k) == total
            assert P.multiply(-k) == -total
            total = total + P


def test_every_torsion_point_doubles_and_adds(cofactor_curve: Curve, torsion: Torsion) -> None:
    points = torsion(cofactor_curve)
    for i, P in enumerate(points):
        for j, Q in enumerate(points):
            assert points[(i + j) % cofactor_curve.cofactor] == P + Q
            assert P.multiply(j) == points[i * j % cofactor_curve.cofactor]


def test_the_order_is_the_order(any_curve: Curve) -> None:
    n = any_curve.order
    assert any_curve.base.multiply(n).is_neutral
    assert any_curve.base.multiply(n - 1) == -any_curve.base
    # Above n the ladder meets its own starting point, and the neutral one, on the way.
    for k in range(n, n + 9):
        assert any_curve.base.multiply(k) == any_curve.base.multiply(k - n)
    assert pow(2, n - 1, n) == 1
    p, h = any_curve.field_prime, any_curve.cofactor
    assert (h * n - p - 1) ** 2 <= 4 * p  # Hasse: with n prime, h is the whole cofactor


@examples
@given(k=multipliers)
def test_decode_undoes_encode(any_curve: Curve, k: int) -> None:
    P = any_curve.base.multiply(k)
    if P.is_neutral and any_curve.family != "edwards":
        with pytest.raises(InvalidPointError, match="neutral"):
            P.encode()
        return
    octets = P.encode()
    assert len(octets) == any_curve.encoded_size
    assert any_curve.decode(octets) == P
    assert hash(any_curve.decode(octets)) == hash(P)


@examples
@given(k=multipliers.filter(bool))
def test_compressed_and_plain_forms(x_curve: Curve, k: int) -> None:
    P = x_curve.base.multiply(k)
    plain = P.agreement_octets()
    assert x_curve.decode_x(plain) == (-P if P.is_odd else P)
    assert x_curve.lift(P.x, odd=P.is_odd) == P
    if x_curve.family == "weierstrass":
        assert x_curve.decode(bytes([2 + P.is_odd]) + plain) == P
    else:
        assert P.encode() == plain + bytes([0x80 * P.is_odd])


def test_parity_is_of_x_on_edwards_and_of_y_elsewhere(any_curve: Curve) -> None:
    for k in range(1, 20):
        P = any_curve.base.multiply(k)
        expected = P.x if any_curve.family == "edwards" else P.y
        assert P.is_odd == bool(expected % 2)
        assert (-P).is_odd != P.is_odd


def test_sizes() -> None:
    table = {
        name: (c.algorithm_id, c.field_size, c.scalar_size, c.encoded_size, c.cofactor)
        for name, c in CURVES.items()
    }
    assert table == {
        "P-256": (5, 32, 32, 65, 1),
        "P-384": (6, 48, 48, 97, 1),
        "P-521": (7, 66, 66, 133, 1),
        "X25519": (1, 32, 32, 33, 8),
        "X448": (2, 56, 56, 57, 4),
        "Ed25519": (3, 32, 32, 32, 8),
        "Ed448": (4, 56, 56, 57, 4),
    }


def test_agreement_octets_have_their_published_sizes(any_curve: Curve) -> None:
    sizes = {"P-256": 32, "P-384": 48, "P-521": 66, "X25519": 32, "X448": 56, "Ed448": 57}
    assert len(any_curve.base.agreement_octets()) == sizes.get(any_curve.name, 32)


def test_agreement_refuses_neutral_and_zero(any_curve: Curve) -> None:
    with pytest.raises(InvalidPointError, match="neutral or zero"):
        any_curve.neutral.agreement_octets()
    if any_curve.family == "montgomery":
        with pytest.raises(InvalidPointError, match="neutral or zero"):
            any_curve.point(0, 0).agreement_octets()


def test_foreign_points_of_small_order_are_refused(any_curve: Curve, torsion: Torsion) -> None:
    for T in torsion(any_curve):
        assert T.has_small_order
        assert T.in_prime_subgroup == T.is_neutral
        with pytest.raises(InvalidPointError, match="small-order"):
            T.check_foreign()
        with pytest.raises(InvalidPointError, match="small-order"):
            T.check_answer()
        mixed = any_curve.base + T
        mixed.check_foreign()
        assert not mixed.has_small_order
        assert mixed.in_prime_subgroup == T.is_neutral


def test_there_is_no_point_off_the_curve(any_curve: Curve) -> None:
    P = any_curve.base
    p = any_curve.field_prime
    for x, y in [(P.x, P.y + 1), (P.x + 1, P.y), (P.x + p, P.y), (P.x, P.y - p), (-1, P.y)]:
        with pytest.raises(InvalidPointError, match="not a point"):
            any_curve.point(x, y)
        with pytest.raises(InvalidPointError, match="not a point"):
            Point(any_curve, (x, y))


def test_neutral_has_coordinates_only_on_edwards(any_curve: Curve) -> None:
    neutral = any_curve.neutral
    assert neutral.is_neutral
    assert not any_curve.base.is_neutral
    if any_curve.family == "edwards":
        assert (neutral.x, neutral.y) == (0, 1)
        with pytest.raises(InvalidPointError):
            Point(any_curve, None)
    else:
        with pytest.raises(InvalidPointError, match="no coordinates"):
            _ = neutral.x
        with pytest.raises(InvalidPointError, match="no coordinates"):
            _ = neutral.y
        assert -neutral == neutral == neutral.multiply(5)


def test_points_of_two_curves_do_not_add() -> None:
    with pytest.raises(InvalidPointError, match="P-256, P-384"):
        _ = P256.base + P384.base
    # Same field and same group, still another curve.
    with pytest.raises(InvalidPointError):
        _ = X25519.base - ED25519.base
    assert X25519.base != ED25519.base


def test_points_are_immutable_and_hashable() -> None:
    P = P256.base
    with pytest.raises(AttributeError):
        P.affine = (1, 2)  # type: ignore[misc]
    assert len({P, P256.decode(P.encode()), -P}) == 2


def test_curves_keep_their_identity_through_pickle_and_copy(any_curve: Curve) -> None:
    assert pickle.loads(pickle.dumps(any_curve)) is any_curve
    assert copy.copy(any_curve) is any_curve
    assert copy.deepcopy(any_curve.base).curve is any_curve
    assert pickle.loads(pickle.dumps(any_curve.base)) == any_curve.base
    assert repr(any_curve) == any_curve.name


def test_an_unpickled_point_is_checked() -> None:
    with pytest.raises(InvalidPointError):
        pickle.loads(_forged_pickle())


def _forged_pickle() -> bytes:
    octets = pickle.dumps(P256.base, protocol=0)
    return octets.replace(str(P256.base.x).encode(), str(P256.base.x + 1).encode())


def test_repr_of_a_point_is_its_encoding(any_curve: Curve) -> None:
    P = any_curve.base
    assert repr(P) == f"<{any_curve.name} point {P.encode().hex()}>"
    assert repr(any_curve.neutral) == f"<{any_curve.name} point neutral>"


def test_curve_by_name() -> None:
    assert curve("P-384") is P384
    for name in ("p-384", "P384", "secp256k1", ""):
        with pytest.raises(UnsupportedError) as caught:
            curve(name)
        assert "Ed448" in str(caught.value.hint)
    with pytest.raises(TypeError):
        CURVES["P-256"] = P384  # type: ignore[index]


@examples
@given(data=st.data())
def test_scalars_have_one_width(any_curve: Curve, data: st.DataObject) -> None:
    value = data.draw(st.integers(0, any_curve.order - 1))
    octets = any_curve.scalar_octets(value)
    assert len(octets) == any_curve.scalar_size
    assert any_curve.scalar(octets) == value
    assert octets == value.to_bytes(any_curve.scalar_size, any_curve.byteorder)


def test_scalars_out_of_range_are_refused(any_curve: Curve) -> None:
    n, size = any_curve.order, any_curve.scalar_size
    for value in (-1, n, n + 1, 1 << 8 * size):
        with pytest.raises(FormatError, match="order"):
            any_curve.scalar_octets(value)
    for octets in (n.to_bytes(size, any_curve.byteorder), b"\xff" * size):
        with pytest.raises(FormatError, match="order"):
            any_curve.scalar(octets)
    for octets in (b"", bytes(size - 1), bytes(size + 1)):
        with pytest.raises(FormatError, match="octets"):
            any_curve.scalar(octets)


def test_nist_is_big_endian_and_the_others_little() -> None:
    orders = {name: c.byteorder for name, c in CURVES.items()}
    assert [name for name, order in orders.items() if order == "big"] == [
        "P-256",
        "P-384",
        "P-521",
    ]
