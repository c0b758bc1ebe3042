"""Discovery: what device this is."""

from __future__ import annotations

import re

import pytest
from simulators.yubikey.device.host import MANAGEMENT, Host, pairs

from mesh_hsm.errors import UnsupportedError
from mesh_hsm.testing.virtual_yubikey import SERIALS, Capability, VirtualYubiKey

READ_CONFIG = 0x1D


def information(device: VirtualYubiKey) -> dict[int, bytes]:
    host = Host(device)
    host.select(MANAGEMENT)
    answer = host.ok(READ_CONFIG)
    assert answer[0] == len(answer) - 1
    return pairs(answer[1:])


def test_the_device_information() -> None:
    device = VirtualYubiKey(30_000_007, (5, 4, 3), enabled=Capability.PIV | Capability.OPENPGP)
    assert {tag: value.hex() for tag, value in information(device).items()} == {
        0x01: "023f",
        0x02: "01c9c387",
        0x03: "0018",
        0x04: "03",
        0x05: "050403",
        0x06: "0000",
        0x07: "00",
        0x08: "00",
        0x0A: "00",
    }


def test_the_form_factor() -> None:
    assert information(VirtualYubiKey(form_factor=0x01, fips=True))[0x04] == b"\x81"


def test_serial_and_version_in_piv(host: Host) -> None:
    assert int.from_bytes(host.ok(0xF8), "big") == host.device.serial == 30_000_001
    assert host.ok(0xFD) == b"\x05\x07\x01"


@pytest.mark.parametrize("command", [(READ_CONFIG, 1, 0), (READ_CONFIG, 0, 1)])
def test_there_is_one_page(host: Host, command: tuple[int, int, int]) -> None:
    host.select(MANAGEMENT)
    assert host.status(*command) == 0x6A86


def test_nothing_else_is_known(host: Host) -> None:
    host.select(MANAGEMENT)
    assert host.status(0x1C, 0, 0, b"\0") == 0x6D00


@pytest.mark.parametrize("serial", [0, 12_345_678, SERIALS.start - 1, SERIALS.stop])
def test_a_serial_number_that_might_be_a_real_one(serial: int) -> None:
    with pytest.raises(UnsupportedError, match=str(serial)):
        VirtualYubiKey(serial)


@pytest.mark.parametrize("firmware", [(4, 2, 9), (5, 10, 0), (5, 7, 10)])
def test_firmware_that_is_not_simulated(firmware: tuple[int, int, int]) -> None:
    with pytest.raises(UnsupportedError, match="firmware"):
        VirtualYubiKey(firmware=firmware)


def test_the_reader_says_what_it_is_and_promises_no_other_interface() -> None:
    device = VirtualYubiKey()
    assert device.reader_name.startswith("Yubico YubiKey CCID")
    assert "virtual" in device.reader_name
    assert not re.search("OTP|FIDO|U2F|NEO", device.reader_name)
    assert device.atr[1] >> 4 == 0xF  # what yubikit takes for USB
