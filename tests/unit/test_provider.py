"""The contract's own checks, on a device that does as it is told."""

from __future__ import annotations

import pytest

from mesh_hsm.curves import CURVES, P256, P384, X25519, Point, SecretScalar, XOnly, curve
from mesh_hsm.custody import CustodyClass, CustodyStatement, Hardware
from mesh_hsm.errors import DeviceError, FormatError, InvalidPointError, UnsupportedError
from mesh_hsm.provider import Capability, DeviceKey, KeySpec, Primitive, Use
from mesh_hsm.uri import Uri


class Obedient(DeviceKey):
    """A key that answers what it was given to answer, and counts."""

    def __init__(self, public: Point, use: Use, answer: Point | XOnly | bytes) -> None:
        self.uri, self.label, self.public, self.use = Uri("test"), "obedient", public, use
        self.answer, self.calls = answer, 0

    def custody(self) -> CustodyStatement:
        return CustodyStatement(CustodyClass.UNKNOWN, Hardware.NONE, "test")

    def _agree(self, point: Point) -> Point | XOnly:
        self.calls += 1
        assert not isinstance(self.answer, bytes)
        return self.answer

    def _sign(self, octets: bytes) -> bytes:
        self.calls += 1
        assert isinstance(self.answer, bytes)
        return self.answer


class Bare(Obedient):
    """A key of a provider that overrides neither primitive."""

    _agree = DeviceKey._agree
    _sign = DeviceKey._sign


@pytest.mark.parametrize("name", [n for n, c in CURVES.items() if c.family != "edwards"])
def test_good_answers_come_back_as_they_are(name: str) -> None:
    x = SecretScalar.random(curve(name))
    S = SecretScalar.random(x.curve).public()
    for answer in (x.times(S), x.x_of(S)):
        assert Obedient(x.public(), Use.ENCRYPT, answer).agree(S) == answer


def test_a_point_of_another_curve_is_not_sent() -> None:
    key = Obedient(P256.base, Use.ENCRYPT, P256.base)
    with pytest.raises(InvalidPointError):
        key.agree(P384.base)
    assert key.calls == 0


def test_an_answer_on_another_curve_is_a_device_error() -> None:
    for answer in (P384.base, XOnly(P384, P384.base.x)):
        with pytest.raises(DeviceError, match="another curve"):
            Obedient(P256.base, Use.ENCRYPT, answer).agree(P256.base)


@pytest.mark.parametrize("answer", [P256.neutral, XOnly(P256, 0), XOnly(P256, P256.field_prime)])
def test_bad_answers_are_device_errors(answer: Point | XOnly) -> None:
    with pytest.raises(DeviceError, match="bad answer") as caught:
        Obedient(P256.base, Use.AUTHENTICATE, answer).agree(P256.base)
    assert caught.value.uri == "test:"


def test_neutral_is_not_sent() -> None:
    key = Obedient(X25519.base, Use.ENCRYPT, X25519.base)
    with pytest.raises(InvalidPointError):
        key.agree(X25519.neutral)
    assert key.calls == 0


def test_one_key_one_use() -> None:
    with pytest.raises(UnsupportedError):
        Obedient(P256.base, Use.SIGN, P256.base).agree(P256.base)
    for use in (Use.ENCRYPT, Use.AUTHENTICATE):
        with pytest.raises(UnsupportedError):
            Obedient(P256.base, use, bytes(64)).sign(bytes(32))


@pytest.mark.parametrize("size", [0, 31, 33, 48])
def test_only_whole_digests_are_sent(size: int) -> None:
    key = Obedient(P256.base, Use.SIGN, bytes(64))
    with pytest.raises(FormatError, match="32 octets"):
        key.sign(bytes(size))
    assert key.calls == 0


def test_a_signature_that_does_not_verify_is_not_released() -> None:
    with pytest.raises(DeviceError, match="does not verify"):
        Obedient(P256.base, Use.SIGN, b"\1" * 64).sign(bytes(32))


def test_a_key_that_lacks_a_primitive_says_so() -> None:
    with pytest.raises(UnsupportedError):
        Bare(P256.base, Use.ENCRYPT, b"").agree(P256.base)
    with pytest.raises(UnsupportedError):
        Bare(P256.base, Use.SIGN, b"").sign(bytes(32))


def test_uses_know_their_primitives() -> None:
    assert Use.SIGN.primitives == {Primitive.SIGN}
    assert Use.ENCRYPT.primitives == Use.AUTHENTICATE.primitives
    assert Primitive.SIGN not in Use.ENCRYPT.primitives


@pytest.mark.parametrize("label", ["", "x" * 65, "a\tb", "\x1b[2J", "a\u2028b"])
def test_labels_obey_no_terminal(label: str) -> None:
    with pytest.raises(FormatError):
        KeySpec("P-256", Use.SIGN, label)


@pytest.mark.parametrize("custody", CustodyClass)
def test_what_may_leave_a_device_needs_consent(custody: CustodyClass) -> None:
    may_leave = custody in (CustodyClass.EXPORTABLE, CustodyClass.UNKNOWN)
    assert Capability("P-256", Primitive.SIGN, custody).needs_consent is may_leave
    assert not KeySpec("P-256", Use.SIGN, "a").allow_exportable
