"""A share as it travels to a token. Open this file to audit what there is to see of it on its way.

The share goes as PKCS #8 under AES-256 key wrap with padding (RFC 5649), and that AES key, drawn
for this one share, under RSA-OAEP to a key pair that the token made for it. Whoever listens learns
nothing of the share; it is no help against one who answers in the token's place.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers
from cryptography.hazmat.primitives.asymmetric.x448 import X448PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hashes import HashAlgorithm
from cryptography.hazmat.primitives.keywrap import aes_key_wrap_with_padding
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from mesh_hsm.curves import SecretScalar, clamp
from mesh_hsm.curves.weierstrass import WeierstrassCurve
from mesh_hsm.errors import DeviceError

SMALLEST: Final = 2048
"""Bits of an RSA modulus below which nothing is wrapped to it."""


@dataclass(frozen=True, slots=True)
class Wrapped:
    """What goes over the wire: the AES key by RSA-OAEP, and the share by RFC 5649."""

    key: bytes
    share: bytes


def wrap(share: SecretScalar, to: RSAPublicKey, digest: HashAlgorithm) -> Wrapped:
    """Encrypt a share under a fresh key. OAEP and its MGF1 use ``digest``, with no label."""
    key = os.urandom(32)
    return Wrapped(
        to.encrypt(key, OAEP(MGF1(digest), digest, None)),
        aes_key_wrap_with_padding(key, pkcs8(share)),
    )


def transport_key(modulus: bytes, exponent: bytes) -> RSAPublicKey:
    """The key to wrap to, from CKA_MODULUS and CKA_PUBLIC_EXPONENT, both big-endian.

    Raises ``DeviceError`` for what is no RSA key, or a short one.
    """
    n, e = (int.from_bytes(octets, "big") for octets in (modulus, exponent))
    if n.bit_length() < SMALLEST:
        raise DeviceError(f"the token's key to wrap to has {n.bit_length()} bits")
    try:
        return RSAPublicNumbers(e, n).public_key()
    except ValueError as error:
        raise DeviceError("the token's key to wrap to is no RSA key") from error


def value(share: SecretScalar) -> bytes:
    """SECRET: the share as CKA_VALUE, at full width.

    NIST curves: big-endian. X25519 and X448: the c of threshold §10, little-endian; what it
    loses is the sign of the public point, which is public.
    """
    if share.curve.family == "montgomery":
        return clamp(share.curve, share.value).octets()
    return share.curve.scalar_octets(share.value)


def pkcs8(share: SecretScalar) -> bytes:
    """SECRET: the share as PrivateKeyInfo in DER (RFC 5915, RFC 8410)."""
    return _private_key(share).private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def _private_key(
    share: SecretScalar,
) -> ec.EllipticCurvePrivateKey | X25519PrivateKey | X448PrivateKey:
    if isinstance(share.curve, WeierstrassCurve):
        return ec.derive_private_key(share.value, share.curve.in_library)
    kind = X25519PrivateKey if share.curve.name == "X25519" else X448PrivateKey
    return kind.from_private_bytes(value(share))
