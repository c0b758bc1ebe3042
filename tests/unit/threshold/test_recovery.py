"""Full points from x-only devices: faults, wrong keys and lies (threshold §6(b), hsm-1 §9)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mesh_hsm.curves import P256, P384, X448, X25519, Curve, Point, SecretScalar, XOnly
from mesh_hsm.custody import CustodyStatement
from mesh_hsm.errors import DeviceError, InvalidPointError, UnsupportedError
from mesh_hsm.provider import DeviceKey, Use
from mesh_hsm.threshold import ScalarShare, recover_blinded, recover_plain

Recover = Callable[[DeviceKey, Point], Point]
both = pytest.mark.parametrize("recover", [recover_plain, recover_blinded])


def x_only(point: Point) -> XOnly:
    return XOnly(point.curve, point.x)


@both
def test_an_honest_x_only_device_gives_its_point(
    recover: Recover, curve: Curve, fake: type, statement: CustodyStatement
) -> None:
    for _ in range(5):
        x, s = SecretScalar.random(curve), SecretScalar.random(curve)
        device = fake(x.public(), x.x_of)
        assert recover(device, s.public()) == s.times(x.public())
        assert len(device.asked) == 2


@both
def test_either_sign_of_a_device_key_is_consistent(
    recover: Recover, curve: Curve, fake: type
) -> None:
    """A Montgomery device's public has no sign: with the other lift the scalar is -x."""
    x, s = SecretScalar.random(curve), SecretScalar.random(curve)
    for X in (x.public(), -x.public()):
        device = fake(X, x.x_of)
        assert recover(device, s.public()) == s.times(X)
        assert recover(device, -s.public()) == -s.times(X)


def test_a_full_point_device_is_asked_once_plainly_and_twice_when_checked(
    curve: Curve, S: Point, fake: type
) -> None:
    x = SecretScalar.random(curve)
    for recover, calls in ((recover_plain, 1), (recover_blinded, 2)):
        device = fake(x.public(), x.times)
        assert recover(device, S) == x.times(S)
        assert len(device.asked) == calls


@both
def test_the_base_point_its_opposite_and_their_neighbours(
    recover: Recover, curve: Curve, fake: type, torsion: Callable[[Curve], list[Point]]
) -> None:
    """S = G makes x1 = xX, S = -G makes S + G neutral; with torsion added, neither is plain."""
    x, G = SecretScalar.random(curve), curve.base
    device = fake(x.public(), x.x_of)
    small = torsion(curve) if curve.family == "montgomery" else []
    for i in (1, -1, 2, -2, 3, -3):
        for T in (curve.neutral, *small):
            expected = x.public().multiply(i)
            assert recover(device, G.multiply(i) + T) == expected


@both
def test_a_mixture_of_full_and_x_only_answers(
    recover: Recover, curve: Curve, S: Point, fake: type
) -> None:
    x = SecretScalar.random(curve)
    device = fake(x.public(), lambda P: x.x_of(P) if P == S else x.times(P))
    assert recover(device, S) == x.times(S)
    if recover is recover_blinded:
        device = fake(x.public(), lambda P: x.times(P) if P == S else x.x_of(P))
        assert recover(device, S) == x.times(S)


def faulty(curve: Curve, x: SecretScalar, S: Point) -> dict[str, Callable[[Point], Point | XOnly]]:
    """Named faults: each answers S or the second question wrongly."""
    wrong = x_only(SecretScalar.random(curve).public())
    other = SecretScalar.random(curve)
    return {
        "first answer random": lambda P: wrong if P == S else x.x_of(P),
        "second answer random": lambda P: x.x_of(P) if P == S else wrong,
        "another key": other.x_of,
        "the same answer twice": lambda P: x.x_of(S),
        "the point itself": x_only,
        "its own public key": lambda P: x_only(x.public()),
        "the base point": lambda P: x_only(curve.base),
    }


FAULTS = list(faulty(P256, SecretScalar(P256, 2), P256.base))


@both
@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_device_is_named(
    recover: Recover, curve: Curve, S: Point, fault: str, fake: type
) -> None:
    x = SecretScalar.random(curve)
    device = fake(x.public(), faulty(curve, x, S)[fault])
    with pytest.raises(DeviceError) as caught:
        recover(device, S)
    assert caught.value.uri == "fake:key=fake"
    assert caught.value.hint


@both
@pytest.mark.parametrize("value", [0, 1, P384.field_prime, 2**384])
def test_values_that_belong_to_no_point(recover: Recover, value: int, fake: type) -> None:
    assert value == 0 or not _on_curve(P384, value)
    x = SecretScalar.random(P384)
    with pytest.raises(DeviceError):
        recover(fake(x.public(), lambda P: XOnly(P384, value)), P384.base.multiply(77))


def liar(X: Point, claim: Point, S: Point) -> Callable[[Point], XOnly]:
    """Answers x(P') to S and x(P' + X) to S + G, for a P' of its own choice."""
    return lambda P: x_only(claim) if P == S else x_only(claim + X)


def test_lying_device(curve: Curve, S: Point, fake: type) -> None:
    """A consistent lie passes plain recovery and not the blinded one (hsm-1 §9)."""
    x = SecretScalar.random(curve)
    claim = SecretScalar.random(curve).public()
    lies = liar(x.public(), claim, S)
    assert recover_plain(fake(x.public(), lies), S) == claim != x.times(S)
    with pytest.raises(DeviceError) as caught:
        recover_blinded(fake(x.public(), lies), S)
    assert caught.value.uri == "fake:key=fake"


def test_lying_full_point_device(curve: Curve, S: Point, fake: type) -> None:
    """Even one that honestly answers every question but the first."""
    x = SecretScalar.random(curve)
    claim = SecretScalar.random(curve).public()
    answers: list[Callable[[Point], Point]] = [
        lambda P: claim if P == S else x.times(P),
        lambda P: -x.times(P) if P == S else x.times(P),
        lambda P: claim,
        lambda P: x.times(P) if P == S else -x.times(P),
    ]
    for answer in answers:
        with pytest.raises(DeviceError):
            recover_blinded(fake(x.public(), answer), S)


@pytest.mark.parametrize("curve", [X25519, X448], ids=str)
@pytest.mark.parametrize("full", [True, False], ids=["full point", "x only"])
def test_a_lie_by_torsion(
    curve: Curve, full: bool, torsion: Callable[[Curve], list[Point]], fake: type
) -> None:
    """xS + T with T of small order is refused, though the blinding scalar would hide T."""
    x, S = SecretScalar.random(curve), SecretScalar.random(curve).public()
    for T in torsion(curve):

        def answer(P: Point, T: Point = T) -> Point | XOnly:
            honest = x.times(P) + T if P == S else x.times(P)
            return honest if full else x_only(honest)

        with pytest.raises(DeviceError):
            recover_blinded(fake(x.public(), answer), S)


def test_every_blinding_is_new(curve: Curve, S: Point, fake: type) -> None:
    x = SecretScalar.random(curve)
    device = fake(x.public(), x.x_of)
    for _ in range(4):
        recover_blinded(device, S)
    assert device.asked[::2] == [S] * 4
    assert len(set(device.asked[1::2]) - {S, S + curve.base}) == 4


@both
def test_what_agree_refuses_is_passed_on(
    recover: Recover, statement: CustodyStatement, fake: type
) -> None:
    share = ScalarShare(SecretScalar.random(P384), Use.ENCRYPT, label="y", custody=statement)
    for S in (P384.neutral, P256.base):
        with pytest.raises(InvalidPointError):
            recover(share, S)
    signer = fake(share.public, x_only, Use.SIGN)
    with pytest.raises(UnsupportedError):
        recover(signer, P384.base)


def _on_curve(curve: Curve, x: int) -> bool:
    try:
        curve.lift(x)
    except InvalidPointError:
        return False
    return True
