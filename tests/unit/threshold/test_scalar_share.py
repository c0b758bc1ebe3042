"""The software share: an x-only device like any other (threshold §6.1, §10)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mesh_hsm.curves import P256, X448, X25519, Curve, Point, SecretScalar, XOnly
from mesh_hsm.custody import CustodyStatement
from mesh_hsm.errors import InvalidPointError, UnsupportedError
from mesh_hsm.provider import Use
from mesh_hsm.threshold import CompositeKey, ScalarShare


def test_it_answers_as_the_library_does(
    curve: Curve,
    S: Point,
    statement: CustodyStatement,
    library_agreement: Callable[[int, Point], bytes],
) -> None:
    y = SecretScalar.random(curve)
    share = ScalarShare(y, Use.ENCRYPT, label="contribution", custody=statement)
    answer = share.agree(S)
    assert isinstance(answer, XOnly)
    assert answer.octets() == library_agreement(y.value, S)
    assert share.public == y.public()
    assert share.custody() is statement


def test_it_names_itself_and_shows_no_scalar(statement: CustodyStatement) -> None:
    y = SecretScalar(P256, 0x1234567890ABCDEF)
    share = ScalarShare(y, Use.AUTHENTICATE, label="my share", custody=statement)
    assert str(share.uri) == "share:label=my%20share"
    for text in (repr(share), str(share), repr(vars(share))):
        assert "1234567890abcdef" not in text.lower()
        assert str(0x1234567890ABCDEF) not in text


def test_it_does_not_sign(statement: CustodyStatement) -> None:
    with pytest.raises(UnsupportedError):
        ScalarShare(SecretScalar.random(P256), Use.SIGN, label="no", custody=statement)
    share = ScalarShare(SecretScalar.random(P256), Use.ENCRYPT, label="y", custody=statement)
    with pytest.raises(UnsupportedError):
        share.sign(bytes(32))


@pytest.mark.parametrize("curve", [X25519, X448], ids=str)
@pytest.mark.parametrize("y", [1, 3, 7, 9, 2**200 + 5])
def test_a_small_order_part_of_a_foreign_point_tells_nothing_about_y(
    curve: Curve, y: int, torsion: Callable[[Curve], list[Point]], statement: CustodyStatement
) -> None:
    """threshold §6.1: S + T gives what S gives, for all 7 and all 3 torsion points."""
    share = ScalarShare(SecretScalar(curve, y), Use.ENCRYPT, label="y", custody=statement)
    key = CompositeKey(share.public, Use.ENCRYPT, [share])
    S = curve.base.multiply(31337)
    clean = key.agree(S)
    assert clean == S.multiply(y)
    points = torsion(curve)
    assert len(points) == len(set(points)) == curve.cofactor - 1
    for T in points:
        assert share.agree(S + T) == share.agree(S)
        assert key.agree(S + T) == clean
        assert key.agree(S + T, blinded=True) == clean
        with pytest.raises(InvalidPointError):
            share.agree(T)
    with pytest.raises(InvalidPointError):
        share.agree(curve.neutral)
