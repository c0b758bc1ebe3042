"""What no document says: this simulator's answers, and the other ones (sections 12 and 14.11)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import pytest
from simulators.yubikey.device.host import OK, PIN, PUK, WRONG, Host, tlv

from mesh_hsm.testing.virtual_yubikey import OTHERS, OURS, VirtualYubiKey
from mesh_hsm.testing.virtual_yubikey.piv.names import Algorithm, Ins

SHORT = b"12345\xff\xff\xff"


def last_try(host: Host) -> int:
    return [host.verify(WRONG) for _ in range(3)][-1]


def last_puk_try(host: Host) -> int:
    return [host.status(Ins.RESET_RETRY, 0, 0x80, WRONG + PIN) for _ in range(3)][-1]


def nothing_selected(host: Host) -> int:
    host.device.reset()
    return host.status(Ins.VERSION)


def bad_point(host: Host) -> int:
    host.generate(0x9D, Algorithm.P256, pin=1)
    return host.agree(0x9D, Algorithm.P256, b"\x04" + bytes(64))[1]


def compressed_point(host: Host) -> int:
    host.generate(0x9D, Algorithm.P256, pin=1)
    return host.agree(0x9D, Algorithm.P256, b"\x02" + bytes(32))[1]


def attest_imported(host: Host) -> int:
    host.import_p256()
    return host.status(Ins.ATTEST, 0x9D)


def attest_nothing(host: Host) -> int:
    return host.status(Ins.ATTEST, 0x9D)


OCCASIONS: dict[Callable[[Host], int], tuple[int, int]] = {
    nothing_selected: (0x6985, 0x6D00),
    lambda host: host.status(Ins.METADATA, 0, 0x77): (0x6B00, 0x6A86),
    lambda host: host.sign(0x77, Algorithm.P256)[1]: (0x6B00, 0x6A86),
    lambda host: host.status(Ins.MOVE, 0x82, 0xF9): (0x6B00, 0x6A86),
    lambda host: host.status(Ins.CHANGE_REFERENCE, 0, 0x80, PIN + SHORT): (0x6985, 0x6A80),
    lambda host: host.status(Ins.RESET_RETRY, 0, 0x80, PUK + SHORT): (0x6985, 0x6A80),
    last_try: (0x63C0, 0x6983),
    last_puk_try: (0x63C0, 0x6983),
    bad_point: (0x6A80, 0x6985),
    compressed_point: (0x6A80, 0x6985),
    attest_imported: (0x6A80, 0x6A82),
    attest_nothing: (0x6A80, 0x6A82),
}


@pytest.mark.parametrize("which", [0, 1], ids=["ours", "others"])
@pytest.mark.parametrize(("occasion", "answers"), OCCASIONS.items())
def test_the_answer(occasion: Callable[[Host], int], answers: tuple[int, int], which: int) -> None:
    host = Host(VirtualYubiKey(choices=(OURS, OTHERS)[which]))
    host.manage()
    assert occasion(host) == answers[which]


def test_always_may_mean_once() -> None:
    host = Host(VirtualYubiKey(choices=OTHERS))
    host.manage()
    host.generate(0x9C, Algorithm.P256)
    assert host.sign(0x9C, Algorithm.P256)[1] == 0x6982
    host.verify()
    assert [host.sign(0x9C, Algorithm.P256)[1] for _ in range(2)] == [OK, OK]


def test_the_others_differ_in_everything() -> None:
    ours, others = asdict(OURS), asdict(OTHERS)
    assert all(ours[name] != others[name] for name in ours)


def test_what_is_no_choice_stays() -> None:
    host = Host(VirtualYubiKey(choices=OTHERS))
    assert host.manage() == OK
    last_try(host)
    assert host.verify() == 0x6983
    assert host.status(Ins.GENERATE, 0, 0x9D, tlv(0xAC, tlv(0x80, b"\x15"))) == 0x6A80
    assert host.status(Ins.METADATA, 0, 0x9D) == 0x6A88
