"""The private PC/SC service, request by request: what it answers, whom it refuses, who is told."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mesh_hsm.errors import ConflictError, NotFoundError, StorageError
from mesh_hsm.testing.virtual_yubikey import VirtualYubiKey
from mesh_hsm.testing.virtual_yubikey import pcsc_wire as wire
from mesh_hsm.testing.virtual_yubikey.pcsc_service import PcscService
from mesh_hsm.testing.virtual_yubikey.pcsc_wire import Command, Disposition, Result, Share, State
from mesh_hsm.testing.virtual_yubikey.rig import FACTORY_PIN
from tests.simulators.yubikey.pcsc.client import SELECT_MANAGEMENT, SELECT_PIV, T1, Client

VERIFY = b"\0\x20\0\x80\x08" + FACTORY_PIN.encode().ljust(8, b"\xff")
IS_VERIFIED = bytes.fromhex("00200080")
OK = b"\x90\x00"


@pytest.fixture
def device() -> VirtualYubiKey:
    return VirtualYubiKey()


@pytest.fixture
def service(device: VirtualYubiKey) -> Iterator[PcscService]:
    with PcscService([device]) as running:
        yield running


@pytest.fixture
def client(service: PcscService) -> Iterator[Client]:
    with Client(service.path) as connected:
        yield connected


@pytest.fixture
def other(service: PcscService) -> Iterator[Client]:
    with Client(service.path) as connected:
        yield connected


@pytest.fixture
def name(client: Client) -> str:
    return client.states()[0].name.rstrip(b"\0").decode()


def verified(client: Client, card: int) -> bool:
    """Whether the card still knows that it was given the PIN."""
    rv, response = client.transmit(card, IS_VERIFIED)
    assert rv == Result.SUCCESS
    return response == OK


def verify(client: Client, card: int) -> None:
    assert client.transmit(card, SELECT_PIV)[1][-2:] == OK
    assert client.transmit(card, VERIFY) == (0, OK)
    assert verified(client, card)


def hold_a_touch(device: VirtualYubiKey, client: Client, card: int) -> threading.Event:
    """Make the card wait for a touch, which comes when the event is set."""
    touch = threading.Event()
    device.touch = touch
    generate_and_use(device, client, card)
    assert device.touch_wanted.wait(30)
    return touch


def generate_and_use(device: VirtualYubiKey, client: Client, card: int) -> None:
    """Begin an operation with a key that wants a touch, and do not wait for the answer."""
    key = device._piv.context.state.management
    client.transmit(card, SELECT_PIV)
    _, nonce = client.transmit(card, b"\0\x87\x0a\x9b\x04\x7c\x02\x81\x00")
    answer = key.encrypt(nonce[4:20])
    assert client.transmit(card, b"\0\x87\x0a\x9b\x14\x7c\x12\x82\x10" + answer) == (0, OK)
    made = client.transmit(card, bytes.fromhex("0047009E0BAC09800111AA0101AB0102"))
    assert made[1][-2:] == OK
    client.send_apdu(card, b"\0\x87\x11\x9e\x26\x7c\x24\x82\x00\x81\x20" + bytes(32))


# -- the socket and its readers ------------------------------------------------------------------


def test_nobody_else_can_reach_the_socket(service: PcscService) -> None:
    assert service.environment == {"PCSCLITE_CSOCK_NAME": str(service.path)}
    assert stat.S_IMODE(os.stat(service.path.parent).st_mode) == 0o700
    assert repr(service) == f"PcscService({str(service.path)!r})"


def test_nothing_stays_but_what_was_there(tmp_path: Path) -> None:
    with PcscService() as one:
        folder = one.path.parent
    assert not folder.exists()
    two = PcscService(path=tmp_path / "socket")
    with Client(two.path) as client:
        assert client.states() == []
        assert two.clients == 1
        two.close()
        assert client.was_hung_up_on()
    assert list(tmp_path.iterdir()) == []


def test_a_socket_that_cannot_be_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="AF_UNIX path too long"):
        PcscService(path=tmp_path / ("x" * 200))
    assert list(tmp_path.iterdir()) == []


def test_a_reader_says_what_it_holds(client: Client, device: VirtualYubiKey) -> None:
    (state,) = client.states()
    assert state.name.rstrip(b"\0").decode() == f"{device.reader_name} 00 00"
    assert state.atr[: state.atr_length] == device.atr
    assert state.state == State.PRESENT | State.POWERED | State.NEGOTIABLE
    assert (state.events, state.sharing, state.protocol) == (0, 0, T1)


def test_readers_are_sixteen_and_their_places_are_used_again(service: PcscService) -> None:
    more = [VirtualYubiKey(30_000_100 + n) for n in range(16)]
    names = [service.add(each) for each in more[:15]]
    assert [each.split()[-2] for each in names] == [f"{n:02X}" for n in range(1, 16)]
    with pytest.raises(ConflictError, match="16 readers"):
        service.add(more[15])
    with pytest.raises(ConflictError, match="already"):
        service.add(more[0])
    service.remove(more[4])
    assert service.add(more[15]).endswith(" 05 00")
    with pytest.raises(NotFoundError):
        service.remove(more[4])


@pytest.mark.parametrize(
    ("asked", "rv"),
    [((4, 4), 0), ((4, 5), 0), ((4, 3), 0x8010001E), ((3, 4), 0x8010001E), ((5, 0), 0x8010001E)],
)
def test_protocol_versions(client: Client, asked: tuple[int, int], rv: int) -> None:
    assert client.ask(Command.VERSION, wire.Version(*asked, 9)) == wire.Version(4, 4, rv)


# -- connections ---------------------------------------------------------------------------------


def test_an_apdu_goes_to_the_card_and_back(client: Client, name: str) -> None:
    card = client.connect(name).card
    rv, response = client.transmit(card, SELECT_MANAGEMENT)
    assert (rv, response) == (0, b"Virtual mgr - FW version 5.7.1" + OK)
    assert client.transmit(card, SELECT_MANAGEMENT, room=5) == (Result.INSUFFICIENT_BUFFER, b"")
    assert client.disconnect(card) == 0
    assert client.transmit(card, SELECT_MANAGEMENT) == (Result.INVALID_HANDLE, b"")


REFUSED: dict[str, tuple[Callable[[Client, str], int], Result]] = {
    "no such reader": (lambda c, n: c.connect(n + "x").rv, Result.UNKNOWN_READER),
    "no such context": (lambda c, n: c.connect(n, context=77).rv, Result.INVALID_HANDLE),
    "no such way to share": (lambda c, n: c.connect(n, 4).rv, Result.INVALID_VALUE),
    "T=0": (lambda c, n: c.connect(n, protocols=1).rv, Result.PROTO_MISMATCH),
    "no such handle": (lambda c, _: c.status(7), Result.INVALID_HANDLE),
    "no such disposition": (
        lambda c, n: c.disconnect(c.connect(n).card, 4),
        Result.INVALID_VALUE,
    ),
    "no transaction": (lambda c, n: c.end_transaction(c.connect(n).card), Result.NOT_TRANSACTED),
    "T=0 again": (lambda c, n: c.reconnect(c.connect(n).card, protocols=1), Result.PROTO_MISMATCH),
    "control": (
        lambda c, _: (
            c.send(Command.CONTROL, wire.Control(1, 2, 3, 4, 5, 9)),
            c.send_octets(b"abc"),
            c.receive(wire.Control).rv,
        )[2],
        Result.UNSUPPORTED_FEATURE,
    ),
    "attribute": (
        lambda c, _: c.ask(Command.GET_ATTRIB, wire.Attribute(1, 2, b"", 0, 9)).rv,
        Result.UNSUPPORTED_FEATURE,
    ),
    "release of no context": (
        lambda c, _: c.ask(Command.RELEASE_CONTEXT, wire.OfContext(9, 9)).rv,
        Result.INVALID_HANDLE,
    ),
    "cancel where nobody waits": (
        lambda c, _: c.ask(Command.CANCEL, wire.OfContext(c.context, 9)).rv,
        Result.INVALID_HANDLE,
    ),
}


@pytest.mark.parametrize(("ask", "result"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(
    client: Client, name: str, ask: Callable[[Client, str], int], result: Result
) -> None:
    assert ask(client, name) == result
    assert len(client.states()) == 1  # and the client may go on


@pytest.mark.parametrize(
    ("first", "second", "result"),
    [
        (Share.SHARED, Share.SHARED, Result.SUCCESS),
        (Share.DIRECT, Share.SHARED, Result.SUCCESS),
        (Share.SHARED, Share.EXCLUSIVE, Result.SHARING_VIOLATION),
        (Share.EXCLUSIVE, Share.SHARED, Result.SHARING_VIOLATION),
        (Share.EXCLUSIVE, Share.EXCLUSIVE, Result.SHARING_VIOLATION),
        (Share.EXCLUSIVE, Share.DIRECT, Result.SHARING_VIOLATION),
    ],
)
def test_a_second_connection(
    client: Client, other: Client, name: str, first: Share, second: Share, result: Result
) -> None:
    card = client.connect(name, first).card
    assert client.states()[0].sharing == (-1 if first is Share.EXCLUSIVE else 1)
    assert other.connect(name, second).rv == result
    assert client.disconnect(card) == 0
    if result:
        assert other.connect(name, second).rv == 0


def test_a_shared_connection_becomes_exclusive_only_alone(
    client: Client, other: Client, name: str
) -> None:
    card, second = client.connect(name).card, other.connect(name).card
    assert client.reconnect(card, Share.EXCLUSIVE) == Result.SHARING_VIOLATION
    assert other.disconnect(second) == 0
    assert client.reconnect(card, Share.EXCLUSIVE) == 0
    assert other.connect(name).rv == Result.SHARING_VIOLATION
    assert client.reconnect(card, Share.SHARED) == 0
    assert other.connect(name).rv == 0


@pytest.mark.parametrize("disposition", [Disposition.RESET, Disposition.UNPOWER])
def test_a_connection_that_ends_with_a_reset_leaves_no_state(
    client: Client, other: Client, name: str, disposition: Disposition
) -> None:
    card, second = client.connect(name).card, other.connect(name).card
    verify(client, card)
    assert client.disconnect(card, disposition) == 0
    assert other.transmit(second, IS_VERIFIED) == (Result.RESET_CARD, b"")
    assert other.status(second) == Result.RESET_CARD
    assert other.reconnect(second) == 0
    other.transmit(second, SELECT_PIV)
    assert not verified(other, second)


def test_a_connection_that_leaves_the_card_leaves_its_state(
    client: Client, other: Client, name: str
) -> None:
    card, second = client.connect(name).card, other.connect(name).card
    verify(client, card)
    assert client.disconnect(card) == 0
    assert verified(other, second)


@pytest.mark.parametrize("how", ["vanishes", "releases its context"])
def test_a_client_that_goes_unpowers_the_card(
    service: PcscService, other: Client, how: str
) -> None:
    going = Client(service.path)
    name = other.states()[0].name.rstrip(b"\0").decode()
    card, second = going.connect(name).card, other.connect(name).card
    verify(going, card)
    assert going.begin(card) == 0
    if how == "vanishes":
        # The next change of readers is only a way to wait; the last thing a client's thread does
        # is to give its card back.
        going.close()
        assert other.begin(second) in (Result.SHARING_VIOLATION, Result.RESET_CARD)
        while other.status(second) == Result.SHARING_VIOLATION:
            pass
    else:
        request = wire.OfContext(going.context, 9)
        assert going.ask(Command.RELEASE_CONTEXT, request).rv == 0
        going.close()
    assert other.status(second) == Result.RESET_CARD
    assert other.reconnect(second, Share.EXCLUSIVE) == 0


def test_a_reset_by_reconnecting_is_told_to_the_others(
    client: Client, other: Client, name: str
) -> None:
    card, second = client.connect(name).card, other.connect(name).card
    verify(client, card)
    assert client.reconnect(card, Share.SHARED, Disposition.RESET) == 0
    assert client.transmit(card, SELECT_PIV)[0] == 0
    assert not verified(client, card)
    assert other.status(second) == Result.RESET_CARD


# -- transactions --------------------------------------------------------------------------------


def test_a_transaction_keeps_others_out(client: Client, other: Client, name: str) -> None:
    card, second = client.connect(name).card, other.connect(name).card
    assert client.begin(card) == client.begin(card) == 0
    assert other.begin(second) == Result.SHARING_VIOLATION
    assert other.transmit(second, SELECT_PIV) == (Result.SHARING_VIOLATION, b"")
    assert other.reconnect(second) == Result.SHARING_VIOLATION
    assert client.transmit(card, SELECT_PIV)[0] == 0
    assert client.end_transaction(card) == 0
    assert other.begin(second) == Result.SHARING_VIOLATION  # there were two
    assert client.end_transaction(card) == 0
    assert other.begin(second) == 0


def test_a_transaction_may_end_with_a_reset(client: Client, other: Client, name: str) -> None:
    card, second = client.connect(name).card, other.connect(name).card
    verify(client, card)
    assert client.begin(card) == 0
    assert client.end_transaction(card, Disposition.RESET) == 0
    client.transmit(card, SELECT_PIV)
    assert not verified(client, card)
    assert other.status(second) == Result.RESET_CARD


def test_others_wait_for_a_transaction(client: Client, other: Client, name: str) -> None:
    card, second = client.connect(name).card, other.connect(name).card
    assert client.begin(card) == 0
    # Neither is answered before the transaction ends: the answer comes after it, and is yes.
    other.send(Command.DISCONNECT, wire.Ending(second, Disposition.RESET, 9))
    assert client.transmit(card, SELECT_PIV)[0] == 0
    assert client.end_transaction(card) in (0, Result.RESET_CARD)
    assert other.receive(wire.Ending).rv == 0
    assert client.status(card) == Result.RESET_CARD


def test_a_new_connection_waits_for_a_transaction(client: Client, other: Client, name: str) -> None:
    card = client.connect(name).card
    assert client.begin(card) == 0
    assert other.connect(name, Share.EXCLUSIVE).rv == Result.SHARING_VIOLATION  # without waiting
    other.send(Command.CONNECT, wire.Connect(other.context, name.encode(), 2, 2, 0, 0, 9))
    for _ in range(20):
        assert client.transmit(card, SELECT_PIV)[0] == 0
    assert client.end_transaction(card, Disposition.RESET) == 0
    connected = other.receive(wire.Connect)
    assert connected.rv == other.status(connected.card) == 0  # it came after the reset


# -- removal -------------------------------------------------------------------------------------


def test_a_removed_card_is_said_until_reconnected(
    client: Client, name: str, device: VirtualYubiKey
) -> None:
    card = client.connect(name).card
    device.remove()
    (state,) = client.states()
    assert (state.state, state.events, state.atr_length) == (State.ABSENT, 1, 0)
    assert client.transmit(card, SELECT_PIV) == (Result.REMOVED_CARD, b"")
    assert client.reconnect(card) == Result.NO_SMARTCARD
    assert client.connect(name).rv == Result.NO_SMARTCARD
    assert client.connect(name, Share.DIRECT, 0).rv == 0
    device.insert()
    assert client.states()[0].events == 2
    assert client.status(card) == Result.REMOVED_CARD
    assert client.reconnect(card) == 0
    assert client.transmit(card, SELECT_PIV)[0] == 0


def test_a_direct_connection_to_an_empty_reader_reaches_no_card(
    client: Client, name: str, device: VirtualYubiKey
) -> None:
    device.remove()
    card = client.connect(name, Share.DIRECT, 0).card
    assert client.transmit(card, SELECT_PIV) == (Result.NO_SMARTCARD, b"")
    assert client.disconnect(card, Disposition.RESET) == 0


def test_a_reader_that_is_gone_is_said(
    service: PcscService, client: Client, other: Client, name: str, device: VirtualYubiKey
) -> None:
    card, second = client.connect(name).card, other.connect(name).card
    verify(client, card)
    assert client.begin(card) == 0
    other.send(Command.DISCONNECT, wire.Ending(second, Disposition.RESET, 9))  # waits
    service.remove(device)
    assert other.receive(wire.Ending).rv == 0
    assert client.states() == []
    assert client.transmit(card, SELECT_PIV) == (Result.READER_UNAVAILABLE, b"")
    assert client.reconnect(card) == Result.READER_UNAVAILABLE
    assert client.disconnect(card, Disposition.UNPOWER) == 0
    assert device.transmit(IS_VERIFIED) == OK  # nobody has reset what may be elsewhere by now
    assert client.connect(name).rv == Result.UNKNOWN_READER


def test_a_card_removed_while_it_waits_for_a_touch(
    client: Client, other: Client, name: str, device: VirtualYubiKey
) -> None:
    card = client.connect(name).card
    hold_a_touch(device, client, card)
    device.remove()
    assert client.response() == (Result.REMOVED_CARD, b"")
    assert other.states()[0].state == State.ABSENT


def test_a_card_that_goes_in_mid_command(client: Client, name: str, device: VirtualYubiKey) -> None:
    card = client.connect(name).card
    device.power_loss_after(1, answered=False)
    assert client.transmit(card, SELECT_PIV) == (Result.REMOVED_CARD, b"")


def test_others_are_served_while_a_touch_is_waited_for(
    client: Client, other: Client, name: str, device: VirtualYubiKey, service: PcscService
) -> None:
    card = client.connect(name, Share.EXCLUSIVE).card
    touch = hold_a_touch(device, client, card)
    second = VirtualYubiKey(30_000_002)
    assert other.connect(name).rv == Result.SHARING_VIOLATION
    there = other.connect(service.add(second)).card
    assert other.transmit(there, SELECT_PIV)[0] == 0
    touch.set()
    rv, response = client.response()
    assert (rv, response[-2:]) == (0, OK)


def test_the_service_ends_while_a_touch_is_waited_for(device: VirtualYubiKey) -> None:
    with PcscService([device]) as service, Client(service.path) as client:
        name = client.states()[0].name.rstrip(b"\0").decode()
        hold_a_touch(device, client, client.connect(name).card)
        service.close()
        assert client.was_hung_up_on()
        device.remove()  # which ends the wait


# -- waiting for a change ------------------------------------------------------------------------


def test_whoever_waits_is_told_of_every_kind_of_change(
    service: PcscService, client: Client, device: VirtualYubiKey
) -> None:
    second = VirtualYubiKey(30_000_002)
    for change in (
        device.remove,
        device.insert,
        lambda: service.add(second),
        lambda: service.remove(second),
    ):
        before = client.states()
        assert client.states(Command.WAIT_READER_STATE_CHANGE) == before
        change()
        assert client.receive(wire.Change) == wire.Change(0, 0)
        assert client.states() != before
    device.remove()  # nobody waits, nobody is told
    assert len(client.states()) == 1


def test_a_wait_can_be_stopped_and_cancelled(client: Client, other: Client) -> None:
    client.states(Command.WAIT_READER_STATE_CHANGE)
    client.send(Command.STOP_WAITING_READER_STATE_CHANGE)
    assert client.receive(wire.Change).rv == 0
    client.states(Command.WAIT_READER_STATE_CHANGE)
    assert other.ask(Command.CANCEL, wire.OfContext(client.context, 9)).rv == 0
    assert client.receive(wire.Change).rv == Result.CANCELLED


def test_stopping_a_wait_that_is_over_is_not_answered(
    client: Client, device: VirtualYubiKey
) -> None:
    client.states(Command.WAIT_READER_STATE_CHANGE)
    device.remove()
    client.send(Command.STOP_WAITING_READER_STATE_CHANGE)
    assert client.receive(wire.Change).rv == 0  # the change, and nothing after it
    assert client.states()[0].state == State.ABSENT


# -- who cannot be understood --------------------------------------------------------------------

HEADER = wire.Header
BAD: dict[str, bytes] = {
    "unknown command": HEADER(8, 0x55).pack() + bytes(8),
    "wrong size": HEADER(7, Command.STATUS).pack() + bytes(7),
    "an enormous size": HEADER(2**32 - 1, Command.CONNECT).pack(),
    "an enormous APDU": HEADER(32, Command.TRANSMIT).pack()
    + wire.Transmit(1, 2, 16, 2**31, 2, 16, 258, 0).pack(),
    "zeros": bytes(64),
    "text": b"GET / HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("octets", BAD.values(), ids=BAD)
def test_a_malformed_request_ends_that_client_only(
    service: PcscService, client: Client, name: str, octets: bytes
) -> None:
    card = client.connect(name).card
    with Client(service.path) as bad:
        bad.send_octets(octets)
        assert bad.was_hung_up_on()
    assert client.transmit(card, SELECT_PIV)[0] == 0


def test_a_request_cut_short_is_no_request(service: PcscService, client: Client) -> None:
    with Client(service.path) as cut:
        cut.send_octets(HEADER(152, Command.CONNECT).pack() + bytes(100))
    assert len(client.states()) == 1


def test_an_error_in_the_device_is_not_hidden(
    service: PcscService, name: str, device: VirtualYubiKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(command: bytes) -> bytes:
        raise ZeroDivisionError

    seen: list[type[BaseException]] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: seen.append(args.exc_type))
    monkeypatch.setattr(device, "transmit", broken)
    with Client(service.path) as client:
        card = client.connect(name).card
        client.send_apdu(card, SELECT_PIV)
        assert client.was_hung_up_on()
    service.close()
    assert seen == [ZeroDivisionError]
