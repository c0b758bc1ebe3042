"""X25519 and X448 as full groups, with the signed form of their points (threshold §2)."""

from __future__ import annotations

from typing import Final

from mesh_hsm.curves.cubic import CubicCurve
from mesh_hsm.curves.group import Point
from mesh_hsm.errors import InvalidPointError

_SIGN = 0x80


class MontgomeryCurve(CubicCurve):
    """v² = u³ + Au² + u (RFC 7748 §4); all octets little-endian. ``Point.x`` is u, ``.y`` is v."""

    def __init__(
        self, name: str, algorithm_id: int, *, p: int, n: int, h: int, A: int, base: tuple[int, int]
    ) -> None:
        self.name = name
        self.algorithm_id = algorithm_id
        self.family = "montgomery"
        self.byteorder = "little"
        self.field_prime, self.order, self.cofactor = p, n, h
        self.a2, self.a4, self.a6 = A, 1, 0
        self.field_size = self.scalar_size = (p.bit_length() + 7) // 8
        self.encoded_size = self.field_size + 1
        self.neutral = Point(self, None)
        self.base = Point(self, base)

    def decode(self, octets: bytes) -> Point:
        """U little-endian || 80 if v is odd, else 00. Raises ``InvalidPointError``.

        Nothing is masked: u < p, and the sign octet's other bits are zero (threshold §2.5).
        """
        if len(octets) != self.encoded_size:
            raise InvalidPointError(f"a signed {self.name} point has {self.encoded_size} octets")
        sign = octets[-1]
        if sign not in (0, _SIGN):
            raise InvalidPointError(f"the sign octet of a {self.name} point is 00 or 80")
        return self.lift(int.from_bytes(octets[:-1], "little"), odd=sign == _SIGN)

    def decode_x(self, octets: bytes) -> Point:
        """U alone, little-endian, lifted with even v. Raises ``InvalidPointError``."""
        if len(octets) != self.field_size:
            raise InvalidPointError(f"a plain {self.name} value has {self.field_size} octets")
        return self.lift(int.from_bytes(octets, "little"))

    def _ordinate(self, x: int) -> int | None:
        square = self.right_side(x)
        y = square_root(square, self.field_prime)
        return y if y * y % self.field_prime == square else None

    def _shows_small_order(self, x: int) -> bool:
        # hP by u alone, as X:Z (Montgomery 1987); Z = 0 is the neutral element.
        X, Z, p, A = x, 1, self.field_prime, self.a2
        for _ in range(self.cofactor.bit_length() - 1):
            XX, XZ, ZZ = X * X, X * Z, Z * Z
            X, Z = (XX - ZZ) ** 2 % p, 4 * XZ * (XX + A * XZ + ZZ) % p
        return Z == 0

    def _encode(self, P: Point) -> bytes:
        return P.x.to_bytes(self.field_size, "little") + bytes([_SIGN * P.is_odd])

    def _agreement_octets(self, P: Point) -> bytes:
        return P.x.to_bytes(self.field_size, "little")


def square_root(square: int, p: int) -> int:
    """A root mod p = 2^255 - 19 or 2^448 - 2^224 - 1 if there is one; otherwise any number."""
    if p % 4 == 3:
        return pow(square, (p + 1) // 4, p)
    power = pow(2 * square, (p - 5) // 8, p)  # p = 5 mod 8 (Atkin 1992): a single power
    return square * power * (2 * square * power * power - 1) % p


X25519: Final = MontgomeryCurve(
    "X25519",
    1,
    p=2**255 - 19,
    n=2**252 + 27742317777372353535851937790883648493,
    h=8,
    A=486662,
    base=(
        9,
        14781619447589544791020593568409986887264606134616475288964881837755586237401,
    ),
)

X448: Final = MontgomeryCurve(
    "X448",
    2,
    p=2**448 - 2**224 - 1,
    n=2**446 - 13818066809895115352007386748515426880336692474882178609894547503885,
    h=4,
    A=156326,
    base=(
        5,
        int(
            "355293926785568175264127502063783334808976399387714271831880898"
            "435169088786967410002932673765864550910142774147268105838985595290606362"
        ),
    ),
)
