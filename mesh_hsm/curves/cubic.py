"""Chord and tangent on y² = x³ + a₂x² + a₄x + a₆: one arithmetic for NIST and Montgomery curves.

Open this file to check an addition. threshold §2.6; a single addition is affine (one inversion),
a multiple is computed in Jacobian coordinates.
"""

from __future__ import annotations

import secrets
from abc import abstractmethod

from mesh_hsm.curves.group import Affine, Curve, Point
from mesh_hsm.errors import InvalidPointError


class CubicCurve(Curve):
    """A curve in Weierstrass or Montgomery form over a prime field."""

    a2: int
    a4: int
    a6: int

    def right_side(self, x: int) -> int:
        """f(x) = x³ + a₂x² + a₄x + a₆ mod p."""
        return (((x + self.a2) * x + self.a4) * x + self.a6) % self.field_prime

    def lift(self, x: int, odd: bool = False) -> Point:
        """The point with this x (u) and even y (v), or odd. Raises ``InvalidPointError``."""
        self._check_range(x)
        y = self._ordinate(x)
        if y is None:
            raise InvalidPointError(f"no point of {self.name} has this coordinate")
        if y & 1 != odd:
            if y == 0:
                raise InvalidPointError(f"the point of {self.name} with y = 0 has no odd form")
            y = self.field_prime - y
        return Point(self, (x, y))

    def check_x(self, x: int) -> None:
        """Refuse an x (u) of no point, or of one of small order. Raises ``InvalidPointError``.

        No square root is taken: whether there is one costs a tenth of it.
        """
        self._check_range(x)
        p = self.field_prime
        # x is the secret that a device has just agreed on. Times a random square, which changes
        # nothing in the answer, the number of steps that it takes tells nothing of x.
        blind = 1 + secrets.randbelow(p - 1)
        if legendre(self.right_side(x) * blind * blind, p) < 0:
            raise InvalidPointError(f"no point of {self.name} has this coordinate")
        if self._shows_small_order(x):
            raise InvalidPointError(f"neutral or small-order point on {self.name}")

    def _check_range(self, x: int) -> None:
        if not 0 <= x < self.field_prime:
            raise InvalidPointError(f"a coordinate beyond the field of {self.name}")

    @abstractmethod
    def _ordinate(self, x: int) -> int | None:
        """Either y of the points with this x; None if there are none."""

    @abstractmethod
    def _shows_small_order(self, x: int) -> bool:
        """Whether the points with this x, which has some, are of small order."""

    def _has_small_order(self, affine: Affine) -> bool:
        return affine is None or self._shows_small_order(affine[0])

    def _contains(self, affine: Affine) -> bool:
        if affine is None:
            return True
        x, y = affine
        p = self.field_prime
        return 0 <= x < p and 0 <= y < p and y * y % p == self.right_side(x)

    def _negate(self, P: Affine) -> Affine:
        return None if P is None else (P[0], -P[1] % self.field_prime)

    def _add(self, P: Affine, Q: Affine) -> Affine:
        if P is None:
            return Q
        if Q is None:
            return P
        (x1, y1), (x2, y2), p = P, Q, self.field_prime
        if x1 != x2:
            slope = (y2 - y1) * pow(x2 - x1, -1, p) % p
        elif y1 == y2 != 0:
            slope = ((3 * x1 + 2 * self.a2) * x1 + self.a4) * pow(2 * y1, -1, p) % p
        else:
            return None
        x3 = (slope * slope - self.a2 - x1 - x2) % p
        return x3, (slope * (x1 - x3) - y1) % p

    def _multiply(self, k: int, P: Affine) -> Affine:
        if P is None or k == 0:
            return None
        x, y = P
        p = self.field_prime
        X, Y, Z = x, y, 1
        for bit in bin(k)[3:]:
            X, Y, Z = self._double(X, Y, Z)
            if bit == "1":
                X, Y, Z = self._add_affine(X, Y, Z, x, y)
        if Z == 0:
            return None
        inverse = pow(Z, -1, p)
        square = inverse * inverse % p
        return X * square % p, Y * square * inverse % p

    def _double(self, X: int, Y: int, Z: int) -> tuple[int, int, int]:
        # Z = 0 (neutral) and Y = 0 (order two) both give Z = 0, so neither needs a branch.
        p, a2, a4 = self.field_prime, self.a2, self.a4
        ZZ, YY = Z * Z % p, Y * Y % p
        S = 4 * X * YY % p
        M = (3 * X * X + (2 * a2 * X + a4 * ZZ) * ZZ) % p
        Z3 = 2 * Y * Z % p
        X3 = (M * M - a2 * Z3 * Z3 - 2 * S) % p
        return X3, (M * (S - X3) - 8 * YY * YY) % p, Z3

    def _add_affine(self, X: int, Y: int, Z: int, x: int, y: int) -> tuple[int, int, int]:
        if Z == 0:
            return x, y, 1
        p = self.field_prime
        ZZ = Z * Z % p
        H = (x * ZZ - X) % p
        R = (y * ZZ * Z - Y) % p
        if H == 0:
            return self._double(X, Y, Z) if R == 0 else (1, 1, 0)
        HH = H * H % p
        HHH, V = H * HH % p, X * HH % p
        Z3 = Z * H % p
        X3 = (R * R - self.a2 * Z3 * Z3 - HHH - 2 * V) % p
        return X3, (R * (V - X3) - Y * HHH) % p, Z3


def legendre(a: int, p: int) -> int:
    """1 if a is a square mod the odd prime p and not 0, -1 if it is none, 0 for 0. Variable time.

    By quadratic reciprocity, as Jacobi's symbol (Cohen 1993, algorithm 1.4.10).
    """
    a %= p
    sign = 1
    while a:
        twos = (a & -a).bit_length() - 1
        a >>= twos
        if twos & 1 and p & 7 in (3, 5):
            sign = -sign
        if a & p & 3 == 3:
            sign = -sign
        a, p = p % a, a
    return sign if p == 1 else 0
