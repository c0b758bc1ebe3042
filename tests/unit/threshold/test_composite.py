"""Keys over any mix of shares: candidates, certain points, custody (threshold §6, hsm-1 §4)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mesh_hsm.curves import ED25519, P256, P384, X25519, Curve, Point, SecretScalar, XOnly
from mesh_hsm.custody import CustodyClass, CustodyStatement
from mesh_hsm.errors import (
    DeviceError,
    FormatError,
    InvalidPointError,
    MeshHsmError,
    UnsupportedError,
    VerificationError,
)
from mesh_hsm.provider import DeviceKey, Use
from mesh_hsm.threshold import MAX_SHARES, CompositeKey, ScalarShare, combine

Agreement = Callable[[int, Point], bytes]


def make(
    curve: Curve, kinds: str, fake: type, statement: CustodyStatement
) -> tuple[CompositeKey, int, list[DeviceKey]]:
    """A key with a share for each letter: f full-point device, x x-only device, s software."""
    shares: list[DeviceKey] = []
    z = 0
    for index, kind in enumerate(kinds):
        x = SecretScalar.random(curve)
        z += x.value
        if kind == "s":
            label = f"share {index}"
            shares.append(ScalarShare(x, Use.ENCRYPT, label=label, custody=statement))
        else:
            answer = x.times if kind == "f" else x.x_of
            shares.append(fake(x.public(), answer, label=f"device{index}"))
    public = combine([share.public for share in shares])
    return CompositeKey(public, Use.ENCRYPT, shares), z, shares


COUNTS = {
    "f": 1,
    "x": 1,
    "s": 1,
    "ff": 1,
    "fx": 2,
    "fs": 2,
    "xs": 2,
    "xx": 2,
    "ffx": 2,
    "fxs": 4,
    "xxs": 4,
    "xxss": 8,
    "fxxss": 16,
}


@pytest.mark.parametrize(("kinds", "count"), COUNTS.items())
def test_candidates(
    curve: Curve,
    S: Point,
    kinds: str,
    count: int,
    fake: type,
    statement: CustodyStatement,
    library_agreement: Agreement,
) -> None:
    """2^m beside a full point, 2^(m-1) without one; exactly one is the whole key's agreement."""
    key, z, shares = make(curve, kinds, fake, statement)
    candidates = list(key.agreements(S))
    assert len(candidates) == len(set(candidates)) == count
    assert candidates.count(library_agreement(z, S)) == 1
    assert all(len(share.asked) == 1 for share in shares if hasattr(share, "asked"))


@pytest.mark.parametrize("blinded", [False, True], ids=["plain", "blinded"])
@pytest.mark.parametrize("kinds", COUNTS)
def test_agree_gives_the_one_point(
    curve: Curve,
    S: Point,
    kinds: str,
    blinded: bool,
    fake: type,
    statement: CustodyStatement,
    library_agreement: Agreement,
) -> None:
    key, z, _ = make(curve, kinds, fake, statement)
    point = key.agree(S, blinded=blinded)
    assert point.agreement_octets() == library_agreement(z, S)
    assert point == SecretScalar(curve, z % curve.order).times(S)


def test_every_share_is_asked_before_the_first_candidate_is_taken_and_never_again(
    fake: type, statement: CustodyStatement
) -> None:
    key, _, shares = make(P256, "xxf", fake, statement)
    candidates = key.agreements(P256.base.multiply(9))
    assert [len(share.asked) for share in shares] == [1, 1, 1]
    assert len(list(candidates)) == 4
    assert [len(share.asked) for share in shares] == [1, 1, 1]


def test_candidates_are_combined_only_as_they_are_taken(
    fake: type, statement: CustodyStatement, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, _, _ = make(P256, "x" * MAX_SHARES, fake, statement)
    candidates = key.agreements(P256.base.multiply(9))
    made: list[Point] = []
    octets = Point.agreement_octets

    def counted(self: Point) -> bytes:
        made.append(self)
        return octets(self)

    monkeypatch.setattr(Point, "agreement_octets", counted)
    next(candidates)
    assert len(made) == 1
    assert len(list(candidates)) == 2 ** (MAX_SHARES - 1) - 1


def test_candidates_that_cancel_are_skipped(fake: type) -> None:
    """Faulty answers may be opposite points, or on X25519 sum to u = 0: neither is an answer."""
    x, y = SecretScalar(P256, 5), SecretScalar(P256, 7)
    P = P256.base.multiply(3)
    same = [fake(k.public(), lambda S: XOnly(P256, P.x)) for k in (x, y)]
    key = CompositeKey(P256.base.multiply(12), Use.ENCRYPT, same)
    assert list(key.agreements(P256.base)) == [(P + P).agreement_octets()]
    cancelling = [fake(x.public(), lambda S: P), fake(y.public(), lambda S: -P)]
    key = CompositeKey(P256.base.multiply(12), Use.ENCRYPT, cancelling)
    assert list(key.agreements(P256.base)) == []
    with pytest.raises(DeviceError, match="cancel"):
        key.agree(P256.base)
    Q, T = X25519.base.multiply(3), X25519.point(0, 0)
    torsion = [
        fake(X25519.base.multiply(5), lambda S: Q),
        fake(X25519.base.multiply(7), lambda S: T - Q),
    ]
    key = CompositeKey(X25519.base.multiply(12), Use.ENCRYPT, torsion)
    assert list(key.agreements(X25519.base)) == []


def test_the_culprit_is_named(fake: type, statement: CustodyStatement) -> None:
    key, _, shares = make(P384, "fsx", fake, statement)
    culprit = shares[2]
    culprit._answer = lambda S: XOnly(P384, P384.base.multiply(99).x)
    for blinded in (False, True):
        with pytest.raises(DeviceError) as caught:
            key.agree(P384.base.multiply(8), blinded=blinded)
        assert caught.value.uri == str(culprit.uri)


def test_custody_is_that_of_the_strongest_share_and_asked_anew(
    fake: type, statement: CustodyStatement
) -> None:
    key, _, shares = make(P256, "fs", fake, statement)
    whole = key.custody()
    assert whole.theft is whole.loss is CustodyClass.GENERATED
    assert whole.threshold == 2
    assert whole.shares == tuple(share.custody() for share in shares)
    assert not whole.proved
    proved = CompositeKey(key.public, Use.ENCRYPT, shares, proved=True)
    assert proved.custody().proved


def _share(curve: Curve, x: int, use: Use, statement: CustodyStatement) -> ScalarShare:
    return ScalarShare(SecretScalar(curve, x), use, label=str(x), custody=statement)


REFUSED: dict[str, tuple[type[MeshHsmError], Callable[[CustodyStatement, type], object]]] = {
    "a missing share": (
        VerificationError,
        lambda c, f: CompositeKey(
            P256.base.multiply(5), Use.ENCRYPT, [_share(P256, 2, Use.ENCRYPT, c)]
        ),
    ),
    "a stale share": (
        VerificationError,
        lambda c, f: CompositeKey(
            P256.base.multiply(5),
            Use.ENCRYPT,
            [_share(P256, 2, Use.ENCRYPT, c), _share(P256, 4, Use.ENCRYPT, c)],
        ),
    ),
    "the opposite sign of an X25519 key": (
        VerificationError,
        lambda c, f: CompositeKey(-X25519.base, Use.ENCRYPT, [_share(X25519, 1, Use.ENCRYPT, c)]),
    ),
    "a share for another use": (
        FormatError,
        lambda c, f: CompositeKey(P256.base, Use.ENCRYPT, [_share(P256, 1, Use.AUTHENTICATE, c)]),
    ),
    "a signature key": (
        UnsupportedError,
        lambda c, f: CompositeKey(P256.base, Use.SIGN, [_share(P256, 1, Use.ENCRYPT, c)]),
    ),
    "an Edwards key": (
        UnsupportedError,
        lambda c, f: CompositeKey(
            ED25519.base, Use.ENCRYPT, [f(ED25519.base, lambda S: S, Use.ENCRYPT)]
        ),
    ),
    "no share": (FormatError, lambda c, f: CompositeKey(P256.base, Use.ENCRYPT, [])),
    "too many shares": (
        FormatError,
        lambda c, f: CompositeKey(
            P256.base.multiply(9), Use.ENCRYPT, [_share(P256, 1, Use.ENCRYPT, c)] * 9
        ),
    ),
    "shares of two curves": (
        InvalidPointError,
        lambda c, f: CompositeKey(
            P256.base,
            Use.ENCRYPT,
            [_share(P256, 1, Use.ENCRYPT, c), _share(P384, 1, Use.ENCRYPT, c)],
        ),
    ),
    "a device key with torsion": (
        InvalidPointError,
        lambda c, f: CompositeKey(
            X25519.base + X25519.point(0, 0),
            Use.ENCRYPT,
            [f(X25519.base + X25519.point(0, 0), lambda S: S)],
        ),
    ),
}


@pytest.mark.parametrize(("expected", "build"), REFUSED.values(), ids=REFUSED)
def test_refused_keys(
    expected: type[MeshHsmError],
    build: Callable[[CustodyStatement, type], object],
    fake: type,
    statement: CustodyStatement,
) -> None:
    with pytest.raises(expected) as caught:
        build(statement, fake)
    assert type(caught.value) is expected


FOREIGN: dict[str, Point] = {
    "the neutral point": P256.neutral,
    "a point of another curve": P384.base,
}


@pytest.mark.parametrize("S", FOREIGN.values(), ids=FOREIGN)
def test_no_device_sees_a_hostile_point(S: Point, fake: type, statement: CustodyStatement) -> None:
    key, _, shares = make(P256, "fx", fake, statement)
    for ask in (key.agreements, key.agree):
        with pytest.raises(InvalidPointError):
            ask(S)
    assert [share.asked for share in shares] == [[], []]
