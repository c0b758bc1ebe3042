"""Keys that open and sign envelopes, made by the library alone and the same in every run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature

from mesh_hsm.curves import Point, SecretScalar, curve
from mesh_hsm.udf import derive_key

NIST = {
    "P-256": (ec.SECP256R1(), hashes.SHA256(), 32),
    "P-384": (ec.SECP384R1(), hashes.SHA384(), 48),
    "P-521": (ec.SECP521R1(), hashes.SHA512(), 66),
}
SEED = b"\x01\x01" + bytes(32)


class SoftDecryptor:
    """Agrees, gives the right Z between two wrong ones, and counts how often it was asked."""

    def __init__(self, scalar: SecretScalar) -> None:
        self._scalar = scalar
        self.public: Point = scalar.public()
        self.asked = 0

    def agreements(self, S: Point) -> Iterator[bytes]:
        self.asked += 1
        right = self._scalar.x_of(S).octets()
        yield bytes(len(right))
        yield right
        yield bytes(len(right))


class SoftSigner:
    """Signs as a device does: a digest, or an EdDSA message. ``tweak`` spoils the signature."""

    def __init__(self, name: str, label: str) -> None:
        self.name = name
        self.tweak: Callable[[bytes], bytes] = lambda signature: signature
        octets = derive_key(SEED, label, curve(name))
        if name in NIST:
            self._key = ec.derive_private_key(octets, NIST[name][0])
            numbers = self._key.public_key().public_numbers()
            self.public: Point = curve(name).point(numbers.x, numbers.y)
        else:
            kind, size = (Ed25519PrivateKey, 32) if name == "Ed25519" else (Ed448PrivateKey, 57)
            self._eddsa = kind.from_private_bytes(octets.to_bytes(size, "little"))
            self.public = curve(name).decode(self._eddsa.public_key().public_bytes_raw())

    def sign(self, octets: bytes) -> bytes:
        if self.name not in NIST:
            return self.tweak(self._eddsa.sign(octets))
        _, algorithm, size = NIST[self.name]
        r, s = decode_dss_signature(self._key.sign(octets, ec.ECDSA(Prehashed(algorithm))))
        return self.tweak(r.to_bytes(size, "big") + s.to_bytes(size, "big"))


@pytest.fixture(scope="session")
def decryptor() -> Callable[..., SoftDecryptor]:
    @cache
    def make(name: str, label: str = "Recipient") -> SoftDecryptor:
        return SoftDecryptor(SecretScalar(curve(name), derive_key(SEED, label, curve(name))))

    return make


@pytest.fixture(scope="session")
def signer() -> Callable[..., SoftSigner]:
    def make(name: str, label: str = "Signer") -> SoftSigner:
        return SoftSigner(name, label)

    return make
