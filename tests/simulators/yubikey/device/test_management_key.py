"""The management key 9B, both ways, with every cipher."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB
from simulators.yubikey.device.host import FACTORY_KEY, OK, Host, tlv

from mesh_hsm.testing.virtual_yubikey import Operation
from mesh_hsm.testing.virtual_yubikey.piv.names import Ins

SIZES = {0x03: 24, 0x08: 16, 0x0A: 24, 0x0C: 32}


def ask(host: Host, body: bytes, kind: int = 0x0A) -> tuple[bytes, int]:
    return host.send(Ins.AUTHENTICATE, kind, 0x9B, tlv(0x7C, body))


def encrypted(block: bytes) -> bytes:
    return Cipher(AES(FACTORY_KEY), ECB()).encryptor().update(block)


def decrypted(block: bytes) -> bytes:
    return Cipher(AES(FACTORY_KEY), ECB()).decryptor().update(block)


def set_key(host: Host, kind: int, key: bytes, p2: int = 0xFF, p1: int = 0xFF) -> int:
    return host.status(Ins.SET_MANAGEMENT_KEY, p1, p2, bytes([kind]) + tlv(0x9B, key))


@pytest.mark.parametrize("kind", SIZES)
def test_every_cipher(manager: Host, kind: int) -> None:
    key = bytes(range(100, 100 + SIZES[kind]))
    assert set_key(manager, kind, key) == OK
    assert manager.metadata(0x9B) == {0x01: bytes([kind]), 0x02: b"\x00\x01", 0x05: b"\x00"}
    manager.device.reset()
    manager.select()
    assert manager.manage(key, kind) == OK
    assert manager.put(0x5FC10D, b"allowed") == OK


def test_a_wrong_key_also_ends_an_earlier_authentication(manager: Host) -> None:
    assert manager.manage(bytes(24)) == 0x6982
    assert manager.put(0x5FC10D, b"") == 0x6982


def test_single_authentication(host: Host) -> None:
    nonce = ask(host, tlv(0x81))[0][4:]
    assert ask(host, tlv(0x82, encrypted(nonce))) == (b"", OK)
    assert host.put(0x5FC10D, b"allowed") == OK
    assert host.device.operations[0x9B, Operation.AUTHENTICATE] == 1


def test_single_authentication_with_a_wrong_answer(host: Host) -> None:
    ask(host, tlv(0x81))
    assert ask(host, tlv(0x82, bytes(16)))[1] == 0x6982
    assert host.put(0x5FC10D, b"") == 0x6982


def test_a_host_may_name_the_response_that_it_expects(host: Host) -> None:
    witness = decrypted(ask(host, tlv(0x80))[0][4:])
    body = tlv(0x80, witness) + tlv(0x81, bytes(16)) + tlv(0x82)
    assert ask(host, body) == (tlv(0x7C, tlv(0x82, encrypted(bytes(16)))), OK)


def test_a_witness_serves_once(host: Host) -> None:
    witness = decrypted(ask(host, tlv(0x80))[0][4:])
    body = tlv(0x80, witness) + tlv(0x81, bytes(16))
    assert ask(host, body)[1] == OK
    assert ask(host, body)[1] == 0x6982


@pytest.mark.parametrize("tag", [0x80, 0x81])
def test_a_witness_or_nonce_is_for_the_very_next_command(host: Host, tag: int) -> None:
    given = ask(host, tlv(tag))[0][4:]
    host.ok(Ins.VERSION)
    if tag == 0x80:
        body = tlv(0x80, decrypted(given)) + tlv(0x81, bytes(16))
    else:
        body = tlv(0x82, encrypted(given))
    assert ask(host, body)[1] == 0x6982


def test_witnesses_differ(host: Host) -> None:
    assert ask(host, tlv(0x80)) != ask(host, tlv(0x80))


BAD = {
    "no template": b"",
    "an empty one": tlv(0x7C),
    "an unknown tag": tlv(0x7C, tlv(0x83)),
    "a short challenge": tlv(0x7C, tlv(0x80, bytes(16)) + tlv(0x81, bytes(15))),
    "too much": tlv(0x7C, tlv(0x80) + tlv(0x85)),
    "a tag twice": tlv(0x7C, tlv(0x80) + tlv(0x80)),
    "cut off": tlv(0x7C, tlv(0x80))[:-1],
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
def test_bad_templates(host: Host, data: bytes) -> None:
    assert host.status(Ins.AUTHENTICATE, 0x0A, 0x9B, data) == 0x6A80


@pytest.mark.parametrize("kind", [0x00, 0x03, 0x08, 0x0C, 0x11])
def test_another_type_than_the_stored_one(host: Host, kind: int) -> None:
    assert ask(host, tlv(0x80), kind)[1] == 0x6A80


def test_touch_is_for_the_second_step(manager: Host) -> None:
    assert set_key(manager, 0x0A, FACTORY_KEY, p2=0xFE) == OK
    assert manager.metadata(0x9B)[0x02] == b"\x00\x02"
    manager.device.touch = "never"
    assert manager.manage() == 0x6982
    assert manager.put(0x5FC10D, b"") == 0x6982
    manager.device.touch = "automatic"
    assert manager.manage() == OK


def test_set_wants_the_management_key(host: Host) -> None:
    assert set_key(host, 0x0A, bytes(24)) == 0x6982


BAD_KEYS = {
    "no data": ((0xFF, 0xFF, b""), 0x6A80),
    "a type alone": ((0xFF, 0xFF, b"\x0a"), 0x6A80),
    "an unknown type": ((0xFF, 0xFF, b"\x11" + tlv(0x9B, bytes(24))), 0x6A80),
    "another size": ((0xFF, 0xFF, b"\x0a" + tlv(0x9B, bytes(16))), 0x6A80),
    "another slot": ((0xFF, 0xFF, b"\x0a" + tlv(0x9A, bytes(24))), 0x6A80),
    "another P1": ((0x00, 0xFF, b"\x0a" + tlv(0x9B, bytes(24))), 0x6A86),
    "another touch": ((0xFF, 0x00, b"\x0a" + tlv(0x9B, bytes(24))), 0x6A86),
}


@pytest.mark.parametrize(("command", "status"), BAD_KEYS.values(), ids=BAD_KEYS)
def test_bad_new_keys(manager: Host, command: tuple[int, int, bytes], status: int) -> None:
    assert manager.status(Ins.SET_MANAGEMENT_KEY, *command) == status
    assert manager.manage() == OK
