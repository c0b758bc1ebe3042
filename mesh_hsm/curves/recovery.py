"""The full point xS from x(xS) and x(x(S + T)): open this to use a device that answers x alone."""

from __future__ import annotations

from mesh_hsm.curves.cubic import CubicCurve
from mesh_hsm.curves.group import Point, XOnly
from mesh_hsm.errors import InvalidPointError, UnsupportedError, VerificationError


def recover(X: Point, x1: XOnly, x3: XOnly) -> Point:
    """The point xS from the answers x1 = x(xS) and x3 = x(x(S + T)), where X = xT is known.

    T is G and X the device's public key, unless the caller chose another T with known xT. Takes no
    square root (threshold §6(b)). S + T must not be neutral or of small order, so that x1 = x(X)
    can only mean xS = X. Finds a faulty answer or a wrong key, not a device that lies
    consistently (interchanged answers are consistent too): hsm-1 §9 has the blinded form for that.
    Raises ``VerificationError``.
    """
    curve = X.curve
    if not isinstance(curve, CubicCurve):
        raise UnsupportedError(f"no x-only answers on {curve.name}")
    if x1.curve is not curve or x3.curve is not curve:
        raise VerificationError("the answers are on another curve than the public key")
    p = curve.field_prime
    xX, yX = X.x, X.y
    if yX == 0:
        raise InvalidPointError("recovery needs a public point of order above two")
    # At x1 = x(X) this gives yX itself, as it should: S = T then.
    squares = curve.right_side(x1.x) + yX * yX
    chord = (x3.x + curve.a2 + x1.x + xX) * (x1.x - xX) ** 2
    y1 = (squares - chord) * pow(2 * yX, -1, p) % p
    try:
        point = curve.point(x1.x, y1)
    except InvalidPointError as error:
        raise VerificationError("the device's two answers do not fit together") from error
    # Beyond y1² = f(x1), which made the point: covers x1 = x(X) and an x3 beyond the field.
    total = point + X
    if total.is_neutral or total.x != x3.x:
        raise VerificationError("the device's two answers do not fit its public key")
    return point
