"""A sender's one-time key for each curve that published envelopes encrypt to (dare §2.1).

Open this file to see how Z is made for an Ed25519 or Ed448 recipient with a library that multiplies
on X25519 and X448 only: the point is carried to the Montgomery curve and the product back. Both
maps are RFC 7748's; they are homomorphisms, so epk and Z belong to one and the same scalar.
"""

from __future__ import annotations

from typing import Final

from mesh_hsm.curves import ED448, ED25519, X448, X25519, Curve, Point, SecretScalar
from mesh_hsm.curves.montgomery import square_root

# The root of RFC 7748 §4.1; either would do, since it is used there and back.
_ROOT: Final = square_root(-486664, ED25519.field_prime)


class Ephemeral:
    """A key for one message and one recipient, on the recipient's curve."""

    def __init__(self, curve: Curve) -> None:
        self._curve = curve
        if curve.family == "edwards":
            self._secret = SecretScalar.random(X25519 if curve is ED25519 else X448)
        else:
            self._secret = SecretScalar.random(curve)

    def octets(self) -> bytes:
        """The public key as envelopes carry it: X25519 its u alone, X448 with the sign octet."""
        if self._curve.family == "edwards":
            return self._times(self._curve.base).encode()
        public = self._secret.public()
        return public.agreement_octets() if self._curve is X25519 else public.encode()

    def agree(self, S: Point) -> bytes:
        """Agreement octets Z with a recipient's point. ``InvalidPointError`` for small order."""
        if self._curve.family == "edwards":
            return self._times(S).agreement_octets()
        return self._secret.x_of(S).octets()

    def _times(self, S: Point) -> Point:
        S.check_foreign()
        if self._curve is ED25519:
            return _from_curve25519(self._secret.times(_to_curve25519(S)))
        return _from_curve448(self._secret.times(_to_curve448(S)))


def _to_curve25519(S: Point) -> Point:
    """RFC 7748 §4.1, an isomorphism. x = 0 and y = 1 belong to small orders only."""
    p = ED25519.field_prime
    u = (1 + S.y) * pow(1 - S.y, -1, p) % p
    return X25519.point(u, _ROOT * u * pow(S.x, -1, p) % p)


def _from_curve25519(S: Point) -> Point:
    p = ED25519.field_prime
    x = _ROOT * S.x * pow(S.y, -1, p) % p
    return ED25519.point(x, (S.x - 1) * pow(S.x + 1, -1, p) % p)


def _to_curve448(S: Point) -> Point:
    """RFC 7748 §4.2, an isogeny of degree 4; there and back multiplies by 4."""
    p, x, y = X448.field_prime, S.x, S.y
    return X448.point(
        y * y * pow(x * x, -1, p) % p,
        (2 - x * x - y * y) * y * pow(x**3, -1, p) % p,
    )


def _from_curve448(S: Point) -> Point:
    p, u, v = X448.field_prime, S.x, S.y
    uu, vv = u * u % p, v * v % p
    x = 4 * v * (uu - 1) * pow(uu * uu - 2 * uu + 4 * vv + 1, -1, p)
    y = -u * (uu * uu - 2 * uu - 4 * vv + 1)
    y *= pow(u * uu * uu - 2 * uu * vv - 2 * u * uu - 2 * vv + u, -1, p)
    return ED448.point(x % p, y % p)
