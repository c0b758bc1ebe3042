"""Named bad encodings and the error that each must give: hsm-1 §1, threshold §2.5, RFC 8032 §5."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mesh_hsm.curves import ED448, ED25519, P256, P384, P521, X448, X25519, Curve, XOnly
from mesh_hsm.errors import InvalidPointError, UnsupportedError

P25519, P448 = X25519.field_prime, X448.field_prime


def little(value: int, size: int) -> bytes:
    return value.to_bytes(size, "little")


def with_bit(octets: bytes, bit: int) -> bytes:
    value = int.from_bytes(octets, "little") ^ 1 << bit
    return value.to_bytes(len(octets), "little")


G256, G384, G521 = P256.base.encode(), P384.base.encode(), P521.base.encode()
G25519, G448 = X25519.base.encode(), X448.base.encode()

HOSTILE: dict[str, tuple[Curve, bytes]] = {
    "P-256 empty": (P256, b""),
    "P-256 neutral, one octet": (P256, b"\x00"),
    "P-256 neutral, full width": (P256, bytes(65)),
    "P-256 truncated": (P256, G256[:-1]),
    "P-256 oversized": (P256, G256 + b"\x00"),
    "P-256 without its prefix": (P256, G256[1:]),
    "P-256 wrong prefix 05": (P256, b"\x05" + G256[1:]),
    "P-256 hybrid prefix 06": (P256, b"\x06" + G256[1:]),
    "P-256 hybrid prefix 07": (P256, b"\x07" + G256[1:]),
    "P-256 compressed prefix on a full point": (P256, b"\x02" + G256[1:]),
    "P-256 full prefix on a compressed point": (P256, G256[:33]),
    "P-256 off the curve": (P256, G256[:-1] + bytes([G256[-1] ^ 1])),
    "P-256 x = y = 0": (P256, b"\x04" + bytes(64)),
    "P-256 x + p": (
        P256,
        # x = 5 is the smallest positive x that has a point; x + p still fits into 32 octets.
        b"\x02" + (P256.field_prime + 5).to_bytes(32, "big"),
    ),
    "P-256 y + p": (P256, G256[:33] + b"\xff" * 32),
    "P-256 compressed, no such x": (P256, b"\x02" + (1).to_bytes(32, "big")),
    "P-256 compressed, truncated": (P256, b"\x03" + G256[1:32]),
    "P-256 point of another curve": (P256, G384),
    "P-384 off the curve": (P384, G384[:-1] + bytes([G384[-1] ^ 1])),
    "P-384 truncated": (P384, G384[:-1]),
    "P-384 point of another curve": (P384, G256),
    "P-521 without leading zeros": (P521, b"\x04" + G521[2:67] + G521[68:]),
    "P-521 off the curve": (P521, G521[:-1] + bytes([G521[-1] ^ 1])),
    "P-521 beyond the field": (P521, b"\x02" + (P521.field_prime + 1).to_bytes(66, "big")),
    "X25519 empty": (X25519, b""),
    "X25519 unsigned": (X25519, G25519[:-1]),
    "X25519 in X448's size": (X25519, G25519[:-1] + bytes(24) + G25519[-1:]),
    "X25519 sign octet 01": (X25519, G25519[:-1] + b"\x01"),
    "X25519 sign octet 81": (X25519, G25519[:-1] + b"\x81"),
    "X25519 sign octet ff": (X25519, G25519[:-1] + b"\xff"),
    "X25519 top bit of octet 31": (X25519, with_bit(G25519, 255)),
    "X25519 u = p": (X25519, little(P25519, 32) + b"\x00"),
    "X25519 u = p + 9": (X25519, little(P25519 + 9, 32) + b"\x00"),
    "X25519 twist u = 2": (X25519, little(2, 32) + b"\x00"),
    "X25519 twist u = -1, order 4": (X25519, little(P25519 - 1, 32) + b"\x00"),
    "X25519 u = 0 with a sign": (X25519, little(0, 32) + b"\x80"),
    "X448 empty": (X448, b""),
    "X448 unsigned": (X448, G448[:-1]),
    "X448 oversized": (X448, G448 + b"\x00"),
    "X448 sign octet 40": (X448, G448[:-1] + b"\x40"),
    "X448 u = p": (X448, little(P448, 56) + b"\x00"),
    "X448 u = p + 5": (X448, little(P448 + 5, 56) + b"\x80"),
    "X448 all ones": (X448, b"\xff" * 56 + b"\x80"),
    "X448 twist u = 6": (X448, little(6, 56) + b"\x00"),
    "X448 u = 0 with a sign": (X448, little(0, 56) + b"\x80"),
    "Ed25519 empty": (ED25519, b""),
    "Ed25519 truncated": (ED25519, ED25519.base.encode()[:-1]),
    "Ed25519 oversized": (ED25519, ED25519.base.encode() + b"\x00"),
    "Ed25519 y = p": (ED25519, little(P25519, 32)),
    "Ed25519 y = p + 1, a neutral alias": (ED25519, little(P25519 + 1, 32)),
    "Ed25519 y = p + 3": (ED25519, little(P25519 + 3, 32)),
    "Ed25519 x = 0 with a sign, y = 1": (ED25519, with_bit(little(1, 32), 255)),
    "Ed25519 x = 0 with a sign, y = -1": (ED25519, with_bit(little(P25519 - 1, 32), 255)),
    "Ed25519 off the curve": (ED25519, little(2, 32)),
    "Ed448 empty": (ED448, b""),
    "Ed448 truncated to 56": (ED448, ED448.base.encode()[:-1]),
    "Ed448 oversized": (ED448, ED448.base.encode() + b"\x00"),
    "Ed448 low bit of octet 56": (ED448, with_bit(ED448.base.encode(), 448)),
    "Ed448 y = p": (ED448, little(P448, 57)),
    "Ed448 y = p + 1, a neutral alias": (ED448, little(P448 + 1, 57)),
    "Ed448 x = 0 with a sign": (ED448, with_bit(little(1, 57), 455)),
    "Ed448 off the curve": (ED448, little(2, 57)),
}

HOSTILE_PLAIN: dict[str, tuple[Curve, bytes]] = {
    "P-256 empty": (P256, b""),
    "P-256 full form": (P256, G256),
    "P-256 no such x": (P256, (1).to_bytes(32, "big")),
    "P-256 beyond the field": (P256, b"\xff" * 32),
    "X25519 signed form": (X25519, G25519),
    "X25519 top bit, which RFC 7748 would mask": (X25519, with_bit(little(9, 32), 255)),
    "X25519 u = p + 9": (X25519, little(P25519 + 9, 32)),
    "X25519 twist": (X25519, little(2, 32)),
    "X448 signed form": (X448, G448),
    "X448 u = p": (X448, little(P448, 56)),
    "X448 twist": (X448, little(6, 56)),
}


@pytest.mark.parametrize(("curve", "octets"), HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_encoding_is_refused(curve: Curve, octets: bytes) -> None:
    with pytest.raises(InvalidPointError) as caught:
        curve.decode(octets)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("curve", "octets"), HOSTILE_PLAIN.values(), ids=HOSTILE_PLAIN.keys())
def test_hostile_plain_encoding_is_refused(curve: Curve, octets: bytes) -> None:
    with pytest.raises(InvalidPointError):
        curve.decode_x(octets)


def test_the_table_differs_from_good_points_only_where_it_says() -> None:
    # Guards the table itself: the unaltered neighbours of the entries above decode.
    assert P256.decode(b"\x02" + (5).to_bytes(32, "big")).x == 5
    assert X25519.decode(little(9, 32) + b"\x80").x == 9
    assert X25519.decode(little(0, 32) + b"\x00").has_small_order
    assert ED25519.decode(little(1, 32)).is_neutral
    assert ED25519.decode(little(P25519 - 1, 32)).has_small_order
    assert ED25519.decode(little(3, 32)).y == 3
    assert ED448.decode(little(1, 57)).is_neutral


def test_edwards_points_have_no_plain_form() -> None:
    for curve in (ED25519, ED448):
        with pytest.raises(UnsupportedError):
            curve.decode_x(bytes(curve.field_size))


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_what_decodes_encodes_to_the_same_octets(any_curve: Curve, data: st.DataObject) -> None:
    size = any_curve.encoded_size
    octets = bytearray(data.draw(st.binary(min_size=size, max_size=size)))
    if any_curve.family == "weierstrass":
        octets = octets[: 1 + any_curve.field_size]
        octets[0] = 2 + octets[0] % 2
        octets[1] &= 1 if any_curve is P521 else 0xFF
    elif any_curve is not ED25519:
        octets[-1] &= 0x80
    try:
        point = any_curve.decode(bytes(octets))
    except InvalidPointError:
        return
    if any_curve.family == "weierstrass":
        assert bytes([2 + point.is_odd]) + XOnly(any_curve, point.x).octets() == octets
    else:
        assert point.encode() == octets


class TestXOnly:
    def test_octets_and_decode(self, x_curve: Curve) -> None:
        octets = x_curve.base.agreement_octets()
        answer = XOnly.decode(x_curve, octets)
        assert answer == XOnly(x_curve, x_curve.base.x)
        assert answer.octets() == octets
        answer.check_answer()

    def test_lifts_even_first(self, x_curve: Curve) -> None:
        even, odd = XOnly(x_curve, x_curve.base.x).lifts()
        assert {even, odd} == {x_curve.base, -x_curve.base}
        assert not even.is_odd
        assert odd.is_odd

    def test_wrong_length(self, x_curve: Curve) -> None:
        for size in (0, x_curve.field_size - 1, x_curve.field_size + 1):
            with pytest.raises(InvalidPointError, match="octets"):
                XOnly.decode(x_curve, bytes(size))

    def test_bad_answers(self, x_curve: Curve) -> None:
        p = x_curve.field_prime
        twist = next(x for x in range(1, 100) if not _has_point(x_curve, x))
        for x in (0, twist, p, p + x_curve.base.x, -1):
            with pytest.raises(InvalidPointError):
                XOnly(x_curve, x).check_answer()
        for x in (p, -1):
            with pytest.raises(InvalidPointError):
                XOnly(x_curve, x).octets()

    def test_small_order_answers(self) -> None:
        with pytest.raises(InvalidPointError):
            XOnly(X25519, 1).check_answer()
        with pytest.raises(InvalidPointError):
            XOnly(X448, 1).check_answer()


def _has_point(curve: Curve, x: int) -> bool:
    try:
        curve.lift(x)
    except InvalidPointError:
        return False
    return True
