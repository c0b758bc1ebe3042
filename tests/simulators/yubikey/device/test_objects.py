"""Data objects: every size, by every form of a long command (section 14.8)."""

from __future__ import annotations

import pytest
from simulators.yubikey.device.host import OK, Host, named, tlv

from mesh_hsm.testing.virtual_yubikey import VirtualYubiKey
from mesh_hsm.testing.virtual_yubikey.piv.names import Ins

NAME = 0x5FC105


@pytest.mark.parametrize("extended", [True, False], ids=["extended", "chained"])
@pytest.mark.parametrize("size", [1, 255, 256, 257, 2_500, 3_052])
def test_sizes(device: VirtualYubiKey, size: int, extended: bool) -> None:
    host = Host(device, extended=extended)
    assert host.manage() == OK
    content = bytes(index & 0xFF for index in range(size))
    assert host.put(NAME, content) == OK
    assert host.get(NAME) == (content, OK)
    host.extended = not extended
    assert host.get(NAME) == (content, OK)


@pytest.mark.parametrize("extended", [True, False], ids=["extended", "chained"])
def test_one_too_many_leaves_what_was_there(device: VirtualYubiKey, extended: bool) -> None:
    host = Host(device, extended=extended)
    host.manage()
    host.put(NAME, b"before")
    assert host.put(NAME, bytes(3_053)) == 0x6A84
    assert host.get(NAME) == (b"before", OK)


def test_an_empty_one_deletes(manager: Host) -> None:
    assert manager.get(NAME) == (b"", 0x6A82)
    assert manager.put(NAME, b"") == OK
    manager.put(NAME, b"there")
    assert manager.put(NAME, b"") == OK
    assert manager.get(NAME) == (b"", 0x6A82)


def test_put_wants_the_management_key(host: Host) -> None:
    assert host.put(NAME, b"no") == 0x6982


@pytest.mark.parametrize("name", [0x5FC103, 0x5FC108, 0x5FC109, 0x5FC121])
def test_behind_the_pin(manager: Host, name: int) -> None:
    manager.put(name, b"private")
    assert manager.get(name) == (b"", 0x6982)
    manager.verify()
    assert manager.get(name) == (b"private", OK)


def test_the_discovery_object(host: Host) -> None:
    expected = "7E124F0BA0000003080000100001005F2F024000"
    assert host.ok(Ins.GET_DATA, 0x3F, 0xFF, bytes.fromhex("5C017E")).hex().upper() == expected


def test_objects_survive_a_reset_of_the_card(manager: Host) -> None:
    manager.put(NAME, b"kept")
    manager.device.remove()
    manager.device.insert()
    manager.select()
    assert manager.get(NAME) == (b"kept", OK)


BAD = {
    "GET another file": ((Ins.GET_DATA, 0, 0, named(NAME)), 0x6A86),
    "GET without a name": ((Ins.GET_DATA, 0x3F, 0xFF, b""), 0x6A80),
    "GET an empty name": ((Ins.GET_DATA, 0x3F, 0xFF, tlv(0x5C)), 0x6A80),
    "GET by another tag": ((Ins.GET_DATA, 0x3F, 0xFF, tlv(0x5D, b"\x7e")), 0x6A80),
    "PUT another file": ((Ins.PUT_DATA, 0, 0, named(NAME) + tlv(0x53)), 0x6A86),
    "PUT a name alone": ((Ins.PUT_DATA, 0x3F, 0xFF, named(NAME)), 0x6A80),
    "PUT the content first": ((Ins.PUT_DATA, 0x3F, 0xFF, tlv(0x53) + named(NAME)), 0x6A80),
    "PUT the discovery object": (
        (Ins.PUT_DATA, 0x3F, 0xFF, tlv(0x5C, b"\x7e") + tlv(0x53, b"x")),
        0x6A80,
    ),
    "PUT outside PIV": (
        (Ins.PUT_DATA, 0x3F, 0xFF, named(0x600000) + tlv(0x53, b"x")),
        0x6A80,
    ),
    "PUT cut off": ((Ins.PUT_DATA, 0x3F, 0xFF, named(NAME) + b"\x53\x02x"), 0x6A80),
}


@pytest.mark.parametrize(("command", "status"), BAD.values(), ids=BAD)
def test_bad_requests(manager: Host, command: tuple[int, int, int, bytes], status: int) -> None:
    assert manager.status(*command) == status
