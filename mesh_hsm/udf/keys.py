"""Names of public keys: open this to get a key's DER form, its fingerprint or its UDF. udf §6.

Keys of RFC 7748 and RFC 8032 have the Mesh's own DER form, which is not RFC 8410's: an explicit
NULL, and an OCTET STRING inside the BIT STRING. NIST keys have the ordinary one (hsm-1 §1).
"""

from __future__ import annotations

from functools import lru_cache

from mesh_hsm.curves import X25519, Point
from mesh_hsm.udf.digest import ContentDigest, content_digest

CONTENT_TYPE = "PKIXKey"
OLDER_CONTENT_TYPES = ("application/x509-keyinfo", "application/pkix-keyinfo")

_SEQUENCE, _BIT_STRING, _OCTET_STRING, _OID, _NULL = 0x30, 0x03, 0x04, 0x06, 0x05
_EC_PUBLIC_KEY = bytes.fromhex("2a8648ce3d0201")
_OIDS = {
    "X25519": bytes.fromhex("2b656e"),
    "X448": bytes.fromhex("2b656f"),
    "Ed25519": bytes.fromhex("2b6570"),
    "Ed448": bytes.fromhex("2b6571"),
    "P-256": bytes.fromhex("2a8648ce3d030107"),
    "P-384": bytes.fromhex("2b81040022"),
    "P-521": bytes.fromhex("2b81040023"),
}


def key_info(public: Point) -> bytes:
    """SubjectPublicKeyInfo as the Mesh hashes it.

    X25519 contributes its 32-octet u, X448 all 57 octets of its signed form (hsm-1 §2).
    """
    curve = public.curve
    oid = _der(_OID, _OIDS[curve.name])
    if curve.family == "weierstrass":
        algorithm = _der(_SEQUENCE, _der(_OID, _EC_PUBLIC_KEY), oid)
        return _der(_SEQUENCE, algorithm, _der(_BIT_STRING, b"\0", public.encode()))
    octets = public.encode()[:32] if curve is X25519 else public.encode()
    return _der(
        _SEQUENCE,
        _der(_SEQUENCE, oid, _der(_NULL)),
        _der(_BIT_STRING, b"\0", _der(_OCTET_STRING, octets)),
    )


@lru_cache(maxsize=256)
def fingerprint(public: Point, content_type: str = CONTENT_TYPE) -> ContentDigest:
    """fp(K): the typed SHA-2-512 digest of the key's DER form; ``.octets`` are all 64."""
    return content_digest(key_info(public), content_type)


def udf_of(public: Point) -> str:
    """The key's UDF at 140 bits, the ``kid`` of envelopes."""
    return fingerprint(public).udf()


def _der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = bytes([len(content)]) if len(content) < 128 else bytes([0x81, len(content)])
    return bytes([tag]) + size + content
