"""The private-key operations: GENERAL AUTHENTICATE, and nothing else touches a private key.

Open this file to audit what is sent to a key, and what is done with the answer. SP 800-73-4 Part 2
§3.2.4; points and digests were checked by the contract before they come here.
"""

from __future__ import annotations

from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from yubikit.core import Tlv
from yubikit.piv import SLOT, PivSession

from mesh_hsm.curves import Point, XOnly
from mesh_hsm.curves.weierstrass import WeierstrassCurve
from mesh_hsm.errors import DeviceError
from mesh_hsm_yubikey.algorithms import KEY_TYPES

_AUTHENTICATE: Final = 0x87  # GENERAL AUTHENTICATE
_DYNAMIC: Final = 0x7C  # its dynamic authentication template, and what stands in it
_RESPONSE: Final = 0x82
_EXPONENTIATION: Final = 0x85

# Full field width each: yubikit pads what is shorter by a rule of its own (hsm-1 §11).
_DIGESTS = {"P-256": Prehashed(SHA256()), "P-384": Prehashed(SHA384())}


def agree(piv: PivSession, slot: SLOT, P: Point) -> XOnly:
    """x·P as its x (u) coordinate. One command; yubikit's errors pass.

    The point goes out as it was checked: yubikit's own function wants it as a library's key, and
    making one costs a tenth of the whole.
    """
    curve = P.curve
    point = P.encode() if isinstance(curve, WeierstrassCurve) else P.agreement_octets()
    asked = Tlv(_DYNAMIC, Tlv(_RESPONSE) + Tlv(_EXPONENTIATION, point))
    answer = piv.protocol.send_apdu(0, _AUTHENTICATE, KEY_TYPES[curve.name], slot, asked)
    octets = Tlv.unpack(_RESPONSE, Tlv.unpack(_DYNAMIC, answer))
    if (size := len(octets)) != curve.field_size:
        del octets  # secret, and not for a traceback
        raise DeviceError(f"the YubiKey's agreement on {curve.name} has {size} octets")
    return XOnly.decode(curve, octets)


def sign(piv: PivSession, slot: SLOT, public: Point, octets: bytes) -> bytes:
    """r || s at field width over a digest, or EdDSA's octets over a message. One command."""
    curve = public.curve
    digest: Any = _DIGESTS.get(curve.name)  # yubikit's annotation knows no Prehashed
    signature: bytes = piv.sign(slot, KEY_TYPES[curve.name], octets, digest)
    if curve.family == "edwards":
        return signature
    try:
        r, s = decode_dss_signature(signature)
        return r.to_bytes(curve.scalar_size, "big") + s.to_bytes(curve.scalar_size, "big")
    except (ValueError, OverflowError) as error:
        raise DeviceError("the YubiKey's signature has an unknown form") from error
