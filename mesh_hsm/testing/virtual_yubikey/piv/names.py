"""Numbers of the PIV application: instructions, slots, algorithms, policies, tags, objects.

SP 800-73-4 Part 1 Tables 2 and 4b, Part 2 §3; the instructions from F6 on, the policies and the
algorithms 05, 16, E0 and E1 are Yubico's.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Final


class Ins(IntEnum):
    """Instructions."""

    VERIFY = 0x20
    CHANGE_REFERENCE = 0x24
    RESET_RETRY = 0x2C
    GENERATE = 0x47
    AUTHENTICATE = 0x87
    GET_DATA = 0xCB
    PUT_DATA = 0xDB
    MOVE = 0xF6
    METADATA = 0xF7
    SERIAL = 0xF8
    ATTEST = 0xF9
    SET_RETRIES = 0xFA
    RESET = 0xFB
    VERSION = 0xFD
    IMPORT = 0xFE
    SET_MANAGEMENT_KEY = 0xFF


class Reference(IntEnum):
    """Key references that are no slots."""

    PIN = 0x80
    PUK = 0x81
    FINGERPRINT = 0x96
    MANAGEMENT = 0x9B


class Slot(IntEnum):
    """Key slots that have names; the retired ones are ``RETIRED``."""

    AUTHENTICATION = 0x9A
    SIGNATURE = 0x9C
    KEY_MANAGEMENT = 0x9D
    CARD_AUTHENTICATION = 0x9E
    ATTESTATION = 0xF9


RETIRED: Final = range(0x82, 0x96)
SLOTS: Final = frozenset({*Slot, *RETIRED})


class Algorithm(IntEnum):
    """Algorithms of asymmetric keys."""

    RSA1024 = 0x06
    RSA2048 = 0x07
    RSA3072 = 0x05
    RSA4096 = 0x16
    P256 = 0x11
    P384 = 0x14
    ED25519 = 0xE0
    X25519 = 0xE1


class PinPolicy(IntEnum):
    """When a key needs the PIN; MATCH is for fingerprint readers only."""

    DEFAULT = 0
    NEVER = 1
    ONCE = 2
    ALWAYS = 3
    MATCH_ONCE = 4
    MATCH_ALWAYS = 5


class TouchPolicy(IntEnum):
    """When a key needs a touch."""

    DEFAULT = 0
    NEVER = 1
    ALWAYS = 2
    CACHED = 3


class Origin(IntEnum):
    """Where a key was made."""

    GENERATED = 1
    IMPORTED = 2


class Tag(IntEnum):
    """Tags of requests and answers."""

    DYNAMIC_AUTHENTICATION = 0x7C
    WITNESS = 0x80
    CHALLENGE = 0x81
    RESPONSE = 0x82
    EXPONENTIATION = 0x85
    GENERATE = 0xAC
    ALGORITHM = 0x80
    PIN_POLICY = 0xAA
    TOUCH_POLICY = 0xAB
    PUBLIC_KEY = 0x7F49
    MODULUS = 0x81
    EXPONENT = 0x82
    POINT = 0x86
    OBJECT_ID = 0x5C
    CONTENT = 0x53
    CERTIFICATE = 0x70
    CERTIFICATE_INFO = 0x71
    ERROR_DETECTION = 0xFE


class Metadata(IntEnum):
    """Tags of GET METADATA."""

    ALGORITHM = 0x01
    POLICIES = 0x02
    ORIGIN = 0x03
    PUBLIC_KEY = 0x04
    IS_DEFAULT = 0x05
    TRIES = 0x06


class ObjectId(IntEnum):
    """Data objects that the card treats specially; every other 5Fxxxx is just stored."""

    DISCOVERY = 0x7E
    FINGERPRINTS = 0x5FC103
    FACE = 0x5FC108
    PRINTED = 0x5FC109
    IRIS = 0x5FC121
    ATTESTATION = 0x5FFF01


class Operation(StrEnum):
    """What the device counts, by slot."""

    GENERATE = "generate"
    IMPORT = "import"
    AUTHENTICATE = "authenticate"
    SIGN = "sign"
    """Also RSA decryption: raw RSA is the same operation."""
    AGREE = "agree"
    ATTEST = "attest"
    MOVE = "move"
    DELETE = "delete"
