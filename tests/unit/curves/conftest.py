"""Curves and their torsion points, for every test of ``mesh_hsm.curves``."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from mesh_hsm.curves import CURVES, Curve, Point
from mesh_hsm.errors import InvalidPointError


@cache
def torsion_points(curve: Curve) -> tuple[Point, ...]:
    """All h points of small order, the neutral one first."""
    for value in range(2, 1000):
        try:
            point = curve.lift(value).multiply(curve.order)
        except InvalidPointError:
            continue
        multiples = tuple(point.multiply(i) for i in range(curve.cofactor))
        if len(set(multiples)) == curve.cofactor:
            return multiples
    raise AssertionError("no generator of the torsion points among small coordinates")


@pytest.fixture(params=tuple(CURVES.values()), ids=repr)
def any_curve(request: pytest.FixtureRequest) -> Curve:
    curve: Curve = request.param
    return curve


@pytest.fixture(params=[c for c in CURVES.values() if c.family != "edwards"], ids=repr)
def x_curve(request: pytest.FixtureRequest) -> Curve:
    """A curve whose devices answer x alone."""
    curve: Curve = request.param
    return curve


@pytest.fixture(params=[c for c in CURVES.values() if c.cofactor > 1], ids=repr)
def cofactor_curve(request: pytest.FixtureRequest) -> Curve:
    curve: Curve = request.param
    return curve


@pytest.fixture(params=[c for c in CURVES.values() if c.family == "montgomery"], ids=repr)
def montgomery_curve(request: pytest.FixtureRequest) -> Curve:
    curve: Curve = request.param
    return curve


@pytest.fixture
def torsion() -> Callable[[Curve], tuple[Point, ...]]:
    return torsion_points
