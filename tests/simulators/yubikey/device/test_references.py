"""PIN and PUK: every try is counted, and counted before it is answered (section 14.6)."""

from __future__ import annotations

import pytest
from simulators.yubikey.device.host import FACTORY_KEY, OK, PIN, PUK, WRONG, Host

from mesh_hsm.testing.virtual_yubikey import Removed, VirtualYubiKey
from mesh_hsm.testing.virtual_yubikey.piv.names import Ins

NEW = b"654321\xff\xff"
SHORT = b"12345\xff\xff\xff"
EMPTY = b"\xff" * 8


def block(host: Host) -> None:
    """Use up PIN and PUK, as a host's factory reset does."""
    while host.verify(EMPTY) != 0x6983:
        pass
    while host.status(Ins.RESET_RETRY, 0, 0x80, EMPTY * 2) != 0x6983:
        pass


def tries(host: Host, reference: int = 0x80) -> tuple[int, int]:
    total, left = host.metadata(reference)[0x06]
    return total, left


def test_the_last_try_and_after_it(host: Host) -> None:
    statuses = [host.verify(WRONG) for _ in range(4)]
    assert statuses == [0x63C2, 0x63C1, 0x63C0, 0x6983]
    assert host.verify(PIN) == 0x6983
    assert host.status(Ins.VERIFY, 0, 0x80) == 0x6983
    assert tries(host) == (3, 0)


def test_a_right_pin_fills_the_counter_and_a_wrong_one_ends_the_verification(host: Host) -> None:
    host.verify(WRONG)
    assert host.verify() == OK
    assert tries(host) == (3, 3)
    assert host.status(Ins.VERIFY, 0, 0x80) == OK
    assert host.verify(WRONG) == 0x63C2
    assert host.status(Ins.VERIFY, 0, 0x80) == 0x63C2


def test_asking_takes_no_try(host: Host) -> None:
    assert [host.status(Ins.VERIFY, 0, 0x80) for _ in range(5)] == [0x63C3] * 5
    assert host.verify() == OK


def test_forgetting_a_verification(host: Host) -> None:
    host.verify()
    assert host.status(Ins.VERIFY, 0xFF, 0x80) == OK
    assert host.status(Ins.VERIFY, 0, 0x80) == 0x63C3
    assert host.status(Ins.VERIFY, 0xFF, 0x80, PIN) == 0x6A80


def test_an_empty_pin_is_a_wrong_pin(host: Host) -> None:
    assert host.verify(EMPTY) == 0x63C2


@pytest.mark.parametrize(("reference", "old"), [(0x80, PIN), (0x81, PUK)])
def test_change(host: Host, reference: int, old: bytes) -> None:
    assert host.metadata(reference) == {0x01: b"\xff", 0x05: b"\x01", 0x06: b"\x03\x03"}
    assert host.status(Ins.CHANGE_REFERENCE, 0, reference, WRONG + NEW) == 0x63C2
    assert host.status(Ins.CHANGE_REFERENCE, 0, reference, old + SHORT) == 0x6985
    assert tries(host, reference) == (3, 3)
    assert host.status(Ins.CHANGE_REFERENCE, 0, reference, old + NEW) == OK
    assert host.metadata(reference) == {0x01: b"\xff", 0x05: b"\x00", 0x06: b"\x03\x03"}
    assert host.status(Ins.CHANGE_REFERENCE, 0, reference, old + NEW) == 0x63C2
    assert host.status(Ins.CHANGE_REFERENCE, 0, reference, NEW + old) == OK


def test_a_wrong_old_pin_ends_the_verification(host: Host) -> None:
    host.verify()
    assert host.status(Ins.CHANGE_REFERENCE, 0, 0x80, WRONG + NEW) == 0x63C2
    assert host.status(Ins.VERIFY, 0, 0x80) == 0x63C2


def test_unblocking(host: Host) -> None:
    for _ in range(4):
        host.verify(WRONG)
    assert host.status(Ins.RESET_RETRY, 0, 0x80, WRONG + NEW) == 0x63C2
    assert tries(host, 0x81) == (3, 2)
    assert host.status(Ins.RESET_RETRY, 0, 0x80, PUK + SHORT) == 0x6985
    assert host.status(Ins.RESET_RETRY, 0, 0x80, PUK + NEW) == OK
    assert (tries(host), tries(host, 0x81)) == ((3, 3), (3, 3))
    assert host.verify(PIN) == 0x63C2
    assert host.verify(NEW) == OK


def test_set_retries(manager: Host) -> None:
    assert manager.status(Ins.SET_RETRIES, 5, 20) == 0x6982  # the PIN as well
    assert manager.status(Ins.CHANGE_REFERENCE, 0, 0x80, PIN + NEW) == OK
    assert manager.status(Ins.CHANGE_REFERENCE, 0, 0x81, PUK + NEW) == OK
    assert manager.verify(NEW) == OK
    assert manager.status(Ins.SET_RETRIES, 0, 20) == 0x6A80
    assert manager.status(Ins.SET_RETRIES, 5, 0) == 0x6A80
    assert manager.status(Ins.SET_RETRIES, 5, 20) == OK
    assert (tries(manager), tries(manager, 0x81)) == ((5, 5), (20, 20))
    assert manager.verify(PIN) == OK
    # No more than 15 can be said.
    assert manager.status(Ins.CHANGE_REFERENCE, 0, 0x81, WRONG + NEW) == 0x63CF
    assert tries(manager, 0x81) == (20, 19)


def test_set_retries_wants_the_management_key(host: Host) -> None:
    host.verify()
    assert host.status(Ins.SET_RETRIES, 5, 5) == 0x6982


WRONG_FORM = {
    "a short PIN without padding": ((Ins.VERIFY, 0, 0x80, b"123456"), 0x6700),
    "a PIN of nine": ((Ins.VERIFY, 0, 0x80, PIN + b"1"), 0x6700),
    "an unknown reference": ((Ins.VERIFY, 0, 0x82, PIN), 0x6A88),
    "a fingerprint": ((Ins.VERIFY, 0, 0x96, b"\x03\x00"), 0x6A88),
    "VERIFY with P1": ((Ins.VERIFY, 1, 0x80, PIN), 0x6A86),
    "one PIN to change": ((Ins.CHANGE_REFERENCE, 0, 0x80, PIN), 0x6700),
    "changing what is not there": ((Ins.CHANGE_REFERENCE, 0, 0x82, PIN + PIN), 0x6A88),
    "CHANGE with P1": ((Ins.CHANGE_REFERENCE, 1, 0x80, PIN + PIN), 0x6A86),
    "one PIN to unblock": ((Ins.RESET_RETRY, 0, 0x80, PUK), 0x6700),
    "unblocking the PUK": ((Ins.RESET_RETRY, 0, 0x81, PUK + PIN), 0x6A88),
    "RESET RETRY with P1": ((Ins.RESET_RETRY, 1, 0x80, PUK + PIN), 0x6A86),
    "RESET with P1": ((Ins.RESET, 1, 0, b""), 0x6A86),
}


@pytest.mark.parametrize(("command", "status"), WRONG_FORM.values(), ids=WRONG_FORM)
def test_wrong_form_takes_no_try(
    host: Host, command: tuple[int, int, int, bytes], status: int
) -> None:
    assert host.status(*command) == status
    assert (tries(host), tries(host, 0x81)) == ((3, 3), (3, 3))


@pytest.mark.parametrize("reference", [0x80, 0x81])
def test_power_loss_between_a_wrong_try_and_its_answer(host: Host, reference: int) -> None:
    host.device.power_loss_after(1, answered=False)
    with pytest.raises(Removed):
        host.status(Ins.CHANGE_REFERENCE, 0, reference, WRONG + NEW)
    host.device.insert()
    host.select()
    assert tries(host, reference) == (3, 2)


def test_a_device_pulled_out_before_the_try_has_not_counted_it(host: Host) -> None:
    host.device.unplug_at(1)
    with pytest.raises(Removed):
        host.verify(WRONG)
    host.device.insert()
    host.select()
    assert tries(host) == (3, 3)


def test_reset_only_when_both_are_blocked(manager: Host) -> None:
    manager.generate(0x9D, 0x11)
    manager.put(0x5FC10D, b"gone soon")
    attestation_key, certificate = manager.metadata(0xF9), manager.get(0x5FFF01)
    for _ in range(3):
        assert manager.status(Ins.RESET) == 0x6985
        manager.verify(WRONG)
    assert manager.status(Ins.RESET) == 0x6985
    block(manager)
    assert manager.status(Ins.RESET) == OK
    assert manager.status(Ins.METADATA, 0, 0x9D) == 0x6A88
    assert manager.get(0x5FC10D)[1] == 0x6A82
    assert (manager.metadata(0xF9), manager.get(0x5FFF01)) == (attestation_key, certificate)
    assert manager.put(0x5FC10D, b"nobody has authenticated") == 0x6982
    assert manager.verify() == OK
    assert manager.manage(FACTORY_KEY) == OK


def test_reset_puts_everything_back(manager: Host) -> None:
    manager.verify()
    assert manager.status(Ins.SET_RETRIES, 5, 5) == OK
    new = b"\x0c\x9b\x20" + bytes(32)
    assert manager.status(Ins.SET_MANAGEMENT_KEY, 0xFF, 0xFE, new) == OK
    block(manager)
    assert manager.status(Ins.RESET) == OK
    assert (tries(manager), tries(manager, 0x81)) == ((3, 3), (3, 3))
    assert manager.metadata(0x9B) == {0x01: b"\x0a", 0x02: b"\x00\x01", 0x05: b"\x01"}


def test_two_devices_count_for_themselves(host: Host) -> None:
    other = Host(VirtualYubiKey(30_000_002))
    host.verify(WRONG)
    assert (tries(host), tries(other)) == ((3, 2), (3, 3))
