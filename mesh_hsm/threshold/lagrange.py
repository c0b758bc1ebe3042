"""Shares of a scalar: n-of-n by subtraction, t-of-n by Shamir's polynomial (threshold §4).

Open this file to split a scalar that software already holds, or for the coefficients by which
t-of-n partial results are weighted. Everything here is arithmetic mod n, the group order; no point
is multiplied. Shares are raw scalars: never clamp or hash them again (threshold §1).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence

from mesh_hsm.curves import Curve
from mesh_hsm.errors import FormatError


def coefficients(curve: Curve, indices: Iterable[int]) -> dict[int, int]:
    """l_i = Π j/(j - i) mod n over the chosen share indices, so that f(0) = Σ l_i f(i).

    Raises ``FormatError`` for an empty choice, an index that is 0 mod n, or one chosen twice.
    """
    n, chosen = curve.order, list(indices)
    if not chosen or len({i % n for i in chosen} - {0}) != len(chosen):
        raise FormatError("share indices are distinct and never zero")
    weights = {}
    for i in chosen:
        above = below = 1
        for j in chosen:
            if j != i:
                above, below = above * j % n, below * (j - i) % n
        weights[i] = above * pow(below, -1, n) % n
    return weights


def evaluate(curve: Curve, polynomial: Sequence[int], index: int) -> int:
    """f(index) mod n, the polynomial given from its constant term upwards."""
    value = 0
    for coefficient in reversed(polynomial):
        value = (value * index + coefficient) % curve.order
    return value


def split(curve: Curve, x: int, count: int) -> tuple[int, ...]:
    """``count`` shares whose sum is x mod n; all are needed and none is zero.

    Raises ``FormatError`` for a count below 2 or an x that is 0 mod n.
    """
    if count < 2 or x % curve.order == 0:
        raise FormatError("a nonzero scalar is split into two or more shares")
    while True:
        shares = [1 + secrets.randbelow(curve.order - 1) for _ in range(count - 1)]
        if last := (x - sum(shares)) % curve.order:
            return (*shares, last)


def shamir_split(curve: Curve, x: int, threshold: int, count: int) -> dict[int, int]:
    """Shares f(1)…f(count) of x mod n, any ``threshold`` of which give it back; none is zero.

    Raises ``FormatError`` unless 2 <= threshold <= count and x is not 0 mod n.
    """
    if not 2 <= threshold <= count or x % curve.order == 0:
        raise FormatError("a threshold lies between 2 and the number of shares of a nonzero scalar")
    while True:
        higher = [secrets.randbelow(curve.order) for _ in range(threshold - 1)]
        shares = {i: evaluate(curve, [x, *higher], i) for i in range(1, count + 1)}
        # A zero leading coefficient would let fewer shares suffice; a zero share cannot multiply.
        if higher[-1] and all(shares.values()):
            return shares
