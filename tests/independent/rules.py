"""Opened for the small rules of hsm-1: framing, fingerprints, contributions, witness."""

import base64
import hashlib
import hmac
import re

from .groups import GROUPS, Point
from .refusal import bad_point, malformed, unsupported

_OIDS = {  # udf §6; NIST: id-ecPublicKey and the named curve
    "X25519": "2b656e",
    "X448": "2b656f",
    "Ed25519": "2b6570",
    "Ed448": "2b6571",
    "P-256": "2a8648ce3d030107",
    "P-384": "2b81040022",
    "P-521": "2b81040023",
}
_EC_PUBLIC_KEY = "2a8648ce3d0201"
_ALGORITHM = {"X25519": 1, "X448": 2, "P-256": 5, "P-384": 6, "P-521": 7}  # udf §8
_OKM = {"X25519": 32, "X448": 56, "P-256": 40, "P-384": 56, "P-521": 74}


def F(*fields: bytes | str) -> bytes:  # noqa: N802 - the specification's own name
    """Each field behind its length in two octets."""
    octets = (f.encode("ascii") if isinstance(f, str) else f for f in fields)
    return b"".join(len(o).to_bytes(2, "big") + o for o in octets)


def sha512(octets: bytes) -> bytes:
    """SHA-2-512, 64 octets."""
    return hashlib.sha512(octets).digest()


def hkdf(ikm: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    """HKDF-SHA-512 of RFC 5869; an empty salt stands for 64 zero octets."""
    prk = hmac.digest(salt or bytes(64), ikm, "sha512")
    okm, block = b"", b""
    while len(okm) < length:
        block = hmac.digest(prk, block + info + bytes([len(okm) // 64 + 1]), "sha512")
        okm += block
    return okm[:length]


def b64(octets: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(octets).decode().rstrip("=")


def unb64(text: object) -> bytes:
    """The octets of canonical base64url without padding."""
    if not isinstance(text, str) or not re.fullmatch(r"[A-Za-z0-9_-]*", text):
        raise malformed("not base64url")
    try:
        octets = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError as error:
        raise malformed("not base64url") from error
    if b64(octets) != text:
        raise malformed("stray bits after the last octet")
    return octets


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    length = bytes([size]) if size < 128 else bytes([0x81, size])
    return bytes([tag]) + length + content


def key_info(crv: str, public: bytes) -> bytes:
    """The DER octets that are fingerprinted (udf §6; hsm-1 §1)."""
    oid = _der(6, bytes.fromhex(_OIDS[crv]))
    if crv.startswith("P-"):
        algorithm = _der(6, bytes.fromhex(_EC_PUBLIC_KEY)) + oid
        return _der(0x30, _der(0x30, algorithm) + _der(3, b"\0" + public))
    public = public[:32] if crv == "X25519" else public
    inner = _der(3, b"\0" + _der(4, public))
    return _der(0x30, _der(0x30, oid + b"\x05\x00") + inner)


def fingerprint(crv: str, public: bytes) -> bytes:
    """fp(K): TCDV with content type PKIXKey."""
    return sha512(b"PKIXKey:" + sha512(key_info(crv, public)))


def base32(octets: bytes, characters: int) -> str:
    """The first characters of the Base32 text, a dash after every fourth."""
    text = base64.b32encode(octets).decode()[:characters]
    return "-".join(re.findall(".{1,4}", text))


def udf(crv: str, public: bytes) -> str:
    """The key's UDF at 140 bits; the type octet counts the digest's zero bits (udf §3)."""
    digest = fingerprint(crv, public)
    value = int.from_bytes(digest, "big")
    zeros = (value & -value).bit_length() - 1
    level = sum(zeros >= step for step in (20, 30, 40, 50))
    return base32(bytes([96 + level]) + digest, 28)


def contribution(seed: bytes, name: str, crv: str) -> int:
    """The contribution scalar of an activation seed, mod n (hsm-1 §1, threshold §3.1).

    `seed` is the UDF's data: two octets of identifier and the secret.
    """
    group = GROUPS[crv]
    info = seed[:2] + name.encode()
    if group.endian == "little":
        return group.clamp(hkdf(seed, b"", info, _OKM[crv])) % group.n
    okm = hkdf(seed, b"", info + _ALGORITHM[crv].to_bytes(2, "big"), _OKM[crv])
    return int.from_bytes(okm, "big") % (group.n - 1) + 1


def combined(crv: str, use: str, X: Point, y: int) -> Point:
    """Z = X + yG, or yX for a signature key (hsm-1 §4; threshold §3 for what is rejected)."""
    group = GROUPS[crv]
    group.sound(X)
    if use == "Signature":
        if group.endian == "little" or y % group.n in (0, 1):
            raise unsupported("no such derived key")
        return group.multiply(y, X)
    Y = group.multiply(y % group.n, group.base)
    Z = group.add(X, Y)
    if Y is None or Z in (None, X, Y):
        raise bad_point("the sum is neutral, or a share")
    return Z


def witness(request: bytes, connection: bytes) -> str:
    """What both screens show when a device is connected (hsm-1 §6.2)."""
    return base32(sha512(F("mesh-hsm/1 witness", sha512(request), sha512(connection))), 28)


def possession(crv: str, public: bytes, verifier: str, nonce: bytes) -> bytes:
    """The octets a signature key signs to show that it is there (hsm-1 §6.5)."""
    return F("mesh-hsm/1 possession", fingerprint(crv, public), verifier, nonce)
