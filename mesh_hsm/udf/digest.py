"""Content digests with a type: open this to fingerprint data of a named kind. udf §3."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from mesh_hsm.errors import FormatError
from mesh_hsm.udf.presentation import DEFAULT_PRECISION, TypeId, present

_LEVELS = (20, 30, 40, 50)
_HASHES = {
    "SHA-2-512": (TypeId.DIGEST_SHA2, hashlib.sha512),
    "SHA-3-512": (TypeId.DIGEST_SHA3, hashlib.sha3_512),
}


@dataclass(frozen=True, slots=True)
class ContentDigest:
    """A typed content digest (TCDV). ``octets`` are all 64, before any truncation.

    This is what hsm-1 calls fp(K) when the content is a public key's DER form.
    """

    type_id: int
    octets: bytes

    @classmethod
    def of_sha2(cls, octets: bytes) -> ContentDigest:
        """Take a SHA-2 TCDV as it is; its type octet follows from its trailing zero bits."""
        if len(octets) != 64:
            raise FormatError("a content digest has 64 octets")
        return cls(TypeId.DIGEST_SHA2 + _level(octets), octets)

    def udf(self, precision: int = DEFAULT_PRECISION) -> str:
        """The presented form."""
        return present(self.type_id, self.octets, precision)


def content_digest(data: bytes, content_type: str, algorithm: str = "SHA-2-512") -> ContentDigest:
    """Digest ``H(content-type || ':' || H(data))`` of data, H being ``algorithm``."""
    base, hashed = _HASHES[algorithm]
    octets = hashed(content_type.encode() + b":" + hashed(data).digest()).digest()
    return ContentDigest(base + _level(octets), octets)


def _level(octets: bytes) -> int:
    """How many of 20, 30, 40, 50 zero bits the value ends with."""
    number = int.from_bytes(octets, "big")
    zeros = (number & -number).bit_length() - 1 if number else 8 * len(octets)
    return sum(zeros >= level for level in _LEVELS)
