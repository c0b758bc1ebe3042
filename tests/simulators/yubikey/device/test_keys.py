"""Keys in slots: generated, imported, described, moved, deleted."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from simulators.yubikey.device.host import OK, Host, public_key, rsa_secret, tlv, unwrapped

from mesh_hsm.testing.virtual_yubikey import Operation
from mesh_hsm.testing.virtual_yubikey.piv.names import RETIRED, Algorithm, Ins

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
SMALL = [Algorithm.P256, Algorithm.P384, Algorithm.ED25519, Algorithm.X25519, Algorithm.RSA1024]


@pytest.mark.parametrize("kind", [*SMALL, Algorithm.RSA2048, Algorithm.RSA3072])
def test_a_generated_key(manager: Host, kind: Algorithm) -> None:
    fields = manager.generate(0x9D, kind)
    assert manager.metadata(0x9D) == {
        0x01: bytes([kind]),
        0x02: b"\x02\x01",
        0x03: b"\x01",
        0x04: fields,
    }
    if kind.name.startswith("RSA"):
        assert public_key(kind, fields).key_size == int(kind.name[3:])
    assert manager.device.operations == {
        (0x9B, Operation.AUTHENTICATE): 1,
        (0x9D, Operation.GENERATE): 1,
    }


@pytest.mark.parametrize("slot", [0x9A, 0x9C, 0x9D, 0x9E, *RETIRED, 0xF9])
def test_every_slot_and_its_default_policies(manager: Host, slot: int) -> None:
    manager.generate(slot, Algorithm.P256)
    expected = {0x9C: 3, 0x9E: 1}.get(slot, 2)
    assert manager.metadata(slot)[0x02] == bytes([expected, 1])


@pytest.mark.parametrize("pin", [1, 2, 3])
@pytest.mark.parametrize("touch", [1, 2, 3])
def test_policies_are_kept(manager: Host, pin: int, touch: int) -> None:
    manager.generate(0x9C, Algorithm.P256, pin, touch)
    assert manager.metadata(0x9C)[0x02] == bytes([pin, touch])
    secret = tlv(0x06, bytes(31) + b"\x05")
    policies = tlv(0xAA, bytes([pin])) + tlv(0xAB, bytes([touch]))
    assert manager.status(Ins.IMPORT, Algorithm.P256, 0x9A, secret + policies) == OK
    assert manager.metadata(0x9A)[0x02] == bytes([pin, touch])


def test_generating_again_replaces(manager: Host) -> None:
    assert manager.generate(0x9D, Algorithm.P256) != manager.generate(0x9D, Algorithm.P256)


def generating(body: bytes) -> tuple[int, int, bytes]:
    return 0, 0x9D, tlv(0xAC, body)


P256_TAG = tlv(0x80, b"\x11")
BAD_REQUESTS = {
    "an unknown slot": ((0, 0x81, tlv(0xAC, P256_TAG)), 0x6B00),
    "the management key's": ((0, 0x9B, tlv(0xAC, P256_TAG)), 0x6B00),
    "P1": ((1, 0x9D, tlv(0xAC, P256_TAG)), 0x6A86),
    "no data": ((0, 0x9D, b""), 0x6A80),
    "no algorithm": (generating(tlv(0xAA, b"\x01")), 0x6A80),
    "an empty algorithm": (generating(tlv(0x80)), 0x6A80),
    "an unknown algorithm": (generating(tlv(0x80, b"\x15")), 0x6A80),
    "an unknown tag": (generating(P256_TAG + tlv(0xAD, b"\x01")), 0x6A80),
    "an unknown PIN policy": (generating(P256_TAG + tlv(0xAA, b"\x06")), 0x6A80),
    "a fingerprint policy": (generating(P256_TAG + tlv(0xAA, b"\x04")), 0x6A80),
    "another fingerprint policy": (generating(P256_TAG + tlv(0xAA, b"\x05")), 0x6A80),
    "an unknown touch policy": (generating(P256_TAG + tlv(0xAB, b"\x04")), 0x6A80),
    "a policy of two octets": (generating(P256_TAG + tlv(0xAB, b"\x00\x01")), 0x6A80),
}


@pytest.mark.parametrize(("command", "status"), BAD_REQUESTS.values(), ids=BAD_REQUESTS)
def test_bad_requests_leave_the_key(
    manager: Host, command: tuple[int, int, bytes], status: int
) -> None:
    before = manager.generate(0x9D, Algorithm.P256)
    assert manager.status(Ins.GENERATE, *command) == status
    assert manager.metadata(0x9D)[0x04] == before


def test_an_imported_ec_key(manager: Host) -> None:
    for kind, curve in ((Algorithm.P256, ec.SECP256R1()), (Algorithm.P384, ec.SECP384R1())):
        key = ec.generate_private_key(curve)
        scalar = key.private_numbers().private_value.to_bytes(curve.key_size // 8, "big")
        assert manager.status(Ins.IMPORT, kind, 0x82, tlv(0x06, scalar)) == OK
        point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        assert manager.metadata(0x82) == {
            0x01: bytes([kind]),
            0x02: b"\x02\x01",
            0x03: b"\x02",
            0x04: tlv(0x86, point),
        }
    assert manager.device.operations[0x82, Operation.IMPORT] == 2


def test_an_imported_edwards_or_montgomery_key(manager: Host) -> None:
    for kind, tag, key in (
        (Algorithm.ED25519, 0x07, ed25519.Ed25519PrivateKey.generate()),
        (Algorithm.X25519, 0x08, x25519.X25519PrivateKey.generate()),
    ):
        assert manager.status(Ins.IMPORT, kind, 0x83, tlv(tag, key.private_bytes_raw())) == OK
        assert manager.metadata(0x83)[0x04] == tlv(0x86, key.public_key().public_bytes_raw())


def test_an_imported_rsa_key(manager: Host, rsa_key: rsa.RSAPrivateKey) -> None:
    assert manager.status(Ins.IMPORT, Algorithm.RSA2048, 0x84, rsa_secret(rsa_key)) == OK
    assert public_key(Algorithm.RSA2048, manager.metadata(0x84)[0x04]) == rsa_key.public_key()


ONE = bytes(31) + b"\x01"
BAD_SECRETS = {
    "zero": (Algorithm.P256, tlv(0x06, bytes(32))),
    "the order": (Algorithm.P256, tlv(0x06, P256_ORDER.to_bytes(32, "big"))),
    "all ones": (Algorithm.P256, tlv(0x06, b"\xff" * 32)),
    "a short scalar": (Algorithm.P256, tlv(0x06, ONE[1:])),
    "a long scalar": (Algorithm.P256, tlv(0x06, b"\0" + ONE)),
    "the scalar of another curve": (Algorithm.P384, tlv(0x06, ONE)),
    "another key's tag": (Algorithm.P256, tlv(0x07, ONE)),
    "two secrets": (Algorithm.P256, tlv(0x06, ONE) + tlv(0x07, ONE)),
    "no secret": (Algorithm.P256, b""),
    "a short seed": (Algorithm.ED25519, tlv(0x07, ONE[1:])),
    "an Ed25519 seed for X25519": (Algorithm.X25519, tlv(0x07, ONE)),
    "an unknown algorithm": (0x15, tlv(0x06, ONE)),
    "a fingerprint policy": (Algorithm.P256, tlv(0x06, ONE) + tlv(0xAA, b"\x04")),
    "half an RSA key": (Algorithm.RSA2048, tlv(1, bytes(128)) + tlv(2, bytes(128))),
    "an RSA key of zeros": (
        Algorithm.RSA2048,
        b"".join(tlv(tag, bytes(128)) for tag in range(1, 6)),
    ),
    "cut off": (Algorithm.P256, tlv(0x06, ONE)[:-1]),
}


@pytest.mark.parametrize(("kind", "secret"), BAD_SECRETS.values(), ids=BAD_SECRETS)
def test_bad_secrets(manager: Host, kind: int, secret: bytes) -> None:
    assert manager.status(Ins.IMPORT, kind, 0x9D, secret) == 0x6A80
    assert manager.status(Ins.METADATA, 0, 0x9D) == 0x6A88


def test_an_rsa_key_that_is_too_small(manager: Host) -> None:
    numbers = rsa.generate_private_key(65537, 1984).private_numbers()
    parts = (numbers.p, numbers.q, numbers.dmp1, numbers.dmq1, numbers.iqmp)
    secret = b"".join(tlv(tag, part.to_bytes(128, "big")) for tag, part in enumerate(parts, 1))
    assert manager.status(Ins.IMPORT, Algorithm.RSA2048, 0x9D, secret) == 0x6A80


def test_rsa_numbers_that_do_not_belong_together(manager: Host, rsa_key: rsa.RSAPrivateKey) -> None:
    secret = bytearray(rsa_secret(rsa_key))
    secret[-1] ^= 1  # the last octet of qinv
    assert manager.status(Ins.IMPORT, Algorithm.RSA2048, 0x9D, bytes(secret)) == 0x6A80
    assert manager.status(Ins.IMPORT, Algorithm.RSA1024, 0x9D, rsa_secret(rsa_key)) == 0x6A80


NEEDS_MANAGEMENT = {
    "GENERATE": (Ins.GENERATE, 0, 0x9D, tlv(0xAC, P256_TAG)),
    "IMPORT": (Ins.IMPORT, Algorithm.P256, 0x9D, tlv(0x06, ONE)),
    "MOVE": (Ins.MOVE, 0x82, 0x9D, b""),
    "delete": (Ins.MOVE, 0xFF, 0xF9, b""),
}


@pytest.mark.parametrize("command", NEEDS_MANAGEMENT.values(), ids=NEEDS_MANAGEMENT)
def test_without_the_management_key(host: Host, command: tuple[int, int, int, bytes]) -> None:
    host.verify()
    assert host.status(*command) == 0x6982
    assert host.status(Ins.METADATA, 0, 0x9D) == 0x6A88
    assert host.status(Ins.METADATA, 0, 0xF9) == OK


def test_moving_takes_the_policies_along(manager: Host) -> None:
    manager.generate(0x9C, Algorithm.P256)
    before = manager.metadata(0x9C)
    assert manager.status(Ins.MOVE, 0x82, 0x9C) == OK
    assert manager.metadata(0x82) == before
    assert manager.status(Ins.METADATA, 0, 0x9C) == 0x6A88
    assert manager.device.operations[0x9C, Operation.MOVE] == 1


def test_deleting(manager: Host) -> None:
    manager.generate(0x9C, Algorithm.P256)
    assert manager.status(Ins.MOVE, 0xFF, 0x9C) == OK
    assert manager.status(Ins.MOVE, 0xFF, 0x9C) == 0x6A88
    assert manager.status(Ins.MOVE, 0xFF, 0xF9) == OK
    assert manager.status(Ins.METADATA, 0, 0xF9) == 0x6A88
    assert manager.device.operations[0x9C, Operation.DELETE] == 1


@pytest.mark.parametrize(
    ("target", "source", "status"),
    [
        (0x83, 0x84, 0x6A88),
        (0x82, 0x9D, 0x6A80),
        (0x9D, 0x9D, 0x6A80),
        (0x81, 0x9D, 0x6B00),
        (0x83, 0x81, 0x6B00),
        (0x83, 0xF9, 0x6B00),
        (0xF9, 0x9D, 0x6B00),
    ],
)
def test_bad_moves_lose_nothing(manager: Host, target: int, source: int, status: int) -> None:
    keys = {slot: manager.generate(slot, Algorithm.P256) for slot in (0x9D, 0x82)}
    assert manager.status(Ins.MOVE, target, source) == status
    assert {slot: manager.metadata(slot)[0x04] for slot in keys} == keys
    assert manager.status(Ins.METADATA, 0, 0xF9) == OK


@pytest.mark.parametrize(
    ("p1", "reference", "status"),
    [(0, 0x9D, 0x6A88), (0, 0x96, 0x6A88), (0, 0x77, 0x6B00), (1, 0x80, 0x6A86)],
)
def test_metadata_of_nothing(host: Host, p1: int, reference: int, status: int) -> None:
    assert host.status(Ins.METADATA, p1, reference) == status


def test_generate_answers_the_template(manager: Host) -> None:
    answer = manager.ok(Ins.GENERATE, 0, 0x9D, tlv(0xAC, P256_TAG))
    assert answer[:4].hex() == "7f494386"
    assert len(unwrapped(answer, 0x7F49)) == 2 + 65
