"""Ed25519 and Ed448 as full groups, with RFC 8032's encoding read strictly."""

from __future__ import annotations

from typing import Final, cast

from mesh_hsm.curves.group import Affine, Curve, Point
from mesh_hsm.curves.montgomery import square_root
from mesh_hsm.errors import InvalidPointError, UnsupportedError


class EdwardsCurve(Curve):
    """ax² + y² = 1 + dx²y², a a square and d none, so that one addition law serves all points.

    All octets are little-endian. A scalar of Ed448 has 56 octets, an encoded point 57.
    """

    def __init__(
        self,
        name: str,
        algorithm_id: int,
        *,
        p: int,
        n: int,
        h: int,
        a: int,
        d: int,
        base: tuple[int, int],
    ) -> None:
        self.name = name
        self.algorithm_id = algorithm_id
        self.family = "edwards"
        self.byteorder = "little"
        self.field_prime, self.order, self.cofactor = p, n, h
        self.a, self.d = a, d % p
        self.field_size = self.scalar_size = (p.bit_length() + 7) // 8
        self.encoded_size = p.bit_length() // 8 + 1  # room for the sign bit
        self.neutral = Point(self, (0, 1))
        self.base = Point(self, base)

    def lift(self, x: int, odd: bool = False) -> Point:
        """The point whose *y* is given, with even x, or odd. Raises ``InvalidPointError``."""
        y, p = x, self.field_prime
        if not 0 <= y < p:
            raise InvalidPointError(f"a coordinate beyond the field of {self.name}")
        square = (1 - y * y) * pow(self.a - self.d * y * y, -1, p) % p
        root = square_root(square, p)
        if root * root % p != square:
            raise InvalidPointError(f"no point of {self.name} has this coordinate")
        if root & 1 != odd:
            if root == 0:
                raise InvalidPointError(f"the {self.name} point with x = 0 has no odd form")
            root = p - root
        return Point(self, (root, y))

    def decode(self, octets: bytes) -> Point:
        """RFC 8032 §5.1.3, §5.2.3: y < p, and no sign bit with x = 0. The neutral point decodes."""
        if len(octets) != self.encoded_size:
            raise InvalidPointError(f"an {self.name} point has {self.encoded_size} octets")
        value = int.from_bytes(octets, "little")
        sign = 1 << (8 * self.encoded_size - 1)
        return self.lift(value & ~sign, odd=bool(value & sign))

    def decode_x(self, octets: bytes) -> Point:
        """Refused: an Edwards point has no plain form. Raises ``UnsupportedError``."""
        raise UnsupportedError(f"{self.name} has no x-only form")

    def _contains(self, affine: Affine) -> bool:
        if affine is None:
            return False
        x, y = affine
        p = self.field_prime
        if not (0 <= x < p and 0 <= y < p):
            return False
        xx, yy = x * x % p, y * y % p
        return (self.a * xx + yy - 1 - self.d * xx * yy) % p == 0

    def _negate(self, P: Affine) -> Affine:
        x, y = _coordinates(P)
        return -x % self.field_prime, y

    def _add(self, P: Affine, Q: Affine) -> Affine:
        (x1, y1), (x2, y2) = _coordinates(P), _coordinates(Q)
        return self._affine(self._sum((x1, y1, 1), (x2, y2, 1)))

    def _multiply(self, k: int, P: Affine) -> Affine:
        point = (*_coordinates(P), 1)
        product = (0, 1, 1)
        for bit in bin(k)[2:]:
            product = self._sum(product, product)
            if bit == "1":
                product = self._sum(product, point)
        return self._affine(product)

    def _sum(self, P: tuple[int, int, int], Q: tuple[int, int, int]) -> tuple[int, int, int]:
        # Projective, complete (Bernstein, Birkner, Joye, Lange, Peters 2008, §6).
        (X1, Y1, Z1), (X2, Y2, Z2), p = P, Q, self.field_prime
        A = Z1 * Z2 % p
        B = A * A % p
        C, D = X1 * X2 % p, Y1 * Y2 % p
        E = self.d * C * D % p
        F, G = B - E, B + E
        X3 = A * F * ((X1 + Y1) * (X2 + Y2) - C - D) % p
        return X3, A * G * (D - self.a * C) % p, F * G % p

    def _affine(self, P: tuple[int, int, int]) -> Affine:
        X, Y, Z = P
        p = self.field_prime
        inverse = pow(Z, -1, p)
        return X * inverse % p, Y * inverse % p

    def _has_small_order(self, affine: Affine) -> bool:
        return self._multiply(self.cofactor, affine) == self.neutral.affine

    def _encode(self, P: Point) -> bytes:
        sign = P.is_odd << (8 * self.encoded_size - 1)
        return (P.y | sign).to_bytes(self.encoded_size, "little")

    def _agreement_octets(self, P: Point) -> bytes:
        return self._encode(P)


def _coordinates(P: Affine) -> tuple[int, int]:
    # ``_contains`` lets no Edwards point exist without coordinates.
    return cast("tuple[int, int]", P)


ED25519: Final = EdwardsCurve(
    "Ed25519",
    3,
    p=2**255 - 19,
    n=2**252 + 27742317777372353535851937790883648493,
    h=8,
    a=-1,
    d=-121665 * pow(121666, -1, 2**255 - 19),
    base=(
        15112221349535400772501151409588531511454012693041857206046113283949847762202,
        46316835694926478169428394003475163141307993866256225615783033603165251855960,
    ),
)

ED448: Final = EdwardsCurve(
    "Ed448",
    4,
    p=2**448 - 2**224 - 1,
    n=2**446 - 13818066809895115352007386748515426880336692474882178609894547503885,
    h=4,
    a=1,
    d=-39081,
    base=(
        int(
            "22458004029592430018760433409989603624678964163256413424612546168695"
            "0415467406032909029192869357953282578032075146446173674602635247710"
        ),
        int(
            "2988192100784814926760179304439306734375440401540802420959282413"
            "72331506189835876003536878655418784733982303233503462500531545062832660"
        ),
    ),
)
