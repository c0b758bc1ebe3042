"""Channel 0: SELECT, chaining both ways, and what is answered before an application sees it."""

from __future__ import annotations

import pytest
from simulators.yubikey.device.host import MANAGEMENT, OK, PIN, PIV, Host, named, tlv

from mesh_hsm.testing.virtual_yubikey import Capability, VirtualYubiKey
from mesh_hsm.testing.virtual_yubikey.piv.names import Ins

PIV_TEMPLATE = "61114F0600001000010079074F05A000000308"
VERSION = bytes.fromhex("00FD0000")


def test_select_answers(host: Host) -> None:
    assert host.select().hex().upper() == PIV_TEMPLATE
    assert host.select(bytes.fromhex("A000000308000010000100")).hex().upper() == PIV_TEMPLATE
    assert host.select(MANAGEMENT) == b"Virtual mgr - FW version 5.7.1"


@pytest.mark.parametrize(
    "aid",
    {
        "OTP": "A0000005272001",
        "OATH": "A0000005272101",
        "FIDO": "A0000006472F0001",
        "OpenPGP": "D27600012401",
        "YubiHSM Auth": "A000000527210701",
        "four octets": "A0000003",
        "longer than PIV's": "A00000030800001000010000",
    }.values(),
)
def test_other_applications_are_not_there(host: Host, aid: str) -> None:
    assert host.status(0xA4, 4, 0, bytes.fromhex(aid)) == 0x6A82
    assert host.send(Ins.VERSION)[1] == OK  # what was selected still is


def test_a_device_without_piv() -> None:
    device = VirtualYubiKey(enabled=Capability.OATH)
    assert device.transmit(bytes.fromhex("00A4040005A000000308")) == bytes.fromhex("6A82")


def test_nothing_is_selected_after_a_reset(host: Host) -> None:
    host.device.reset()
    assert host.transmit(VERSION) == (b"", 0x6985)


REFUSED = {
    "unknown instruction": ("00010000", 0x6D00),
    "unknown class": ("80FD0000", 0x6E00),
    "another channel": ("01FD0000", 0x6E00),
    "secure messaging": ("04FD0000", 0x6E00),
    "cut off": ("00FD00", 0x6700),
    "data cut off": ("00200080083132", 0x6700),
    "SELECT by another way": ("00A4000005A000000308", 0x6A86),
    "SELECT, file control information": ("00A4040C05A000000308", 0x6A86),
    "nothing is left to get": ("00C00000", 0x6985),
    "GET RESPONSE with P1": ("00C00100", 0x6A86),
    "VERSION with P1": ("00FD0100", 0x6A86),
    "SERIAL with P2": ("00F80001", 0x6A86),
}


@pytest.mark.parametrize(("octets", "status"), REFUSED.values(), ids=REFUSED)
def test_refused(host: Host, octets: str, status: int) -> None:
    assert host.transmit(bytes.fromhex(octets)) == (b"", status)


@pytest.mark.parametrize("form", ["00FD0000", "00FD000000", "00FD00000000 00", "00FD000003"])
def test_every_form_of_a_command_without_data(host: Host, form: str) -> None:
    assert host.transmit(bytes.fromhex(form)) == (b"\x05\x07\x01", OK)


def test_an_answer_shorter_than_wanted_comes_in_parts(host: Host) -> None:
    assert host.transmit(bytes.fromhex("00FD000002")) == (b"\x05\x07", 0x6101)
    assert host.transmit(bytes.fromhex("00C00000")) == (b"\x01", OK)
    assert host.transmit(bytes.fromhex("00C00000")) == (b"", 0x6985)


def test_what_is_left_of_an_answer(manager: Host) -> None:
    content = bytes(range(256)) * 2
    assert manager.put(0x5FC10D, content) == OK
    whole = tlv(0x53, content)  # 516 octets
    request = named(0x5FC10D)
    short = bytes([0, Ins.GET_DATA, 0x3F, 0xFF, len(request)]) + request
    assert manager.transmit(short) == (whole[:256], 0x6100)  # 256 or more are left
    assert manager.transmit(bytes.fromhex("00C0000003")) == (whole[256:259], 0x6100 | 0)
    assert manager.transmit(bytes.fromhex("00C0000002")) == (whole[259:261], 0x61FF)
    assert manager.transmit(bytes.fromhex("00C00000")) == (whole[261:], OK)
    extended = bytes([0, Ins.GET_DATA, 0x3F, 0xFF, 0, 0, len(request)]) + request
    assert manager.transmit(extended) == (whole, OK)


@pytest.mark.parametrize("between", ["00FD0000", "00010000", "1020008001 31"])
def test_another_command_drops_what_is_left(host: Host, between: str) -> None:
    assert host.transmit(bytes.fromhex("00FD000001"))[1] == 0x6102
    host.transmit(bytes.fromhex(between))
    assert host.transmit(bytes.fromhex("00C00000")) == (b"", 0x6985)


def test_four_octets_get_a_long_answer_in_parts(manager: Host) -> None:
    manager.generate(0x9D, 0x11)
    answer, status = manager.transmit(bytes([0, Ins.ATTEST, 0x9D, 0]))
    assert len(answer) == 256
    assert status >> 8 == 0x61


def block(ins: int, data: bytes, *, p2: int = 0x80, last: bool = False) -> bytes:
    return bytes([0 if last else 0x10, ins, 0, p2, len(data)]) + data


def test_blocks_are_put_together(host: Host) -> None:
    assert host.transmit(block(Ins.VERIFY, PIN[:3])) == (b"", OK)
    assert host.transmit(block(Ins.VERIFY, PIN[3:5])) == (b"", OK)
    assert host.transmit(block(Ins.VERIFY, PIN[5:], last=True)) == (b"", OK)


@pytest.mark.parametrize(
    "between",
    {
        "another instruction": VERSION,
        "GET RESPONSE": bytes.fromhex("00C00000"),
        "another P2": block(Ins.VERIFY, b"1", p2=0x81),
        "a broken command": bytes.fromhex("0020"),
        "an unknown class": bytes.fromhex("FFFD0000"),
    }.values(),
)
def test_another_command_drops_the_blocks(host: Host, between: bytes) -> None:
    host.transmit(block(Ins.VERIFY, PIN[:3]))
    host.transmit(between)
    assert host.transmit(block(Ins.VERIFY, PIN, last=True)) == (b"", OK)


def test_a_chain_has_an_end(host: Host) -> None:
    statuses = [host.transmit(block(Ins.PUT_DATA, bytes(255)))[1] for _ in range(13)]
    assert statuses == [OK] * 12 + [0x6700]  # 3,060 octets fit


def test_selecting_another_application_forgets_and_the_same_keeps(manager: Host) -> None:
    assert manager.verify() == OK
    manager.select(PIV)
    assert manager.status(Ins.VERIFY, 0, 0x80) == OK
    assert manager.put(0x5FC10D, b"still the manager") == OK
    assert manager.status(0xA4, 4, 0, bytes.fromhex("A0000005272001")) == 0x6A82
    assert manager.status(Ins.VERIFY, 0, 0x80) == OK
    manager.select(MANAGEMENT)
    manager.select(PIV)
    assert manager.status(Ins.VERIFY, 0, 0x80) == 0x63C3
    assert manager.put(0x5FC10D, b"no longer") == 0x6982


def test_a_selected_application_forgets_what_was_for_the_next_command(manager: Host) -> None:
    manager.generate(0x9C, 0x11)
    assert manager.verify() == OK
    manager.select(PIV)
    assert manager.sign(0x9C, 0x11)[1] == 0x6982
