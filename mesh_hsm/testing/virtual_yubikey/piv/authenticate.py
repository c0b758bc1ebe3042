"""GENERAL AUTHENTICATE with a key of a slot: policies, signature, agreement.

SP 800-73-4 Part 2 §3.2.4, Appendix A.2 to A.5. All data is in ``7C {...}``.
"""

from __future__ import annotations

from typing import assert_never

from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDH,
    ECDSA,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, HashAlgorithm

from mesh_hsm.testing.virtual_yubikey import tlv
from mesh_hsm.testing.virtual_yubikey.apdu import Command
from mesh_hsm.testing.virtual_yubikey.piv.keys import Policies, PrivateKey
from mesh_hsm.testing.virtual_yubikey.piv.names import (
    Operation,
    PinPolicy,
    Slot,
    Tag,
    TouchPolicy,
)
from mesh_hsm.testing.virtual_yubikey.piv.state import Context
from mesh_hsm.testing.virtual_yubikey.status import Refused, Status

_UNCOMPRESSED = b"\x04"


def use_key(context: Context, command: Command) -> bytes:
    """``82 {}, 81 {input}`` signs, ``82 {}, 85 {point}`` agrees; the answer is ``7C {82 {...}}``.

    Looks at slot, key, PIN, touch and data, in this order.
    """
    slot = context.known(command.p2)
    key = context.state.keys.get(slot)
    if key is None or key.algorithm != command.p1 or slot == Slot.ATTESTATION:
        raise Refused(Status.WRONG_DATA)
    _allow(context, key.policies)
    fields = tlv.fields(tlv.unwrap(Tag.DYNAMIC_AUTHENTICATION, command.data))
    if fields.pop(Tag.RESPONSE, None) != b"" or len(fields) != 1:
        raise Refused(Status.WRONG_DATA)
    match fields.popitem():
        case (Tag.CHALLENGE, value):
            operation, result = Operation.SIGN, sign(key.private, value)
        case (Tag.EXPONENTIATION, value):
            operation, result = (
                Operation.AGREE,
                agree(key.private, value, context.choices.bad_point),
            )
        case _:
            raise Refused(Status.WRONG_DATA)
    context.count(slot, operation)
    return tlv.encode(Tag.DYNAMIC_AUTHENTICATION, tlv.encode(Tag.RESPONSE, result))


def sign(private: PrivateKey, value: bytes) -> bytes:
    """ECDSA (DER) over a digest, Ed25519 over a message, or raw RSA. Refused (6A80) otherwise."""
    match private:
        case EllipticCurvePrivateKey():
            hashed: HashAlgorithm = SHA256() if private.curve.key_size == 256 else SHA384()
            size = hashed.digest_size
            if not 0 < len(value) <= size:
                raise Refused(Status.WRONG_DATA)
            # The same integer; the library wants as many octets as the hash has.
            return private.sign(value.rjust(size, b"\0"), ECDSA(Prehashed(hashed)))
        case Ed25519PrivateKey():
            return private.sign(value)
        case RSAPrivateKey():
            return _raw_rsa(private, value)
        case X25519PrivateKey():
            raise Refused(Status.WRONG_DATA)
        case never:
            assert_never(never)


def agree(private: PrivateKey, value: bytes, bad_point: int) -> bytes:
    """Z, the x-coordinate with its leading zeros, or X25519's u. Refused: ``bad_point``, or 6A80
    for a key that cannot agree.
    """
    try:
        match private:
            case EllipticCurvePrivateKey():
                if not value.startswith(_UNCOMPRESSED):
                    raise Refused(bad_point)
                point = EllipticCurvePublicKey.from_encoded_point(private.curve, value)
                return private.exchange(ECDH(), point)
            case X25519PrivateKey():
                return private.exchange(X25519PublicKey.from_public_bytes(value))
            case _:
                raise Refused(Status.WRONG_DATA)
    except ValueError:
        raise Refused(bad_point) from None


def _allow(context: Context, policies: Policies) -> None:
    if policies.pin is not PinPolicy.NEVER:
        context.require_pin()
    each_use = policies.pin is PinPolicy.ALWAYS and context.choices.always_means_each_use
    if each_use and not context.session.before.pin_fresh:
        raise Refused(Status.SECURITY_NOT_SATISFIED)
    if policies.touch is not TouchPolicy.NEVER:
        context.require_touch(cached=policies.touch is TouchPolicy.CACHED)


def _raw_rsa(private: RSAPrivateKey, value: bytes) -> bytes:
    # The host pads, and no library offers RSA without padding. pow() leaks its exponent through
    # time: here it is a test key in a test process.
    numbers = private.private_numbers()
    modulus = numbers.public_numbers.n
    size, integer = private.key_size // 8, int.from_bytes(value, "big")
    if len(value) != size or integer >= modulus:
        raise Refused(Status.WRONG_DATA)
    p, q = numbers.p, numbers.q
    at_p, at_q = pow(integer, numbers.dmp1, p), pow(integer, numbers.dmq1, q)
    return (at_q + q * ((at_p - at_q) * numbers.iqmp % p)).to_bytes(size, "big")
