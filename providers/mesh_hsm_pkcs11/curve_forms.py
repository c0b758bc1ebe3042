"""How tokens write curves and public points. Open this file when a key's public half is not read.

CKA_EC_PARAMS is an object identifier or, for Edwards and Montgomery curves, a printable name
(PKCS #11 v3.0 §2.3); CKA_EC_POINT a DER OCTET STRING or, by newer modules, the raw octets. What is
what shows in the octets themselves: no token need be asked about its habits.
"""

from __future__ import annotations

from typing import Final

from mesh_hsm.curves import CURVES, Curve, Point, curve
from mesh_hsm.errors import DeviceError

_OIDS: Final = {
    "P-256": "06082a8648ce3d030107",
    "P-384": "06052b81040022",
    "P-521": "06052b81040023",
    "X25519": "06032b656e",
    "X448": "06032b656f",
    "Ed25519": "06032b6570",
    "Ed448": "06032b6571",
}
_NAMES: Final = {
    "X25519": "curve25519",
    "X448": "curve448",
    "Ed25519": "edwards25519",
    "Ed448": "edwards448",
}
# Before RFC 8410 gave it one, X25519 had this identifier of the GNU project's.
_GNU_X25519: Final = bytes.fromhex("06092b06010401da470f01")

OIDS: Final = {name: bytes.fromhex(octets) for name, octets in _OIDS.items()}
PRINTABLE: Final = {
    name: b"\x13" + bytes([len(text)]) + text.encode("ascii") for name, text in _NAMES.items()
}
OTHER_NAMES: Final = {"X25519": (_GNU_X25519,)}

_CURVES: Final = {
    octets: curve(name) for table in (OIDS, PRINTABLE) for name, octets in table.items()
} | {octets: curve(name) for name, others in OTHER_NAMES.items() for octets in others}
_RAW_SIZES: Final = {  # octets of a point as PKCS #11 has it
    **{name: c.encoded_size for name, c in CURVES.items()},
    "X25519": 32,
    "X448": 56,
}


def read_curve(parameters: bytes) -> Curve | None:
    """The curve that CKA_EC_PARAMS names; None for one that is not the Mesh's."""
    return _CURVES.get(bytes(parameters))


def read_point(c: Curve, octets: bytes) -> Point:
    """The public key in CKA_EC_POINT, raw or in an OCTET STRING; of u alone, the even point.

    Raises ``DeviceError`` for octets of neither form, ``InvalidPointError`` beside the curve.
    """
    size = _RAW_SIZES[c.name]
    for form in (b"", *_octet_string_heads(size)):
        if len(octets) == len(form) + size and octets.startswith(form):
            raw = octets[len(form) :]
            return c.decode_x(raw) if c.family == "montgomery" else c.decode(raw)
    raise DeviceError(f"the token's public point is none of {c.name}")


def peer_octets(P: Point) -> bytes:
    """A public point as ``CK_ECDH1_DERIVE_PARAMS`` wants it: raw."""
    return P.agreement_octets() if P.curve.family == "montgomery" else P.encode()


def point_attribute(P: Point, *, der: bool) -> bytes:
    """A public point in a DER OCTET STRING or raw: some modules read one form only."""
    octets = peer_octets(P)
    return _octet_string_heads(len(octets))[0] + octets if der else octets


def _octet_string_heads(size: int) -> tuple[bytes, ...]:
    if size < 0x80:
        return (bytes([4, size]),)
    return (bytes([4, 0x81, size]),)
