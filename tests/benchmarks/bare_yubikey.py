"""The peer: yubikit as its user writes it, on a card of its own beside ours."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from ykman.pcsc import list_devices
from yubikit.core.smartcard import SmartCardConnection
from yubikit.piv import KEY_TYPE, PIN_POLICY, SLOT, TOUCH_POLICY, PivSession

DIGESTS = {KEY_TYPE.ECCP256: Prehashed(SHA256()), KEY_TYPE.ECCP384: Prehashed(SHA384())}
WIDTHS = {KEY_TYPE.ECCP256: 32, KEY_TYPE.ECCP384: 48}


def session(serial: int, management_key: bytes) -> PivSession:
    """A session with the card of this serial number, which may write."""
    (device,) = list_devices(f"virtual {serial}")
    piv = PivSession(device.open_connection(SmartCardConnection))
    piv.authenticate(management_key)
    return piv


def make(piv: PivSession, key_type: KEY_TYPE, policy: PIN_POLICY) -> PublicKeyTypes:
    """A key in slot 9A."""
    return piv.generate_key(SLOT.AUTHENTICATION, key_type, policy, TOUCH_POLICY.NEVER)


def agree(piv: PivSession, peer: PublicKeyTypes) -> bytes:
    """One command."""
    return piv.calculate_secret(SLOT.AUTHENTICATION, peer)


def sign(piv: PivSession, key_type: KEY_TYPE, digest: bytes, pin: str) -> bytes:
    """VERIFY and one command: r || s."""
    piv.verify_pin(pin)
    der = piv.sign(SLOT.AUTHENTICATION, key_type, digest, DIGESTS[key_type])
    r, s = decode_dss_signature(der)
    return r.to_bytes(WIDTHS[key_type], "big") + s.to_bytes(WIDTHS[key_type], "big")


def octets(public: PublicKeyTypes) -> bytes:
    """A NIST public key as 04 || x || y."""
    return public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
