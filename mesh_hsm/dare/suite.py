"""Every octet string of hsm-1 §2-§3 that is hashed, derived or wrapped. No I/O, no parsing.

Open this file to check the suite against the specification, or to write another implementation.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mesh_hsm.curves import Point
from mesh_hsm.errors import UnsupportedError
from mesh_hsm.framing import F
from mesh_hsm.udf import fingerprint

ENC: Final = "A256GCM"
SEED_SIZE: Final = 32
SALT_SIZE: Final = 32
COMMIT_SIZE: Final = 32
TAG_SIZE: Final = 16
MAX_PLAINTEXT: Final = (1 << 36) - 32

_ECDSA_HASHES = {"P-256": hashlib.sha256, "P-384": hashlib.sha384, "P-521": hashlib.sha512}


@dataclass(frozen=True, slots=True, repr=False)
class PayloadKeys:
    """What a base seed and Salt give: AES-256 key, 12-octet IV, and the key commitment."""

    key: bytes
    iv: bytes
    commit: bytes


def kek(Z: bytes, epk: Point, recipient: Point) -> bytes:
    """The key that wraps the seed for one recipient; Z are the agreement octets."""
    info = F("mesh-hsm/1 kek", ENC, epk.curve.name, epk.encode(), fingerprint(recipient).octets)
    return _hkdf(Z, None, info, 32)


def kek2(
    Z_device: bytes, epk: Point, device: Point, Z_once: bytes, epk2: Point, once: Point
) -> bytes:
    """The key that needs both keys of an activation (hsm-1 §6.3)."""
    info = F(
        "mesh-hsm/1 kek2",
        ENC,
        epk.curve.name,
        epk.encode(),
        fingerprint(device).octets,
        epk2.curve.name,
        epk2.encode(),
        fingerprint(once).octets,
    )
    return _hkdf(Z_device + Z_once, None, info, 32)


def payload_keys(seed: bytes, salt: bytes) -> PayloadKeys:
    """Key, IV and Commit of one payload. A seed and Salt are never used twice."""
    okm = _hkdf(seed, salt, F("mesh-hsm/1 payload", ENC), 76)
    return PayloadKeys(okm[:32], okm[32:44], okm[44:])


def signed_octets(signer: bytes, protected: bytes, payload_digest: bytes) -> bytes:
    """M: what a signature covers. ``signer`` is its fp, ``protected`` the ASCII octets of P."""
    header_digest = hashlib.sha512(protected).digest()
    return F("mesh-hsm/1 signature", signer, header_digest, payload_digest)


def to_be_signed(public: Point, M: bytes) -> bytes:
    """What the key signs: M itself (EdDSA), or its digest (ECDSA). ``UnsupportedError``."""
    if public.curve.family == "edwards":
        return M
    if public.curve.name not in _ECDSA_HASHES:
        raise UnsupportedError(f"{public.curve.name} keys do not sign")
    return _ECDSA_HASHES[public.curve.name](M).digest()


def low_s(public: Point, signature: bytes) -> bytes:
    """An ECDSA signature with the lower of s and n - s; an EdDSA one as it is."""
    if not is_high(public, signature):
        return signature
    half = len(signature) // 2
    s = public.curve.order - int.from_bytes(signature[half:], "big")
    return signature[:half] + s.to_bytes(half, "big")


def is_high(public: Point, signature: bytes) -> bool:
    """Whether an ECDSA signature's s is the higher one, which readers refuse."""
    if public.curve.family == "edwards":
        return False
    return int.from_bytes(signature[len(signature) // 2 :], "big") > public.curve.order // 2


def _hkdf(ikm: bytes, salt: bytes | None, info: bytes, size: int) -> bytes:
    return HKDF(SHA512(), size, salt=salt, info=info).derive(ikm)
