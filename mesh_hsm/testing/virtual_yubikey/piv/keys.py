"""Asymmetric keys: what a slot holds, and the public half as the card tells it.

Open this to see which algorithms there are, how they are made, and since which firmware.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias, assert_never

from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    EllipticCurve,
    EllipticCurvePrivateKey,
)
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mesh_hsm.testing.virtual_yubikey import tlv
from mesh_hsm.testing.virtual_yubikey.hardware import Version
from mesh_hsm.testing.virtual_yubikey.piv.names import (
    Algorithm,
    Origin,
    PinPolicy,
    Slot,
    Tag,
    TouchPolicy,
)
from mesh_hsm.testing.virtual_yubikey.status import Refused, Status

PrivateKey: TypeAlias = (
    RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey | X25519PrivateKey
)

RSA_EXPONENT: Final = 65_537
RSA_BITS: Final[Mapping[Algorithm, int]] = {
    Algorithm.RSA1024: 1024,
    Algorithm.RSA2048: 2048,
    Algorithm.RSA3072: 3072,
    Algorithm.RSA4096: 4096,
}
CURVES: Final[Mapping[Algorithm, EllipticCurve]] = {
    Algorithm.P256: SECP256R1(),
    Algorithm.P384: SECP384R1(),
}
_SINCE_5_7: Final = frozenset(
    {Algorithm.RSA3072, Algorithm.RSA4096, Algorithm.ED25519, Algorithm.X25519}
)


@dataclass(frozen=True)
class Policies:
    """A key's policies; the defaults are resolved when the key is made, and move with it."""

    pin: PinPolicy
    touch: TouchPolicy

    @classmethod
    def resolve(cls, slot: int, fields: Mapping[int, bytes]) -> Policies:
        """From the optional tags AA and AB. Refused (6A80) for a policy that is not there."""
        try:
            pin = PinPolicy(_octet(fields.get(Tag.PIN_POLICY, b"\0")))
            touch = TouchPolicy(_octet(fields.get(Tag.TOUCH_POLICY, b"\0")))
        except ValueError:
            raise Refused(Status.WRONG_DATA) from None
        if pin in (PinPolicy.MATCH_ONCE, PinPolicy.MATCH_ALWAYS):
            raise Refused(Status.WRONG_DATA)
        return cls(pin or _default_pin_policy(slot), touch or TouchPolicy.NEVER)


@dataclass(frozen=True)
class Key:
    """What a slot holds."""

    algorithm: Algorithm
    private: PrivateKey = field(repr=False)
    policies: Policies
    origin: Origin

    def public_fields(self) -> bytes:
        """``81 modulus, 82 exponent`` or ``86 point``, as GENERATE and METADATA tell it."""
        match self.private:
            case RSAPrivateKey() as private:
                numbers = private.public_key().public_numbers()
                size = private.key_size // 8
                return tlv.encode(Tag.MODULUS, numbers.n.to_bytes(size, "big")) + tlv.encode(
                    Tag.EXPONENT, numbers.e.to_bytes(3, "big")
                )
            case EllipticCurvePrivateKey() as private:
                point = private.public_key().public_bytes(
                    Encoding.X962, PublicFormat.UncompressedPoint
                )
                return tlv.encode(Tag.POINT, point)
            case Ed25519PrivateKey() | X25519PrivateKey() as private:
                return tlv.encode(Tag.POINT, private.public_key().public_bytes_raw())
            case never:
                assert_never(never)


def algorithm(number: int, firmware: Version) -> Algorithm:
    """The algorithm of this number. Refused (6A80) where this firmware has none."""
    try:
        found = Algorithm(number)
    except ValueError:
        raise Refused(Status.WRONG_DATA) from None
    if found in _SINCE_5_7 and firmware < (5, 7, 0):
        raise Refused(Status.WRONG_DATA)
    return found


def generate(kind: Algorithm) -> PrivateKey:
    """A new private key. RSA takes as long as the host's library takes."""
    if kind in RSA_BITS:
        return generate_rsa(RSA_EXPONENT, RSA_BITS[kind])
    if kind in CURVES:
        return generate_ec(CURVES[kind])
    return (
        Ed25519PrivateKey.generate() if kind == Algorithm.ED25519 else X25519PrivateKey.generate()
    )


def _default_pin_policy(slot: int) -> PinPolicy:
    match slot:
        case Slot.SIGNATURE:
            return PinPolicy.ALWAYS
        case Slot.CARD_AUTHENTICATION:
            return PinPolicy.NEVER
        case _:
            return PinPolicy.ONCE


def _octet(value: bytes) -> int:
    if len(value) != 1:
        raise Refused(Status.WRONG_DATA)
    return value[0]
