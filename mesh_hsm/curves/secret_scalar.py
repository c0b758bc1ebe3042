"""A secret scalar in this process, multiplied by the constant-time library alone.

Open this file to audit every private-key operation of the software share. It is one more x-only
device (threshold §10): one library call gives x(kS), two give kS in full (hsm-1 §9).
"""

from __future__ import annotations

import secrets
from typing import NoReturn

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x448 import X448PrivateKey, X448PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from mesh_hsm.curves.clamping import ClampedScalar, clamp, is_clamped
from mesh_hsm.curves.group import Curve, Point, XOnly
from mesh_hsm.curves.recovery import recover
from mesh_hsm.curves.weierstrass import WeierstrassCurve
from mesh_hsm.errors import FormatError, InvalidPointError, UnsupportedError


class SecretScalar:
    """A raw scalar in [1, n) of a NIST curve, X25519 or X448: never clamped again, never hashed.

    Compared by identity; not pickled, not copied; ``repr`` shows the curve only. Raises
    ``FormatError`` for a value that is 0 mod n or outside [0, n), ``UnsupportedError`` for Edwards
    curves, whose scalars no library of ours multiplies.
    """

    __slots__ = ("_curve", "_key", "_public", "_value")

    def __init__(self, curve: Curve, value: int) -> None:
        if curve.family == "edwards":
            raise UnsupportedError(f"{curve.name} scalars are not multiplied here")
        if not 0 < value < curve.order:
            raise FormatError(f"a {curve.name} secret scalar is in [1, n)")
        self._curve = curve
        self._value = value
        self._key: ec.EllipticCurvePrivateKey | ClampedScalar = (
            ec.derive_private_key(value, curve.in_library)
            if isinstance(curve, WeierstrassCurve)
            else clamp(curve, value)
        )
        self._public: Point | None = None

    @classmethod
    def random(cls, curve: Curve) -> SecretScalar:
        """Uniform in [1, n), from the operating system."""
        return cls(curve, 1 + secrets.randbelow(curve.order - 1))

    @property
    def curve(self) -> Curve:
        """The curve whose points it multiplies."""
        return self._curve

    @property
    def value(self) -> int:
        """SECRET: the raw scalar k, for arithmetic mod n and for nothing else."""
        return self._value

    def public(self) -> Point:
        """The signed point kG; on Montgomery curves, two library calls the first time."""
        if self._public is None:
            if isinstance(self._key, ClampedScalar):
                self._public = _clamped_public(self._key)
            else:
                numbers = self._key.public_key().public_numbers()
                self._public = self.curve.point(numbers.x, numbers.y)
        return self._public

    def x_of(self, S: Point) -> XOnly:
        """The coordinate x(kS), in one library call.

        On Montgomery curves by a multiplier that equals ±k mod n and kills torsion (threshold §6.1,
        §10). Raises ``InvalidPointError`` for a point of small order or another curve.
        """
        if S.curve is not self.curve:
            raise InvalidPointError(f"the point is not on {self.curve.name}")
        S.check_foreign()
        if isinstance(self._key, ClampedScalar):
            return _ladder(self.curve, self._key.octets(), S)
        peer = ec.EllipticCurvePublicNumbers(S.x, S.y, self._key.curve).public_key()
        return XOnly.decode(self.curve, self._key.exchange(ec.ECDH(), peer))

    def times(self, S: Point) -> Point:
        """The point kS in full, in two library calls: x(kS) and x(k(S + G)), joined by ``recover``.

        Raises ``InvalidPointError`` for a point of small order, ``VerificationError`` for a fault.
        """
        T, kT = self.curve.base, self.public()
        if (S + T).has_small_order:
            T, kT = -T, -kT
        return recover(kT, self.x_of(S), self.x_of(S + T))

    def __repr__(self) -> str:
        return f"<secret scalar of {self.curve.name}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret scalar is neither pickled nor copied")


def _clamped_public(scalar: ClampedScalar) -> Point:
    # hsm-1 §9: u(cG) and u((c ± h)G), joined by recovery with D = ±hG. The step stays inside the
    # clamp range, and c ± h is not 0 mod n.
    curve, c = scalar.curve, scalar.c
    step = curve.cofactor
    if not is_clamped(curve, c + step) or (c + step) % curve.order == 0:
        step = -step
    neighbour = ClampedScalar(curve, scalar.sigma, c + step)
    x1 = _ladder(curve, scalar.octets(), curve.base)
    x3 = _ladder(curve, neighbour.octets(), curve.base)
    point = recover(curve.base.multiply(step), x1, x3)
    return point if scalar.sigma == 1 else -point


def _ladder(curve: Curve, private: bytes, S: Point) -> XOnly:
    u = S.agreement_octets()
    try:
        if curve.name == "X25519":
            answer = X25519PrivateKey.from_private_bytes(private).exchange(
                X25519PublicKey.from_public_bytes(u)
            )
        else:
            answer = X448PrivateKey.from_private_bytes(private).exchange(
                X448PublicKey.from_public_bytes(u)
            )
    except ValueError as error:  # an all-zero result (RFC 7748 §6)
        raise InvalidPointError(f"the agreement on {curve.name} is zero") from error
    return XOnly.decode(curve, answer)
