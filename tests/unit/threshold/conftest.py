"""Devices that no simulator gives: full points on any curve, faults, lies, counted calls."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, x448, x25519

from mesh_hsm.curves import CURVES, Curve, Point, SecretScalar, XOnly
from mesh_hsm.custody import CustodyClass, CustodyStatement, Hardware
from mesh_hsm.errors import InvalidPointError
from mesh_hsm.provider import DeviceKey, Use
from mesh_hsm.uri import Uri

AGREEING = [CURVES[name] for name in ("P-256", "P-384", "P-521", "X25519", "X448")]


class FakeDevice(DeviceKey):
    """Answers as it is told to, and remembers what it was asked."""

    def __init__(
        self,
        public: Point,
        answer: Callable[[Point], Point | XOnly],
        use: Use = Use.ENCRYPT,
        label: str = "fake",
        sign: Callable[[bytes], bytes] = lambda octets: octets,
    ) -> None:
        self.uri = Uri("fake", (("key", label),))
        self.label = label
        self.public = public
        self.use = use
        self.asked: list[Point] = []
        self.signed: list[bytes] = []
        self._answer = answer
        self._signature = sign

    def custody(self) -> CustodyStatement:
        return CustodyStatement(CustodyClass.GENERATED, Hardware.SIMULATOR, self.label)

    def _agree(self, point: Point) -> Point | XOnly:
        self.asked.append(point)
        return self._answer(point)

    def _sign(self, octets: bytes) -> bytes:
        self.signed.append(octets)
        return self._signature(octets)


@pytest.fixture(scope="session")
def fake() -> type[FakeDevice]:
    return FakeDevice


@pytest.fixture(scope="session", params=AGREEING, ids=lambda curve: curve.name)
def curve(request: pytest.FixtureRequest) -> Curve:
    chosen: Curve = request.param
    return chosen


@pytest.fixture(scope="session")
def statement() -> CustodyStatement:
    return CustodyStatement(CustodyClass.SOFTWARE, Hardware.NONE, "this process")


@pytest.fixture(scope="session")
def library_agreement() -> Callable[[int, Point], bytes]:
    """Z for a whole scalar z by `cryptography` alone: what every combination must come to."""
    nist = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}

    def agree(z: int, S: Point) -> bytes:
        if curve := nist.get(S.curve.name):
            peer = ec.EllipticCurvePublicKey.from_encoded_point(curve, S.encode())
            return ec.derive_private_key(z % S.curve.order, curve).exchange(ec.ECDH(), peer)
        u = S.x.to_bytes(S.curve.field_size, "little")
        c = _clamped(z, S.curve).to_bytes(S.curve.field_size, "little")
        if S.curve.name == "X448":
            return x448.X448PrivateKey.from_private_bytes(c).exchange(
                x448.X448PublicKey.from_public_bytes(u)
            )
        return x25519.X25519PrivateKey.from_private_bytes(c).exchange(
            x25519.X25519PublicKey.from_public_bytes(u)
        )

    return agree


def _clamped(z: int, curve: Curve) -> int:
    """An integer of clamped form congruent to z or -z mod n, found by trying."""
    top = curve.field_prime.bit_length() - 1
    return next(
        c
        for value in (z % curve.order, -z % curve.order)
        for c in range(value, 2 ** (top + 1), curve.order)
        if c >= 2**top and c % curve.cofactor == 0
    )


@pytest.fixture(scope="session")
def torsion() -> Callable[[Curve], list[Point]]:
    """Every nonzero small-order point of a Montgomery curve: 7 on X25519, 3 on X448."""

    def points(curve: Curve) -> list[Point]:
        for u in range(2, 200):
            try:
                T = curve.lift(u).multiply(curve.order)
            except InvalidPointError:  # half of all u are on the twist
                continue
            if not T.multiply(curve.cofactor // 2).is_neutral:
                return [T.multiply(i) for i in range(1, curve.cofactor)]
        raise AssertionError("no generator of the torsion group found")

    return points


@pytest.fixture
def S(curve: Curve) -> Point:  # noqa: N802  a point is a capital
    return SecretScalar.random(curve).public()
