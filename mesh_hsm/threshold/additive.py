"""Sums of public keys: open this file to see what a composite key Z = X + Y must satisfy.

A sum says nothing about who knows its scalars: whoever contributes last can steer it (threshold
§3, "rogue key"), and a sum that merely checks can be claimed by anybody. So a public contribution
is added only where its secret is handed over and recomputed, or proved as in
``mesh_hsm.threshold.proof``.
"""

from __future__ import annotations

from collections.abc import Sequence

from mesh_hsm.curves import Point
from mesh_hsm.errors import FormatError, InvalidPointError


def combine(contributions: Sequence[Point]) -> Point:
    """Z, the sum of the public contributions (threshold §3). One contribution is itself.

    Refuses with ``InvalidPointError`` points of different curves, a contribution that is neutral or
    outside the prime-order subgroup, a neutral Z, and a Z equal to a contribution: then the others
    cancel and one holder alone has the whole key. ``FormatError`` for an empty list.
    """
    if not contributions:
        raise FormatError("a composite key has at least one share")
    Z = contributions[0].curve.neutral
    for X in contributions:
        if X.is_neutral or not X.in_prime_subgroup:
            raise InvalidPointError("a contribution is neutral or outside the prime-order subgroup")
        Z = Z + X
    if Z.is_neutral:
        raise InvalidPointError("the contributions cancel: their sum is neutral")
    if len(contributions) > 1 and Z in contributions:
        raise InvalidPointError("the composite key equals one of its contributions")
    return Z
