"""The card's side of vpcd, with a driver of the tests' own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from socket import create_connection, socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh_hsm.testing.virtual_yubikey import VirtualYubiKey
from mesh_hsm.testing.virtual_yubikey.vpcd import Control, VpcdReader, message
from tests.simulators.yubikey.pcsc.client import SELECT_PIV

VERIFY = b"\0\x20\0\x80\x08123456\xff\xff"
IS_VERIFIED = bytes.fromhex("00200080")
OK = b"\x90\x00"


@pytest.fixture
def device() -> VirtualYubiKey:
    return VirtualYubiKey()


@pytest.fixture
def reader(device: VirtualYubiKey) -> Iterator[VpcdReader]:
    with VpcdReader([device, VirtualYubiKey(30_000_002)]) as running:
        yield running


@pytest.fixture
def driver(reader: VpcdReader) -> Iterator[socket]:
    with create_connection(("127.0.0.1", reader.port), timeout=30) as connected:
        yield connected


def ask(driver: socket, content: bytes) -> bytes:
    """The answer to a message; empty where the card hangs up."""
    driver.sendall(message(content))
    return receive(driver)


def receive(driver: socket) -> bytes:
    with driver.makefile("rb") as stream:
        return stream.read(int.from_bytes(stream.read(2), "big"))


@given(st.binary(min_size=1, max_size=0xFFFF))
def test_a_message_says_how_long_it_is(content: bytes) -> None:
    assert message(content)[2:] == content
    assert int.from_bytes(message(content)[:2], "big") == len(content)


def test_what_does_not_fit_is_no_message() -> None:
    with pytest.raises(OverflowError):
        message(bytes(0x10000))


@pytest.mark.parametrize("control", [Control.POWER_OFF, Control.RESET])
def test_the_card_answers_and_forgets_on_reset(
    driver: socket, device: VirtualYubiKey, control: Control
) -> None:
    assert ask(driver, bytes([Control.ATR])) == device.atr
    driver.sendall(message(bytes([Control.POWER_ON])))
    assert ask(driver, SELECT_PIV)[-2:] == OK
    assert ask(driver, VERIFY) == ask(driver, IS_VERIFIED) == OK
    driver.sendall(message(bytes([control])))
    assert ask(driver, SELECT_PIV)[-2:] == OK
    assert ask(driver, IS_VERIFIED) == b"\x63\xc3"


@pytest.mark.parametrize("content", [b"", b"\x03", b"\x7f"])
def test_controls_that_are_none_are_passed_over(
    driver: socket, device: VirtualYubiKey, content: bytes
) -> None:
    driver.sendall(message(content))
    assert ask(driver, bytes([Control.ATR])) == device.atr


def test_a_message_cut_short_is_none(reader: VpcdReader, device: VirtualYubiKey) -> None:
    for octets in (b"\0", b"\0\x20" + SELECT_PIV):
        with create_connection(("127.0.0.1", reader.port), timeout=30) as cut:
            cut.sendall(octets)
    with create_connection(("127.0.0.1", reader.port), timeout=30) as driver:
        assert ask(driver, bytes([Control.ATR])) == device.atr
    assert device.apdus == 0


def test_a_card_that_is_out_hangs_up_and_refuses_nobody(
    reader: VpcdReader, driver: socket, device: VirtualYubiKey
) -> None:
    assert ask(driver, bytes([Control.ATR])) == device.atr
    with create_connection(("127.0.0.1", reader.port + 1), timeout=30) as second:
        assert ask(second, SELECT_PIV)[-2:] == OK
    device.remove()
    assert driver.recv(1) == b""
    with create_connection(("127.0.0.1", reader.port), timeout=30) as again:
        assert again.recv(1) == b""
    device.insert()
    with create_connection(("127.0.0.1", reader.port), timeout=30) as again:
        assert ask(again, bytes([Control.ATR])) == device.atr


def test_a_card_that_goes_in_mid_command_hangs_up(driver: socket, device: VirtualYubiKey) -> None:
    device.power_loss_after(1, answered=False)
    assert ask(driver, SELECT_PIV) == b""


def test_a_reader_ends_while_a_card_is_busy(device: VirtualYubiKey) -> None:
    reader = VpcdReader([device, VirtualYubiKey(30_000_002)])
    busy, done = threading.Event(), threading.Event()

    def slow(command: bytes) -> bytes:
        busy.set()
        assert done.wait(30)
        return OK

    device.transmit = slow  # type: ignore[method-assign]
    with create_connection(("127.0.0.1", reader.port), timeout=30) as driver:
        driver.sendall(message(SELECT_PIV))
        assert busy.wait(30)
        reader.close()
        assert driver.recv(1) == b""
        done.set()
