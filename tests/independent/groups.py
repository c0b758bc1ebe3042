"""Opened for the five groups whose points are added: NIST curves, curve25519, curve448.

All are y^2 = x^3 + A x^2 + B x + C over a prime field, so one textbook addition serves. A point is
(x, y), the neutral element None.
"""

from dataclasses import dataclass
from typing import Literal

from .refusal import bad_point, malformed

Point = tuple[int, int] | None


@dataclass(frozen=True)
class Group:
    """A prime-order group with its encodings. `width` is the octets of a coordinate."""

    name: str
    p: int
    A: int
    B: int
    C: int
    n: int
    h: int
    width: int
    base: tuple[int, int]

    @property
    def endian(self) -> Literal["little", "big"]:
        """Byte order of coordinates and scalars (threshold, table at the head)."""
        return "little" if self.name.startswith("X") else "big"

    @property
    def scalar_width(self) -> int:
        """Octets of a scalar mod n, the same as a coordinate's on these five curves."""
        return self.width

    def cubic(self, x: int) -> int:
        """The right-hand side of the curve's equation."""
        return (x**3 + self.A * x * x + self.B * x + self.C) % self.p

    def add(self, P: Point, Q: Point) -> Point:
        """P + Q: chord, tangent, opposite and neutral."""
        if P is None or Q is None:
            return Q if P is None else P
        if P[0] != Q[0]:
            slope = (Q[1] - P[1]) * pow(Q[0] - P[0], -1, self.p)
        elif P[1] != Q[1] or P[1] == 0:
            return None
        else:
            slope = (3 * P[0] ** 2 + 2 * self.A * P[0] + self.B) * pow(2 * P[1], -1, self.p)
        x = (slope * slope - self.A - P[0] - Q[0]) % self.p
        return x, (slope * (P[0] - x) - P[1]) % self.p

    def negate(self, P: Point) -> Point:
        """The opposite of P."""
        return None if P is None else (P[0], -P[1] % self.p)

    def multiply(self, k: int, P: Point) -> Point:
        """K times P, for k >= 0 and not reduced mod n: torsion shows."""
        total: Point = None
        for bit in bin(k)[2:]:
            total = self.add(total, total)
            if bit == "1":
                total = self.add(total, P)
        return total

    def root(self, square: int) -> int | None:
        """A square root mod p, or None."""
        r = pow(square, (self.p + 1) // 4, self.p)
        if self.p % 4 == 1:  # 2^255 - 19
            r = pow(square, (self.p + 3) // 8, self.p)
            if r * r % self.p != square % self.p:
                r = r * pow(2, (self.p - 1) // 4, self.p) % self.p
        return r if r * r % self.p == square % self.p else None

    def lift(self, x: int, odd: bool = False) -> Point:
        """The point with this x and the asked parity of y; refused off the curve."""
        y = self.root(self.cubic(x)) if 0 <= x < self.p else None
        if y is None:
            raise bad_point("no point has this x")
        return x, (y if y % 2 == odd else -y % self.p)

    def sound(self, P: Point) -> Point:
        """P itself if it is neither neutral nor outside the prime-order subgroup."""
        if P is None or (self.h > 1 and self.multiply(self.n, P) is not None):
            raise bad_point("neutral, or outside the prime-order subgroup")
        return P

    def foreign(self, P: Point) -> Point:
        """P itself if a share may be applied to it: not neutral, not of small order."""
        if self.multiply(self.h, P) is None:
            raise bad_point("neutral, or of small order")
        return P

    def agree(self, k: int, P: Point) -> Point:
        """The multiple by k mod n that clears torsion (threshold §6.1)."""
        return self.multiply(self.h * (k * pow(self.h, -1, self.n) % self.n), self.foreign(P))

    def encode(self, P: Point) -> bytes:
        """04 || x || y, or u || sign octet (threshold §2)."""
        if P is None:
            raise bad_point("the neutral element has no encoding")
        x, y = (v.to_bytes(self.width, self.endian) for v in P)
        return x + bytes([0x80 * (P[1] % 2)]) if self.endian == "little" else b"\x04" + x + y

    def decode(self, octets: bytes) -> Point:
        """The point of a signed encoding: exact length, canonical, on the curve."""
        if self.endian == "little":
            if len(octets) != self.width + 1 or octets[-1] not in (0, 0x80):
                raise bad_point("not u and a sign octet")
            return self.lift(int.from_bytes(octets[:-1], "little"), odd=octets[-1] == 0x80)
        if len(octets) != 2 * self.width + 1 or octets[0] != 4:
            raise bad_point("not an uncompressed point")
        x = int.from_bytes(octets[1 : self.width + 1], "big")
        y = int.from_bytes(octets[self.width + 1 :], "big")
        if x >= self.p or y >= self.p or y * y % self.p != self.cubic(x):
            raise bad_point("not on the curve")
        return x, y

    def agreement(self, P: Point) -> bytes:
        """Z: x at field width, u without its sign (hsm-1 §1, dare §2.1)."""
        if P is None or P[0] == 0:
            raise bad_point("an agreement without a result")
        return P[0].to_bytes(self.width, self.endian)

    def scalar(self, octets: bytes) -> int:
        """The integer of scalar octets, which must be below n."""
        if len(octets) != self.scalar_width:
            raise malformed("a scalar of another width")
        return int.from_bytes(octets, self.endian)

    def clamp(self, octets: bytes) -> int:
        """RFC 7748 clamping of private octets, as an integer (not reduced)."""
        k = bytearray(octets)
        k[0] &= 256 - self.h
        if self.width == 32:
            k[31] &= 127
            k[31] |= 64
        else:
            k[55] |= 128
        return int.from_bytes(k, "little")


def _nist(name: str, p: int, b: str, n: str, gx: str, gy: str) -> Group:
    base = (int(gx, 16), int(gy, 16))
    return Group(name, p, 0, -3, int(b, 16), int(n, 16), 1, (p.bit_length() + 7) // 8, base)


def _montgomery(name: str, p: int, A: int, n: int, h: int, u: int, v: int) -> Group:
    return Group(name, p, A, 1, 0, n, h, (p.bit_length() + 7) // 8, (u, v))


_P25519 = 2**255 - 19
_P448 = 2**448 - 2**224 - 1
GROUPS = {
    group.name: group
    for group in (
        _nist(
            "P-256",
            2**256 - 2**224 + 2**192 + 2**96 - 1,
            "5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b",
            "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551",
            "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296",
            "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5",
        ),
        _nist(
            "P-384",
            2**384 - 2**128 - 2**96 + 2**32 - 1,
            "b3312fa7e23ee7e4988e056be3f82d19181d9c6efe8141120314088f5013875a"
            "c656398d8a2ed19d2a85c8edd3ec2aef",
            "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf"
            "581a0db248b0a77aecec196accc52973",
            "aa87ca22be8b05378eb1c71ef320ad746e1d3b628ba79b9859f741e082542a38"
            "5502f25dbf55296c3a545e3872760ab7",
            "3617de4a96262c6f5d9e98bf9292dc29f8f41dbd289a147ce9da3113b5f0b8c0"
            "0a60b1ce1d7e819d7a431d7c90ea0e5f",
        ),
        _nist(
            "P-521",
            2**521 - 1,
            "51953eb9618e1c9a1f929a21a0b68540eea2da725b99b315f3b8b489918ef109"
            "e156193951ec7e937b1652c0bd3bb1bf073573df883d2c34f1ef451fd46b503f00",
            "1fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa"
            "51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409",
            "c6858e06b70404e9cd9e3ecb662395b4429c648139053fb521f828af606b4d3d"
            "baa14b5e77efe75928fe1dc127a2ffa8de3348b3c1856a429bf97e7e31c2e5bd66",
            "11839296a789a3bc0045c8a5fb42c7d1bd998f54449579b446817afbd17273e66"
            "2c97ee72995ef42640c550b9013fad0761353c7086a272c24088be94769fd16650",
        ),
        _montgomery(
            "X25519",
            _P25519,
            486662,
            2**252 + 27742317777372353535851937790883648493,
            8,
            9,
            14781619447589544791020593568409986887264606134616475288964881837755586237401,
        ),
        _montgomery(
            "X448",
            _P448,
            156326,
            2**446 - 13818066809895115352007386748515426880336692474882178609894547503885,
            4,
            5,
            int(
                "355293926785568175264127502063783334808976399387714271831880898435"
                "169088786967410002932673765864550910142774147268105838985595290606362"
            ),
        ),
    )
}
