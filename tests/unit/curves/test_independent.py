"""The same sums by another library: pycryptodomex, which shares no code with ours or OpenSSL."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x448 import X448PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mesh_hsm.curves import (
    ED448,
    ED25519,
    P256,
    P384,
    P521,
    X448,
    X25519,
    Curve,
    Point,
    SecretScalar,
    clamp,
)

ECC = pytest.importorskip("Cryptodome.PublicKey.ECC", reason="pip install pycryptodomex")


def other(P: Point) -> object:
    """The same point in the other library."""
    return ECC.EccPoint(P.x, P.y, curve=P.curve.name)


def ours(curve: Curve, Q: object) -> Point:
    x, y = (int(c) for c in Q.xy)  # type: ignore[attr-defined]
    return curve.point(x, y)


@pytest.mark.parametrize("curve", [P256, P384, P521, ED25519, ED448], ids=repr)
def test_sums_and_multiples(curve: Curve) -> None:
    for _ in range(5):
        k, m = (1 + secrets.randbelow(curve.order - 1) for _ in range(2))
        P, Q = curve.base.multiply(k), curve.base.multiply(m)
        assert ours(curve, other(curve.base) * k) == P  # type: ignore[operator]
        assert ours(curve, other(P) + other(Q)) == P + Q  # type: ignore[operator]
        assert ours(curve, other(P) + other(P)) == P + P  # type: ignore[operator]


@pytest.mark.parametrize("curve", [X25519, X448], ids=repr)
def test_montgomery_ladder(curve: Curve) -> None:
    name = {"X25519": "Curve25519", "X448": "Curve448"}[curve.name]
    for _ in range(5):
        secret, S = SecretScalar.random(curve), SecretScalar.random(curve).public()
        product = ECC.EccXPoint(S.x, name) * clamp(curve, secret.value).c
        assert int(product.x) == secret.x_of(S).x == S.multiply(secret.value).x


@pytest.mark.parametrize(
    ("curve", "library"),
    [(P256, ec.SECP256R1()), (P384, ec.SECP384R1()), (P521, ec.SECP521R1())],
    ids=["P-256", "P-384", "P-521"],
)
def test_nist_public_keys(curve: Curve, library: ec.EllipticCurve) -> None:
    for _ in range(5):
        key = ec.generate_private_key(library)
        k = key.private_numbers().private_value
        P = curve.base.multiply(k)
        public = key.public_key()
        assert P.encode() == public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        compressed = public.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
        assert curve.decode(compressed) == P


@pytest.mark.parametrize(
    ("curve", "make"),
    [(X25519, X25519PrivateKey.from_private_bytes), (X448, X448PrivateKey.from_private_bytes)],
    ids=["X25519", "X448"],
)
def test_clamped_octets_are_an_ordinary_private_key(
    curve: Curve, make: Callable[[bytes], X25519PrivateKey | X448PrivateKey]
) -> None:
    for _ in range(5):
        secret = SecretScalar.random(curve)
        key = make(clamp(curve, secret.value).octets())
        u = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        assert u == secret.public().agreement_octets()
