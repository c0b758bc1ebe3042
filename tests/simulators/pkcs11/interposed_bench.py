"""What the tests of the interposer share: codes, curves, and a session on an interposed token."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import bare_module as p11
import pytest
from bare_module import BareModule, Template
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, x448, x25519
from interposer import Interposer

from mesh_hsm.testing.softhsm_maker import RefusedError

P256, P521 = bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("06052b81040023")
NIST = {P256: ec.SECP256R1(), P521: ec.SECP521R1()}
ED25519, ED448 = bytes.fromhex("06032b6570"), bytes.fromhex("06032b6571")
X25519, X448 = bytes.fromhex("06032b656e"), bytes.fromhex("06032b656f")
NAMES = {
    ED25519: b"\x13\x0cedwards25519",
    ED448: b"\x13\x0aedwards448",
    X25519: b"\x13\x0acurve25519",
    X448: b"\x13\x08curve448",
}
NSS_X25519 = bytes.fromhex("06092b06010401da470f01")
RAW_SIZE = {P256: 65, P521: 133, ED25519: 32, ED448: 57, X25519: 32, X448: 56}
ALL = list(RAW_SIZE)
OTHERS = [ED25519, ED448, X25519, X448]

ATTRIBUTE_READ_ONLY, ATTRIBUTE_SENSITIVE, ATTRIBUTE_TYPE_INVALID = 0x10, 0x11, 0x12
ATTRIBUTE_VALUE_INVALID, TEMPLATE_INCONSISTENT = 0x13, 0xD1
MECHANISM_INVALID, MECHANISM_PARAM_INVALID = 0x70, 0x71
DOMAIN_PARAMS_INVALID, CURVE_NOT_SUPPORTED, BUFFER_TOO_SMALL = 0x130, 0x140, 0x150
KEY_HANDLE_INVALID, OBJECT_HANDLE_INVALID = 0x60, 0x82
PIN_INCORRECT, ALREADY_LOGGED_IN = 0xA0, 0x100

COUNT_LOW, FINAL_TRY, LOCKED, TO_BE_CHANGED = 1 << 16, 1 << 17, 1 << 18, 1 << 19
USER_PIN_FLAGS = COUNT_LOW | FINAL_TRY | LOCKED | TO_BE_CHANGED
PROTECTED_PATH, TOKEN_PRESENT = 1 << 8, 1


def pin_flags(module: BareModule, slot: int) -> int:
    """What CK_TOKEN_INFO says of the user's PIN."""
    return module.token_info(slot).flags & USER_PIN_FLAGS


def pair(module: BareModule, session: int, *, always_authenticate: bool = False) -> tuple[int, int]:
    """The handles of a new P-256 key pair for signatures."""
    private = {
        p11.TOKEN: False,
        p11.SIGN: True,
        p11.ALWAYS_AUTHENTICATE: always_authenticate,
    }
    public = {p11.TOKEN: False, p11.PRIVATE: False, p11.EC_PARAMS: P256}
    return module.generate(session, p11.EC_GENERATION, public, private)


@dataclass
class Bench:
    """A session, logged in, through the interposer."""

    interposer: Interposer
    module: BareModule
    slot: int
    session: int

    def generate(
        self,
        params: bytes,
        mechanism: int | None = None,
        key_type: int | None = None,
        private: Template | None = None,
    ) -> tuple[int, int]:
        """A key pair of this curve, by SoftHSM's mechanism where none is given."""
        usual = p11.EC_GENERATION if params in NIST else p11.EDWARDS_GENERATION
        agrees = params in (*NIST, X25519, X448, NSS_X25519, *map(NAMES.get, (X25519, X448)))
        type_: Template = {} if key_type is None else {p11.KEY_TYPE: key_type}
        public: Template = {p11.TOKEN: False, p11.PRIVATE: False, p11.EC_PARAMS: params}
        usual_private: Template = {
            p11.TOKEN: False,
            p11.SENSITIVE: True,
            p11.EXTRACTABLE: False,
            p11.SIGN: True,
            p11.DERIVE: agrees,
        }
        return self.module.generate(
            self.session,
            mechanism or usual,
            {**public, **type_},
            {**usual_private, **type_, **(private or {})},
        )

    def read(self, key: int, kind: int) -> bytes:
        return self.module.read(self.session, key, kind)

    def number(self, key: int, kind: int) -> int:
        return int.from_bytes(self.read(key, kind), "little")

    def agree(self, key: int, peer: bytes, template: Template = p11.READABLE) -> bytes:
        secret = self.module.derive(self.session, key, peer, template)
        return self.read(secret, p11.VALUE)

    def find(self, template: Template) -> list[int]:
        return sorted(self.module.find(self.session, template))


@contextmanager
def refused(*codes: int) -> Iterator[None]:
    """A block that the module refuses with one of these codes."""
    with pytest.raises(RefusedError) as caught:
        yield
    assert caught.value.code in codes, hex(caught.value.code)


def name_of(params: bytes) -> str:
    return NIST[params].name if params in NIST else NAMES[params][2:].decode()


def wrapped(point: bytes) -> bytes:
    return b"\x04" + (b"\x81" if len(point) > 127 else b"") + bytes([len(point)]) + point


def peer_of(params: bytes) -> bytes:
    """Somebody's bare public point."""
    if params in NIST:
        public = ec.derive_private_key(4711, NIST[params]).public_key()
        return public.public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
    key = x448.X448PrivateKey if params == X448 else x25519.X25519PrivateKey
    return key.from_private_bytes(bytes([77]) * RAW_SIZE[params]).public_key().public_bytes_raw()
