"""Any scalar fits a clamping device, up to sign: open this to import a raw share into X25519/X448.

threshold §10. A raw scalar y becomes (σ, c) with c = σy mod n of clamped form; the device holds c,
the public record of the share keeps σ. c is a multiple of h, so torsion repair comes with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NoReturn

from mesh_hsm.curves.group import Curve
from mesh_hsm.errors import FormatError, UnsupportedError


@dataclass(frozen=True, slots=True, eq=False)
class ClampedScalar:
    """y ≡ σc (mod n): σ is +1 or -1 and public, c is secret and survives RFC 7748 clamping."""

    curve: Curve
    sigma: int
    c: int = field(repr=False)

    def __post_init__(self) -> None:
        if self.curve.family != "montgomery":
            raise UnsupportedError(f"{self.curve.name} scalars are not clamped")
        if self.sigma not in (1, -1) or not is_clamped(self.curve, self.c):
            raise FormatError("not a clamped scalar with its sign")

    def octets(self) -> bytes:
        """SECRET: c little-endian, the private octets of an ordinary X25519 (32) or X448 (56)."""
        return self.c.to_bytes(self.curve.scalar_size, "little")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret scalar is neither pickled nor copied")


def clamp(curve: Curve, y: int) -> ClampedScalar:
    """(σ, c) of a raw scalar y. Raises ``FormatError`` for y = 0 mod n.

    Also where y has no such form, with probability below 2^-120: a dealer draws again.
    """
    if curve.family != "montgomery":
        raise UnsupportedError(f"{curve.name} scalars are not clamped")
    n, h = curve.order, curve.cofactor
    if y % n == 0:
        raise FormatError(f"a {curve.name} scalar is zero mod the group order")
    for sigma in (1, -1):
        t = sigma * y % n
        c = t + (-t * pow(n, -1, h) % h) * n
        for candidate in (c, c + h * n):
            if is_clamped(curve, candidate):
                return ClampedScalar(curve, sigma, candidate)
    raise FormatError(f"this {curve.name} scalar has no clamped form", hint="draw another share")


def is_clamped(curve: Curve, c: int) -> bool:
    """Whether RFC 7748 §5 clamping leaves c as it is."""
    return c % curve.cofactor == 0 and c >> _top_bit(curve) == 1


def _top_bit(curve: Curve) -> int:
    return curve.field_prime.bit_length() - 1
