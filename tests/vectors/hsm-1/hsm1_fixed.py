"""Opened for what makes the test data repeatable: numbers from a name instead of from chance."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature

from mesh_hsm.curves import Curve, Point, SecretScalar, curve
from mesh_hsm.udf import fingerprint

Json = dict[str, Any]
AGREEING = ("P-256", "P-384", "P-521", "X25519", "X448")
NIST = ("P-256", "P-384", "P-521")
SIGNING = (*NIST, "Ed25519", "Ed448")
AUTHORITY = "MB2G-K6DU-F5YG-YYL5-FRZM-3IGD-HBYE"
PROFILE_DEVICE = b'{"ProfileDevice":{"note":"its payload octets, whatever they are"}}'
_HASHES: dict[str, tuple[ec.EllipticCurve, hashes.HashAlgorithm]] = {
    "P-256": (ec.SECP256R1(), hashes.SHA256()),
    "P-384": (ec.SECP384R1(), hashes.SHA384()),
    "P-521": (ec.SECP521R1(), hashes.SHA512()),
}


@dataclass(frozen=True)
class Case:
    """A record before it is answered. `failure` is asserted, so that no error is recorded by
    accident.
    """

    name: str
    kind: str
    inputs: Json
    note: str = ""
    failure: str | None = None


def octets(name: str, size: int = 32) -> bytes:
    """Octets that look random and are always the same."""
    return hashlib.shake_256(b"mesh-hsm test data: " + name.encode()).digest(size)


def secret(on: str, name: str) -> SecretScalar:
    """A scalar in [1, n)."""
    order = curve(on).order
    return SecretScalar(
        curve(on), int.from_bytes(octets(f"{on} {name}", 80), "big") % (order - 1) + 1
    )


def scalar_hex(k: SecretScalar) -> str:
    """A scalar as records hold it."""
    return k.curve.scalar_octets(k.value).hex()


def point_hex(P: Point) -> str:
    """A point in its full form."""
    return P.encode().hex()


@contextlib.contextmanager
def chance(name: str) -> Iterator[None]:
    """Within, what the library draws follows from `name`."""
    count = iter(range(1 << 30))

    def below(limit: int) -> int:
        return int.from_bytes(octets(f"{name} {next(count)}", 80), "big") % limit

    def token(size: int) -> bytes:
        return octets(f"{name} {next(count)}", size)

    with (
        mock.patch.object(secrets, "randbelow", below),
        mock.patch.object(secrets, "token_bytes", token),
    ):
        yield


class FixedSigner:
    """A signature key whose signatures repeat: RFC 6979, or EdDSA."""

    def __init__(self, on: str, name: str) -> None:
        self._on = on
        self._key: Any
        if on in _HASHES:
            self.private = secret(on, name).value
            self._key = ec.derive_private_key(self.private, _HASHES[on][0])
            self.public = secret(on, name).public()
        elif on == "Ed25519":
            self._key = ed25519.Ed25519PrivateKey.from_private_bytes(octets(name, 32))
        else:
            self._key = ed448.Ed448PrivateKey.from_private_bytes(octets(name, 57))
        if on not in _HASHES:
            self.public = curve(on).decode(self._key.public_key().public_bytes_raw())

    def sign(self, message: bytes) -> bytes:
        """Over a digest (ECDSA), or a message."""
        if self._on not in _HASHES:
            signature: bytes = self._key.sign(message)
            return signature
        algorithm = ec.ECDSA(Prehashed(_HASHES[self._on][1]), deterministic_signing=True)
        size = self.public.curve.scalar_size
        pair = decode_dss_signature(self._key.sign(message, algorithm))
        return b"".join(value.to_bytes(size, "big") for value in pair)

    @property
    def record(self) -> Json:
        """As a member of `trusted`."""
        return {"crv": self._on, "public": point_hex(self.public)}


def own(on: str, name: str) -> Json:
    """A private agreement key, as a member of `keys`."""
    return {"crv": on, "private": scalar_hex(secret(on, name))}


def fp(P: Point) -> bytes:
    """The 64-octet fingerprint."""
    return fingerprint(P).octets


def torsion(on: Curve) -> Point:
    """A point of small order above two on a Montgomery curve."""
    for u in range(2, 1000):
        with contextlib.suppress(Exception):
            T = on.lift(u).multiply(on.order)
            if not T.multiply(2).is_neutral:
                return T
    raise AssertionError(on)
