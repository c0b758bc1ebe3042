"""What each firmware can do: 4.3.5, 5.4.3 and 5.7.1, and the versions between."""

from __future__ import annotations

import pytest
from simulators.yubikey.device.host import OK, Host, tlv

from mesh_hsm.testing.virtual_yubikey import VirtualYubiKey
from mesh_hsm.testing.virtual_yubikey.piv.names import Algorithm, Ins

OLD, MIDDLE, NEW = (4, 3, 5), (5, 4, 3), (5, 7, 1)
NEWER_KINDS = [Algorithm.ED25519, Algorithm.X25519, Algorithm.RSA3072, Algorithm.RSA4096]


def managed(firmware: tuple[int, int, int]) -> Host:
    host = Host(VirtualYubiKey(firmware=firmware))
    assert host.manage() == OK  # with the factory's type: Triple DES before 5.7
    return host


@pytest.mark.parametrize("firmware", [OLD, MIDDLE, NEW])
def test_what_all_have(firmware: tuple[int, int, int]) -> None:
    host = managed(firmware)
    assert host.ok(Ins.VERSION) == bytes(firmware)
    host.generate(0x9D, Algorithm.P384)
    assert host.status(Ins.ATTEST, 0x9D) == OK


@pytest.mark.parametrize(
    ("ins", "p1", "p2", "since"),
    [
        (Ins.SERIAL, 0, 0, (5, 0, 3)),
        (Ins.METADATA, 0, 0x80, (5, 3, 0)),
        (Ins.MOVE, 0xFF, 0x9D, (5, 7, 0)),
    ],
)
def test_newer_instructions(ins: int, p1: int, p2: int, since: tuple[int, int, int]) -> None:
    before = {(5, 0, 3): (5, 0, 2), (5, 3, 0): (5, 2, 9), (5, 7, 0): (5, 6, 9)}[since]
    for firmware, status in ((since, OK), (before, 0x6D00), (OLD, 0x6D00)):
        host = managed(firmware)
        host.generate(0x9D, Algorithm.P256)
        assert host.status(ins, p1, p2) == status


@pytest.mark.parametrize("kind", NEWER_KINDS)
@pytest.mark.parametrize("firmware", [OLD, (5, 6, 9)])
def test_newer_algorithms(kind: Algorithm, firmware: tuple[int, int, int]) -> None:
    host = managed(firmware)
    request = tlv(0xAC, tlv(0x80, bytes([kind])))
    assert host.status(Ins.GENERATE, 0, 0x9D, request) == 0x6A80
    assert host.status(Ins.IMPORT, kind, 0x9D, tlv(0x07, bytes(32))) == 0x6A80


@pytest.mark.parametrize(
    ("firmware", "status"), [(OLD, 0x6A80), ((5, 4, 1), 0x6A80), ((5, 4, 2), OK), (NEW, OK)]
)
def test_aes_management_keys(firmware: tuple[int, int, int], status: int) -> None:
    host = managed(firmware)
    key = b"\x08" + tlv(0x9B, bytes(16))
    assert host.status(Ins.SET_MANAGEMENT_KEY, 0xFF, 0xFF, key) == status
    tdes = b"\x03" + tlv(0x9B, bytes(range(24)))
    assert host.status(Ins.SET_MANAGEMENT_KEY, 0xFF, 0xFF, tdes) == OK


@pytest.mark.parametrize(("firmware", "kind"), [(MIDDLE, 0x03), ((5, 7, 0), 0x0A)])
def test_the_factorys_management_key(firmware: tuple[int, int, int], kind: int) -> None:
    assert managed(firmware).metadata(0x9B)[0x01] == bytes([kind])
