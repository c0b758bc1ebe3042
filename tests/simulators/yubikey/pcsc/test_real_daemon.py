"""The same tools over a real pcscd with the vpcd driver, so that the private service stays honest.

One daemon for the module, with two devices: its reader has two slots.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mesh_hsm.errors import DeviceError, ProviderUnavailableError, UnsupportedError
from mesh_hsm.testing.virtual_yubikey import VirtualYubiKey, pcscd
from mesh_hsm.testing.virtual_yubikey import pcsc_wire as wire
from mesh_hsm.testing.virtual_yubikey.pcsc_wire import Command, Disposition, Result, Share, State
from mesh_hsm.testing.virtual_yubikey.pcscd import Pcscd
from mesh_hsm.testing.virtual_yubikey.rig import PIN, personalise
from tests.simulators.yubikey.pcsc.client import SELECT_PIV, Client
from tests.simulators.yubikey.pcsc.tools import (
    OPENSC,
    YKCS11,
    Tools,
    check_agreement,
    check_key,
    check_signature,
)

VERIFY = b"\0\x20\0\x80\x08" + PIN.encode().ljust(8, b"\xff")
IS_VERIFIED = bytes.fromhex("00200080")
OK = b"\x90\x00"


@dataclass
class World:
    """A daemon, its devices, and where it listens."""

    daemon: Pcscd
    devices: list[VirtualYubiKey]

    @property
    def path(self) -> Path:
        """The daemon's socket."""
        return Path(self.daemon.environment["PCSCLITE_CSOCK_NAME"])


def new() -> list[VirtualYubiKey]:
    return [VirtualYubiKey(30_000_003), VirtualYubiKey(30_000_004)]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    devices = [VirtualYubiKey(), VirtualYubiKey(30_000_002)]
    for device in devices:
        personalise(device)
    try:
        daemon = Pcscd(devices)
    except ProviderUnavailableError as error:
        pytest.skip(f"{error} ({error.hint})")
    with daemon:
        yield World(daemon, devices)


@pytest.fixture
def client(world: World) -> Iterator[Client]:
    with Client(world.path) as connected:
        yield connected


def test_ykman_finds_both(world: World, tmp_path: Path) -> None:
    tools = Tools(world.daemon.environment, tmp_path)
    assert tools.ykman("list").splitlines() == [
        "YubiKey 5C (5.7.1) [CCID] Serial: 30000001",
        "YubiKey 5C (5.7.1) [CCID] Serial: 30000002",
    ]
    assert tools.ykman("list", "--serials") == "30000001\n30000002\n"
    second = Tools(world.daemon.environment, tmp_path, world.daemon.readers[1])
    assert "Serial number: 30000002\n" in second.ykman("info")


def test_a_key_is_made_attested_and_used_by_everybody(world: World, tmp_path: Path) -> None:
    tools = Tools(world.daemon.environment, tmp_path, world.daemon.readers[0])
    public = check_key(tools, PIN)
    for module in (OPENSC, YKCS11):
        check_agreement(tools, PIN, module, public)
    check_signature(tools, PIN, YKCS11, public)


# The private service is held to what this daemon does, request by request.


def test_connections_are_shared_and_reset_as_by_the_private_service(
    world: World, client: Client
) -> None:
    name = world.daemon.readers[1]
    assert client.ask(Command.VERSION, wire.Version(4, 4, 9)) == wire.Version(4, 4, 0)
    state = next(one for one in client.states() if one.name.rstrip(b"\0").decode() == name)
    assert state.state & State.PRESENT
    assert state.atr[: state.atr_length] == world.devices[1].atr
    with Client(world.path) as other:
        card = client.connect(name, Share.EXCLUSIVE)
        assert (card.rv, card.protocol) == (0, wire.PROTOCOL_T1)
        assert other.connect(name).rv == Result.SHARING_VIOLATION
        assert other.connect(name + "x").rv == Result.UNKNOWN_READER
        assert client.disconnect(card.card) == 0
        card = client.connect(name)
        second = other.connect(name).card
        assert client.reconnect(card.card, Share.EXCLUSIVE) == Result.SHARING_VIOLATION
        assert client.begin(card.card) == 0
        assert other.begin(second) == Result.SHARING_VIOLATION
        assert client.end_transaction(card.card) == 0
        assert client.transmit(card.card, SELECT_PIV)[1][-2:] == OK
        assert client.transmit(card.card, VERIFY) == (0, OK)
        assert other.transmit(second, IS_VERIFIED) == (0, OK)
        assert client.disconnect(card.card, Disposition.UNPOWER) == 0
        assert other.transmit(second, IS_VERIFIED)[0] == Result.RESET_CARD
        assert other.reconnect(second) == 0
        assert other.transmit(second, SELECT_PIV)[0] == 0
        assert other.transmit(second, IS_VERIFIED)[1] != OK


def test_it_is_refused_without_its_parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pcscd, "_DRIVER", tmp_path / "none.so")
    with pytest.raises(ProviderUnavailableError, match="the vpcd driver is not installed"):
        Pcscd(new())
    monkeypatch.setattr(pcscd, "_SBIN", "/nowhere")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ProviderUnavailableError, match="pcscd is not installed"):
        Pcscd(new())


def test_a_daemon_that_does_not_start_is_an_error(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "pcscd").symlink_to("/bin/false")
    (tmp_path / "unshare").write_text("#!/bin/sh\necho no user namespaces here\nexit 1\n")
    (tmp_path / "unshare").chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(DeviceError, match="no user namespaces here"):
        Pcscd(new())


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_reader_has_two_slots(world: World, count: int) -> None:
    with pytest.raises(UnsupportedError, match="2 cards"):
        Pcscd([VirtualYubiKey(30_000_001 + n) for n in range(count)])


def test_nothing_is_left(world: World) -> None:
    with Pcscd(new()) as daemon:
        folder = daemon._folder
    assert not folder.exists()
    assert subprocess.run(["pgrep", "-f", str(folder)]).returncode == 1
