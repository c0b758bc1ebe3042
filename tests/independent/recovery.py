"""Opened for what a device's x-only answers are worth (hsm-1 §9, threshold §6(b))."""

from .groups import GROUPS, Point
from .refusal import Refused, unverified


def plain(crv: str, X: Point, x1: int, x3: int) -> Point:
    """xS from x(xS) and x(x(S + G)), with X = xG: of the two lifts, the one whose sum with X fits.

    Finds faults, not a device that lies consistently.
    """
    group = GROUPS[crv]
    P = group.lift(x1)
    for candidate in (P, group.negate(P)):
        total = group.add(candidate, X)
        if total is not None and total[0] == x3:
            return candidate
    raise unverified("neither lift fits the second answer")


def blinded(crv: str, X: Point, a: int, r: int, x1: int, x2: int) -> Point:
    """xS from x(xS) and x(xQ), Q = aS + rG: the lift R with x(aR + rX) = x2, nR neutral."""
    group = GROUPS[crv]
    try:
        P = group.sound(group.lift(x1))
    except Refused as error:
        raise unverified("the first answer is no multiple of S") from error
    for R in (P, group.negate(P)):
        total = group.add(group.multiply(a, R), group.multiply(r, X))
        if total is not None and total[0] == x2:
            return R
    raise unverified("neither lift fits the blinded answer")
