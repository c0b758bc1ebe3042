"""Keys from seeds, and nonces: open this to derive an activation's contribution. udf §4, §8.

A *seed* here is the data of a type ``Z`` UDF: a 2-octet specifier and the secret after it. Names
follow the newest rule ("named", rule B); NIST curves follow hsm-1 §1.
"""

from __future__ import annotations

import hashlib
import secrets
from enum import IntEnum

from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mesh_hsm.curves import Curve
from mesh_hsm.errors import FormatError
from mesh_hsm.udf.presentation import TypeId, parse, present

_OKM_SIZES = {
    "X25519": 32,
    "X448": 56,
    "Ed25519": 32,
    "Ed448": 56,  # not RFC 8032's 57: the Mesh hashes 56 octets (threshold §1.2)
    "P-256": 40,
    "P-384": 56,
    "P-521": 74,
}


class SeedUse(IntEnum):
    """Generic specifiers: what a seed's keys are for (udf §8)."""

    PROFILE_DEVICE = 0x0100
    ACTIVATION_DEVICE = 0x0101
    PROFILE_ACCOUNT = 0x0102
    ACTIVATION_ACCOUNT = 0x0103
    PROFILE_SERVICE = 0x0104
    ACTIVATION_SERVICE = 0x0105


def nonce() -> str:
    """A fresh 128-bit nonce UDF, 28 characters beginning with N."""
    return present(TypeId.NONCE, secrets.token_bytes(16))


def new_seed(use: SeedUse) -> bytes:
    """A fresh seed: specifier and 32 random octets. Secret."""
    return use.to_bytes(2, "big") + secrets.token_bytes(32)


def present_seed(seed: bytes) -> str:
    """The seed as a ``Z`` UDF. As secret as the seed."""
    return present(TypeId.SEED, seed)


def parse_seed(text: str) -> bytes:
    """The seed of a ``Z`` UDF. Raises ``FormatError``, without repeating the text."""
    udf = parse(text)
    if udf.type_id != TypeId.SEED or len(udf.octets) < 3:
        raise FormatError("not a key derivation seed")
    return udf.octets


def derive_octets(seed: bytes, name: str, curve: Curve) -> bytes:
    """HKDF-SHA-512 of the whole seed, without salt, under its own specifier and ``name``.

    For RFC 7748 and RFC 8032 curves these are the private octets before clamping or hashing. For
    NIST curves the algorithm identifier follows the name, since P-384's 56 octets would otherwise
    equal Ed448's (hsm-1 §1).
    """
    if len(seed) < 3:
        raise FormatError("a seed is a 2-octet specifier and a secret")
    info = seed[:2] + name.encode()
    if curve.family == "weierstrass":
        info += curve.algorithm_id.to_bytes(2, "big")
    return HKDF(SHA512(), _OKM_SIZES[curve.name], salt=None, info=info).derive(seed)


def derive_key(seed: bytes, name: str, curve: Curve) -> int:
    """The secret scalar mod n of the named key: clamped (RFC 7748), pruned (RFC 8032), or
    ``OKM mod (n - 1) + 1`` (hsm-1 §1), so never 0 on any curve.
    """
    octets = derive_octets(seed, name, curve)
    if curve.family == "weierstrass":
        return int.from_bytes(octets, "big") % (curve.order - 1) + 1
    if curve.name == "Ed25519":
        octets = hashlib.sha512(octets).digest()[:32]
    elif curve.name == "Ed448":
        octets = hashlib.shake_256(octets).digest(56)
    return _clamped(octets, curve) % curve.order


def _clamped(octets: bytes, curve: Curve) -> int:
    """Clear the cofactor's bits, set the top bit: 254 or 447. RFC 7748 §5, RFC 8032 §5."""
    top = 1 << (254 if curve.cofactor == 8 else 447)
    number = int.from_bytes(octets, "little") & (top - 1) & -curve.cofactor
    return number | top
