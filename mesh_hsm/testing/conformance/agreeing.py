"""Promise: ``agree`` multiplies, sees no hostile point, and lets no bad answer out."""
# ruff: noqa: S101  the kit is made of assertions

from __future__ import annotations

from collections.abc import Callable

import pytest

from mesh_hsm.curves import CURVES, Curve, Point, SecretScalar, XOnly, curve, recover
from mesh_hsm.errors import DeviceError, InvalidPointError, UnsupportedError
from mesh_hsm.provider import DeviceKey, Token, Use
from mesh_hsm.testing.conformance.bench import Kit, make

AGREEING = [name for name, c in CURVES.items() if c.family != "edwards"]
# u of points of order 2, 4 and 8; which of them are on the curve is for the curve to say.
_SMALL = (
    0,
    1,
    -1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
)


def small_order_points(c: Curve) -> list[Point]:
    """The points of small order of a Montgomery curve, except the neutral one."""
    found = []
    for u in _SMALL:
        try:
            P = c.lift(u % c.field_prime)
        except InvalidPointError:
            continue
        if P.has_small_order:
            found.append(P)
    return found


def forged(c: Curve) -> Point:
    """A point object beside the curve, made past its constructor."""
    P: Point = object.__new__(Point)
    object.__setattr__(P, "curve", c)
    object.__setattr__(P, "affine", (c.base.x, (c.base.y + 1) % c.field_prime))
    return P


def _other(c: Curve) -> Curve:
    return curve("X448" if c.name != "X448" else "P-384")


HOSTILE: dict[str, Callable[[Curve], list[Point]]] = {
    "neutral": lambda c: [c.neutral],
    "small order": lambda c: small_order_points(c) if c.family == "montgomery" else [],
    "another curve": lambda c: [_other(c).base],
    "beside the curve": lambda c: [forged(c)],
}

LIES: dict[str, Callable[[Curve], list[Point | XOnly]]] = {
    "neutral": lambda c: [c.neutral],
    "zero": lambda c: [XOnly(c, 0)],
    "beyond the field": lambda c: [XOnly(c, c.field_prime), XOnly(c, c.base.x + c.field_prime)],
    "on the twist": lambda c: [_twisted(c)],
    "small order": lambda c: [*small_order_points(c)] if c.family == "montgomery" else [],
    "another curve": lambda c: [_other(c).base, XOnly(_other(c), _other(c).base.x)],
    "beside the curve": lambda c: [forged(c)],
}


def _twisted(c: Curve) -> XOnly:
    x = 2
    while True:
        try:
            c.lift(x)
        except InvalidPointError:
            return XOnly(c, x)
        x += 1


class Agreeing(Kit):
    """Key agreement on every curve that the device offers."""

    @pytest.mark.parametrize("algorithm", AGREEING)
    def test_both_sides_agree(self, token: Token, algorithm: str) -> None:
        """x·S from the device is s·X from the library, in full where it is said in full."""
        key = make(token, Use.ENCRYPT, algorithm=algorithm)
        c = key.public.curve
        for _ in range(4):
            peer = SecretScalar.random(c)
            S = peer.public()
            answer = key.agree(S)
            if isinstance(answer, Point):
                assert answer == peer.times(key.public)
                assert key.agree(-S) == -answer
            else:
                assert answer == peer.x_of(key.public) == key.agree(-S)
                # The sign of X is the sign of x (threshold §6(b)), not just any lift.
                x3 = key.agree(S + c.base)
                assert isinstance(x3, XOnly)
                assert recover(key.public, answer, x3) == peer.times(key.public)

    @pytest.mark.parametrize("algorithm", AGREEING)
    def test_the_base_point_gives_the_public_key(self, token: Token, algorithm: str) -> None:
        """x·G = X: private and public belong together."""
        key = make(token, Use.AUTHENTICATE, algorithm=algorithm)
        answer = key.agree(key.public.curve.base)
        assert answer.x == key.public.x
        assert answer == key.public or isinstance(answer, XOnly)

    @pytest.mark.parametrize("algorithm", ["X25519", "X448"])
    def test_torsion_is_cleared_or_refused(self, token: Token, algorithm: str) -> None:
        """S + T, T of small order, gives what S gives: no scalar mod h leaks (threshold §6.1)."""
        key = make(token, Use.ENCRYPT, algorithm=algorithm)
        S = SecretScalar.random(key.public.curve).public()
        torsion = small_order_points(key.public.curve)
        assert torsion
        for T in torsion:
            try:
                answer = key.agree(S + T)
            except InvalidPointError:
                continue
            assert answer == key.agree(S)

    @pytest.mark.parametrize("algorithm", AGREEING)
    def test_hostile_points_do_not_reach_the_device(
        self, token: Token, algorithm: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Every point of ``HOSTILE`` is refused before anything is sent."""
        key = make(token, Use.ENCRYPT, algorithm=algorithm)
        reached: list[Point] = []
        monkeypatch.setattr(type(key), "_agree", lambda self, point: reached.append(point))
        points = [(name, P) for name, some in HOSTILE.items() for P in some(key.public.curve)]
        assert {name for name, P in points} >= {"neutral", "another curve", "beside the curve"}
        accepted = [name for name, P in points if not _raises(InvalidPointError, key, P)]
        assert accepted == []
        assert reached == []

    @pytest.mark.parametrize("algorithm", AGREEING)
    def test_bad_answers_do_not_leave_the_device_key(
        self, token: Token, algorithm: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What a broken device answers, every answer of ``LIES``, becomes ``DeviceError``."""
        key = make(token, Use.ENCRYPT, algorithm=algorithm)
        c = key.public.curve
        for name, lies in LIES.items():
            for answer in lies(c):
                monkeypatch.setattr(type(key), "_agree", lambda self, point, a=answer: a)
                assert _raises(DeviceError, key, c.base), name

    def test_a_signature_key_does_not_agree(self, token: Token) -> None:
        """One key, one use."""
        key = make(token, Use.SIGN)
        with pytest.raises(UnsupportedError):
            key.agree(key.public)

    def test_checks_are_the_contracts_own(self, token: Token) -> None:
        """A provider overrides ``_agree`` and ``_sign``, never the checks around them."""
        kind = type(make(token, Use.ENCRYPT))
        assert (kind.agree, kind.sign) == (DeviceKey.agree, DeviceKey.sign)


def _raises(kind: type[Exception], key: DeviceKey, S: Point) -> bool:
    try:
        key.agree(S)
    except kind:
        return True
    return False
