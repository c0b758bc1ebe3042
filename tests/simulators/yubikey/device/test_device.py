"""What tests do to a device: pull it out, make it fail, look at what passed, save it."""

from __future__ import annotations

import json
import threading
import time

import pytest
from cryptography.hazmat.primitives.asymmetric.x448 import X448PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from simulators.yubikey.device.host import FACTORY_KEY, OK, PIN, PUK, WRONG, Host, named, tlv

from mesh_hsm.errors import FormatError
from mesh_hsm.testing.virtual_yubikey import Operation, Record, Removed, VirtualYubiKey
from mesh_hsm.testing.virtual_yubikey.piv.names import Algorithm, Ins

VERSION = bytes.fromhex("00FD0000")


# -- the plug ------------------------------------------------------------------------------------


def test_removed_and_inserted(manager: Host) -> None:
    changes = []
    device = manager.device
    device.on_change(lambda: changes.append(device.present))
    device.insert()  # it is in
    manager.verify()
    device.remove()
    device.remove()
    with pytest.raises(Removed):
        device.transmit(VERSION)
    device.insert()
    assert changes == [False, True]
    assert device.transmit(VERSION) == bytes.fromhex("6985")
    manager.select()
    assert manager.status(Ins.VERIFY, 0, 0x80) == 0x63C3
    assert manager.put(0x5FC10D, b"") == 0x6982


def test_a_transport_that_closes_its_connection_late(host: Host) -> None:
    host.device.remove()
    host.device.reset()
    with pytest.raises(Removed):
        host.select()
    host.device.insert()
    assert host.verify() == 0x6985


def test_unplugged_at_the_third_command(manager: Host) -> None:
    changes = []
    manager.device.on_change(lambda: changes.append(manager.device.present))
    manager.device.unplug_at(3)
    manager.generate(0x9D, Algorithm.P256)
    manager.generate(0x9A, Algorithm.P256)
    assert changes == []
    with pytest.raises(Removed):
        manager.generate(0x9E, Algorithm.P256)
    assert changes == [False]
    manager.device.insert()
    manager.select()
    assert manager.status(Ins.METADATA, 0, 0x9A) == OK
    assert manager.status(Ins.METADATA, 0, 0x9E) == 0x6A88


@pytest.mark.parametrize("answered", [True, False])
def test_power_loss_after_a_command(manager: Host, answered: bool) -> None:
    changes = []
    manager.device.on_change(lambda: changes.append(manager.device.present))
    manager.device.power_loss_after(1, answered)
    if answered:
        manager.generate(0x9D, Algorithm.P256)
    else:
        with pytest.raises(Removed):
            manager.generate(0x9D, Algorithm.P256)
    assert changes == [False]
    assert not manager.device.present
    with pytest.raises(Removed):
        manager.select()
    manager.device.insert()
    manager.select()
    assert manager.status(Ins.METADATA, 0, 0x9D) == OK  # either way it was made


@pytest.mark.parametrize("n", [0, -1])
def test_a_command_that_has_passed(device: VirtualYubiKey, n: int) -> None:
    with pytest.raises(ValueError, match="number 1"):
        device.unplug_at(n)


def test_commands_wait_for_one_another(host: Host) -> None:
    """Two threads, one card: each of a chain's or an answer's parts would get lost otherwise."""
    host.device.latency = 0.001
    answers: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: answers.append(host.device.transmit(VERSION)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [bytes.fromhex("0507019000")] * 4


def test_latency_is_real(device: VirtualYubiKey) -> None:
    device.latency = 0.02
    started = time.monotonic()
    device.transmit(VERSION)
    assert time.monotonic() - started >= 0.02


# -- refusals ------------------------------------------------------------------------------------


def test_failing_on_purpose(host: Host) -> None:
    host.device.fail_next(Ins.VERIFY, 0x6F00, times=2)
    host.device.fail_next(Ins.VERIFY, 0x6581)
    assert host.ok(Ins.VERSION)
    assert [host.verify(WRONG) for _ in range(4)] == [0x6F00, 0x6F00, 0x6581, 0x63C2]
    assert host.transmit(b"\0") == (b"", 0x6700)


# -- the trace -----------------------------------------------------------------------------------


def test_the_trace_has_everything_but_secrets(manager: Host) -> None:
    new = b"87654321"
    device = manager.device
    manager.verify()
    manager.status(Ins.CHANGE_REFERENCE, 0, 0x80, PIN + new)
    manager.status(Ins.RESET_RETRY, 0, 0x80, PUK + PIN)
    scalar = bytes(range(1, 33))
    manager.ok(Ins.IMPORT, Algorithm.P256, 0x9D, tlv(0x06, scalar))
    manager.ok(Ins.SET_MANAGEMENT_KEY, 0xFF, 0xFF, b"\x0a" + tlv(0x9B, FACTORY_KEY))
    manager.put(0x5FC109, tlv(0x88, tlv(0x89, FACTORY_KEY)))
    manager.verify()
    assert manager.get(0x5FC109)[0] == tlv(0x88, tlv(0x89, FACTORY_KEY))
    device.transmit(bytes([0x10, Ins.VERIFY, 0, 0x80, 3]) + PIN[:3])
    device.transmit(bytes([0, Ins.VERIFY, 0, 0x80, 9]) + PIN)  # cut off
    seen = "".join(map(str, device.trace)) + repr(device.trace)
    for secret in (PIN, PUK, new, scalar, FACTORY_KEY, PIN[:3]):
        assert secret.hex() not in seen
        assert repr(secret)[2:-1] not in seen
    assert sum(named(0x5FC109) in record.body for record in device.trace) == 2
    assert device.apdus == len(device.trace) == 13


def test_a_record(host: Host) -> None:
    host.get(0x5FC105)
    host.verify()
    host.ok(Ins.VERSION)
    got, verified, version = host.device.trace[-3:]
    request = named(0x5FC105)
    assert got.header + got.body == bytes.fromhex("00CB3FFF 000005") + request
    assert (got.ins, got.status, got.answer) == (Ins.GET_DATA, 0x6A82, b"")
    assert (verified.header, verified.body) == (bytes.fromhex("00200080"), bytes(11))
    assert str(version) == "00fd0000  -> 050701 9000"


def test_a_record_of_what_was_not_answered(host: Host) -> None:
    host.device.unplug_at(1)
    with pytest.raises(Removed):
        host.verify()
    record = host.device.trace[-1]
    assert (record.status, str(record).endswith("gone")) == (None, True)
    assert Record.of(b"\0", b"\x67\0").ins is None


# -- the persistent state ------------------------------------------------------------------------


def test_saved_and_loaded(manager: Host) -> None:
    kinds = (Algorithm.P256, Algorithm.P384, Algorithm.RSA1024, Algorithm.ED25519, Algorithm.X25519)
    slots = (0x9A, 0x9C, 0x9D, 0x9E, 0x82)
    for slot, kind in zip(slots, kinds, strict=True):
        manager.generate(slot, kind, 1, 3)
    manager.put(0x5FC105, b"content")
    manager.status(Ins.CHANGE_REFERENCE, 0, 0x81, PUK + b"87654321")
    manager.verify(WRONG)
    key = bytes(range(32))
    manager.ok(Ins.SET_MANAGEMENT_KEY, 0xFF, 0xFE, b"\x0c" + tlv(0x9B, key))
    references = (0x80, 0x81, 0x9B, 0xF9, *slots)
    other = Host(VirtualYubiKey())
    other.device.load(manager.device.save())
    other.select()
    assert [other.metadata(each) for each in references] == [
        manager.metadata(each) for each in references
    ]
    assert other.get(0x5FC105) == (b"content", OK)
    assert other.get(0x5FFF01) == manager.get(0x5FFF01)
    assert other.put(0x5FC105, b"") == 0x6982
    assert other.manage(key, 0x0C) == OK
    assert other.metadata(0x80)[0x06] == b"\x03\x02"


def test_loading_is_a_reset(manager: Host) -> None:
    manager.device.load(manager.device.save())
    assert manager.transmit(VERSION) == (b"", 0x6985)


def key_of_another_kind() -> str:
    pkcs8 = (Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return X448PrivateKey.generate().private_bytes(*pkcs8).hex()


def damaged(change: str) -> bytes:
    content = json.loads(VirtualYubiKey().save())
    match change:
        case "another format":
            content["format"] = "2"
        case "another serial number":
            content["serial"] += 1
        case "another firmware":
            content["firmware"][2] += 1
        case "no PIN":
            del content["piv"]["pin"]
        case "a PIN of the wrong kind":
            content["piv"]["pin"] = 5
        case "a key that is none":
            content["piv"]["keys"]["249"][1] = "00"
        case "a key of another kind":
            content["piv"]["keys"]["249"][1] = key_of_another_kind()
    return json.dumps(content).encode()


DAMAGES = [
    "another format",
    "another serial number",
    "another firmware",
    "no PIN",
    "a PIN of the wrong kind",
    "a key that is none",
    "a key of another kind",
]


@pytest.mark.parametrize(
    "saved",
    [*map(damaged, DAMAGES), b"", b"[]", b"\xff"],
    ids=[*DAMAGES, "nothing", "a list", "no text"],
)
def test_what_was_not_saved_by_this_device(manager: Host, saved: bytes) -> None:
    with pytest.raises(FormatError):
        manager.device.load(saved)
    assert manager.put(0x5FC105, b"nothing has happened") == OK


def test_the_state_may_be_looked_at(manager: Host) -> None:
    manager.verify(WRONG)
    assert (manager.device.state.pin.left, manager.device.state.pin.total) == (2, 3)
    assert set(manager.device.state.keys) == {0xF9}


# -- counters ------------------------------------------------------------------------------------


def test_operations_are_counted_by_slot(manager: Host) -> None:
    manager.generate(0x9D, Algorithm.P256, 1)
    manager.generate(0x9E, Algorithm.P256)
    for slot in (0x9D, 0x9D, 0x9E):
        manager.sign(slot, Algorithm.P256)
    operations = manager.device.operations
    assert (operations[0x9D, Operation.SIGN], operations[0x9E, Operation.SIGN]) == (2, 1)
    assert operations[0x9A, Operation.SIGN] == 0
