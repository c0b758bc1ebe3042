"""Private keys that come from outside: the secret part of IMPORT's data."""

from __future__ import annotations

from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric.ec import derive_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import (
    RSAPrivateKey,
    RSAPrivateNumbers,
    RSAPublicNumbers,
)
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from mesh_hsm.testing.virtual_yubikey.piv.keys import CURVES, RSA_BITS, RSA_EXPONENT, PrivateKey
from mesh_hsm.testing.virtual_yubikey.piv.names import Algorithm
from mesh_hsm.testing.virtual_yubikey.status import Refused, Status

_RSA_TAGS = (0x01, 0x02, 0x03, 0x04, 0x05)  # p, q, dp, dq, qinv
_EC, _ED25519, _X25519 = 0x06, 0x07, 0x08


def load(kind: Algorithm, secret: Mapping[int, bytes]) -> PrivateKey:
    """The key of these TLVs, all big-endian but the raw Ed25519 seed and X25519 scalar.

    Refused (6A80) for another length, a scalar that is zero or not below the order, and RSA
    numbers that do not belong together.
    """
    try:
        if kind in RSA_BITS:
            return _rsa(RSA_BITS[kind], secret)
        if kind in CURVES:
            curve = CURVES[kind]
            scalar = int.from_bytes(_only(_EC, secret, curve.key_size // 8), "big")
            return derive_private_key(scalar, curve)
        if kind is Algorithm.ED25519:
            return Ed25519PrivateKey.from_private_bytes(_only(_ED25519, secret, 32))
        return X25519PrivateKey.from_private_bytes(_only(_X25519, secret, 32))
    except ValueError:
        raise Refused(Status.WRONG_DATA) from None


def _only(tag: int, secret: Mapping[int, bytes], size: int) -> bytes:
    if set(secret) != {tag} or len(secret[tag]) != size:
        raise Refused(Status.WRONG_DATA)
    return secret[tag]


def _rsa(bits: int, secret: Mapping[int, bytes]) -> RSAPrivateKey:
    if set(secret) != set(_RSA_TAGS) or any(len(value) != bits // 16 for value in secret.values()):
        raise Refused(Status.WRONG_DATA)
    p, q, dp, dq, qinv = (int.from_bytes(secret[tag], "big") for tag in _RSA_TAGS)
    if (p * q).bit_length() != bits:
        raise Refused(Status.WRONG_DATA)
    d = pow(RSA_EXPONENT, -1, (p - 1) * (q - 1))
    numbers = RSAPrivateNumbers(p, q, d, dp, dq, qinv, RSAPublicNumbers(RSA_EXPONENT, p * q))
    return numbers.private_key()
