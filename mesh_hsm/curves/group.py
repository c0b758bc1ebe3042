"""What a curve, a point and a lone x coordinate are, whatever the family.

Open this file to see what may be done with a public point. A ``Point`` that exists satisfies its
curve's equation: there is no way to make another. Everything here is variable time, for public
values only; secret scalars go through ``mesh_hsm.curves.secret_scalar``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Literal

from mesh_hsm.errors import FormatError, InvalidPointError

ByteOrder = Literal["big", "little"]
Family = Literal["weierstrass", "montgomery", "edwards"]
Affine = tuple[int, int] | None
"""Affine coordinates, each in [0, p); None is a neutral element without coordinates."""


class Curve(ABC):
    """A group of known prime order n and cofactor h, with its encodings.

    Compared by identity: ``point.curve is P384``. ``algorithm_id`` is the number of udf §8 (low 14
    bits of a specifier). Sizes are in octets: ``field_size`` of a plain coordinate, ``scalar_size``
    of a scalar, ``encoded_size`` of the full (signed) form that ``Point.encode`` makes.
    """

    name: str
    algorithm_id: int
    family: Family
    byteorder: ByteOrder
    field_prime: int
    order: int
    cofactor: int
    field_size: int
    scalar_size: int
    encoded_size: int
    base: Point
    neutral: Point

    # -- scalars ---------------------------------------------------------------------------------

    def scalar(self, octets: bytes) -> int:
        """A raw scalar in [0, n) from exactly ``scalar_size`` octets (threshold §1.4).

        Raises ``FormatError`` for another length or a value not below n.
        """
        if len(octets) != self.scalar_size:
            raise FormatError(f"a {self.name} scalar has {self.scalar_size} octets")
        value = int.from_bytes(octets, self.byteorder)
        if value >= self.order:
            raise FormatError(f"a {self.name} scalar must be below the group order")
        return value

    def scalar_octets(self, value: int) -> bytes:
        """``scalar_size`` octets of a raw scalar in [0, n): little-endian but for NIST curves."""
        if not 0 <= value < self.order:
            raise FormatError(f"a {self.name} scalar must be below the group order")
        return value.to_bytes(self.scalar_size, self.byteorder)

    # -- points ----------------------------------------------------------------------------------

    def point(self, x: int, y: int) -> Point:
        """The point with these affine coordinates. Raises ``InvalidPointError``."""
        return Point(self, (x, y))

    @abstractmethod
    def lift(self, x: int, odd: bool = False) -> Point:
        """The point with this x (u) and an even y (v), or an odd one.

        Edwards curves are lifted from y by the parity of x instead, as RFC 8032 encodes them.
        Raises ``InvalidPointError`` where there is none, as for a point on the twist.
        """

    @abstractmethod
    def decode(self, octets: bytes) -> Point:
        """A point from its full form: exact length, canonical, on the curve.

        NIST: 04 || x || y, or 02/03 || x. X25519, X448: u little-endian || sign octet (threshold
        §2). Edwards: RFC 8032, strictly. Raises ``InvalidPointError``.
        """

    @abstractmethod
    def decode_x(self, octets: bytes) -> Point:
        """A point from its plain x (u) alone, lifted with even y (threshold §2.4, §6(b)).

        Raises ``InvalidPointError``, and ``UnsupportedError`` on Edwards curves.
        """

    def check_x(self, x: int) -> None:
        """Refuse an x (u) of no point, or of one of small order. Raises ``InvalidPointError``."""
        self.lift(x).check_foreign()

    # -- what a family provides ------------------------------------------------------------------

    @abstractmethod
    def _contains(self, affine: Affine) -> bool:
        """Whether coordinates are canonical and satisfy the equation."""

    @abstractmethod
    def _add(self, P: Affine, Q: Affine) -> Affine: ...

    @abstractmethod
    def _negate(self, P: Affine) -> Affine: ...

    @abstractmethod
    def _multiply(self, k: int, P: Affine) -> Affine:
        """k·P for k >= 0."""

    @abstractmethod
    def _has_small_order(self, affine: Affine) -> bool: ...

    @abstractmethod
    def _encode(self, P: Point) -> bytes: ...

    @abstractmethod
    def _agreement_octets(self, P: Point) -> bytes: ...

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> str:
        # Pickled and copied as the global that it is, so that identity survives both.
        return self.name.replace("-", "").upper()


@dataclass(frozen=True, slots=True, repr=False)
class Point:
    """A public point, on its curve: from ``Curve.decode``, ``.point``, ``.lift`` or arithmetic."""

    curve: Curve
    affine: Affine

    def __post_init__(self) -> None:
        if not self.curve._contains(self.affine):
            raise InvalidPointError(f"not a point of {self.curve.name}")

    @property
    def x(self) -> int:
        """The first affine coordinate (u on Montgomery curves), in [0, p)."""
        return self._coordinates()[0]

    @property
    def y(self) -> int:
        """The second affine coordinate (v on Montgomery curves), in [0, p)."""
        return self._coordinates()[1]

    @property
    def is_neutral(self) -> bool:
        """Whether this is the neutral element of the group."""
        return self == self.curve.neutral

    @property
    def is_odd(self) -> bool:
        """The sign: y mod 2 (v on Montgomery curves), x mod 2 on Edwards curves."""
        return bool((self.x if self.curve.family == "edwards" else self.y) & 1)

    @property
    def has_small_order(self) -> bool:
        """Whether h·P is neutral: such a point reveals a scalar mod h, or gives a known answer."""
        return self.curve._has_small_order(self.affine)

    @property
    def in_prime_subgroup(self) -> bool:
        """Whether n·P is neutral. Free on NIST curves, where h = 1."""
        return self.curve.cofactor == 1 or self.multiply(self.curve.order).is_neutral

    def __add__(self, other: Point) -> Point:
        if other.curve is not self.curve:
            raise InvalidPointError(f"no sum of points on {self.curve.name}, {other.curve.name}")
        return Point(self.curve, self.curve._add(self.affine, other.affine))

    def __neg__(self) -> Point:
        return Point(self.curve, self.curve._negate(self.affine))

    def __sub__(self, other: Point) -> Point:
        return self + -other

    def multiply(self, k: int) -> Point:
        """k·P for a PUBLIC integer k of either sign, in variable time. k is not reduced mod n.

        A secret scalar never comes here: it is multiplied by ``SecretScalar`` or a device.
        """
        product = Point(self.curve, self.curve._multiply(abs(k), self.affine))
        return -product if k < 0 else product

    def encode(self) -> bytes:
        """The full form that ``Curve.decode`` reads; NIST uncompressed.

        Raises ``InvalidPointError`` for the neutral element of a NIST or Montgomery curve, which
        has no encoding.
        """
        return self.curve._encode(self)

    def agreement_octets(self) -> bytes:
        """Z, the octets that a key agreement hands to its KDF.

        NIST: x at field width, big-endian. X25519, X448: u, 32 or 56 octets little-endian. Edwards:
        the RFC 8032 encoding. Raises ``InvalidPointError`` for a neutral or all-zero result.
        """
        octets = b"" if self.is_neutral else self.curve._agreement_octets(self)
        if not any(octets):
            raise InvalidPointError(f"the agreement on {self.curve.name} is neutral or zero")
        return octets

    def check_foreign(self) -> None:
        """Refuse a point that no share may be applied to: neutral or of small order.

        threshold §6.2. On the curve it is by construction, and looked at again: a device that
        multiplied a point of another curve would give its key away. Raises ``InvalidPointError``.
        """
        self.__post_init__()
        if self.has_small_order:
            raise InvalidPointError(f"neutral or small-order point on {self.curve.name}")

    def check_answer(self) -> None:
        """Refuse an answer that no honest device gives to a checked point (threshold §6.2.3)."""
        self.check_foreign()

    def _coordinates(self) -> tuple[int, int]:
        if self.affine is None:
            raise InvalidPointError(f"the neutral element of {self.curve.name} has no coordinates")
        return self.affine

    def __repr__(self) -> str:
        value = "neutral" if self.is_neutral else self.encode().hex()
        return f"<{self.curve.name} point {value}>"

    def __reduce__(self) -> tuple[type[Point], tuple[Curve, Affine]]:
        # Through the constructor, so that an unpickled point is checked as well.
        return Point, (self.curve, self.affine)


@dataclass(frozen=True, slots=True)
class XOnly:
    """A point known up to sign by its x (u) coordinate: what most devices answer.

    Not checked when made; ``check_answer`` does that.
    """

    curve: Curve
    x: int
    _even: Point | None = field(default=None, init=False, repr=False, compare=False)

    @classmethod
    def decode(cls, curve: Curve, octets: bytes) -> XOnly:
        """From exactly ``field_size`` octets in the curve's byte order: a device's raw answer.

        Raises ``InvalidPointError`` for another length.
        """
        if len(octets) != curve.field_size:
            raise InvalidPointError(f"a plain {curve.name} value has {curve.field_size} octets")
        return cls(curve, int.from_bytes(octets, curve.byteorder))

    def octets(self) -> bytes:
        """x at field width in the curve's byte order: also Z, the agreement octets.

        Raises ``InvalidPointError`` where x is out of range.
        """
        if not 0 <= self.x < self.curve.field_prime:
            raise InvalidPointError(f"a coordinate beyond the field of {self.curve.name}")
        return self.x.to_bytes(self.curve.field_size, self.curve.byteorder)

    def lifts(self) -> tuple[Point, Point]:
        """Both points with this x, the one with even y first. Raises ``InvalidPointError``."""
        even = self._even or self.curve.lift(self.x)
        # Kept for the next caller: a square root costs more than all else in combining.
        object.__setattr__(self, "_even", even)
        return even, -even

    def check_answer(self) -> None:
        """Refuse zero, a value beyond the field, and one that belongs to no point of the curve.

        threshold §6.2.3. Raises ``InvalidPointError``.
        """
        if self.x == 0:
            raise InvalidPointError(f"the answer on {self.curve.name} is zero")
        self.curve.check_x(self.x)
