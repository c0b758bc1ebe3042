"""Every finding of ``doctor`` about YubiKeys, brought about for real; and it changes nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest
from own_yubikey import Own
from yubikit.piv import KEY_TYPE, SLOT

from mesh_hsm.custody import PinPolicy
from mesh_hsm.provider import Diagnoses, Finding, KeySpec, Severity, Use
from mesh_hsm.testing.virtual_yubikey.piv.names import Ins
from mesh_hsm_yubikey.directory import OBJECT_ID

QUIET = ["YUBIKEY010", "YUBIKEY012"]
"""What there is to say of a simulator on which all is well."""
READING = {Ins.VERIFY, Ins.GET_DATA, Ins.METADATA, Ins.ATTEST, Ins.VERSION, 0xA4, 0x1D, 0xC0}


def diagnosed(own: Own) -> list[Finding]:
    """What is found; nothing was written, nobody was asked, no PIN was sent."""
    before = own.device.save()
    own.wire.clear()
    provider = own.provider
    assert isinstance(provider, Diagnoses)
    found = list(provider.diagnose())
    assert {command[1] for command in own.wire} <= READING
    assert not own.secrets_sent
    assert own.device.save() == before
    assert own.is_free()
    return found


def codes(own: Own) -> list[str]:
    return sorted(one.code for one in diagnosed(own))


def only(own: Own, code: str) -> Finding:
    (found,) = (one for one in diagnosed(own) if one.code == code)
    assert str(own.device.serial) in found.problem
    assert "\n" not in found.problem + found.remedy
    return found


def test_one_that_was_set_up_has_nothing_wrong(own: Own) -> None:
    assert codes(own) == QUIET
    note = only(own, "YUBIKEY010")
    assert note.severity is Severity.NOTE
    assert only(own, "YUBIKEY012").severity is Severity.NOTE


def test_keys_change_nothing_about_that(own: Own) -> None:
    own.make(PinPolicy.ALWAYS)
    assert codes(own) == QUIET


_NOBODY = """
from pathlib import Path
from mesh_hsm_yubikey.provider import YubiKeyProvider
(found,) = YubiKeyProvider(Path("/nonexistent")).diagnose()
print(found.code, found.severity, found.remedy)
"""


def test_no_pcsc_service(tmp_path) -> None:
    """In a process of its own: libpcsclite looks once for its service."""
    done = subprocess.run(
        [sys.executable, "-c", _NOBODY],
        env=os.environ | {"PCSCLITE_CSOCK_NAME": str(tmp_path / "nobody")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("YUBIKEY001 note apt install pcscd")
    assert not done.stderr


def test_a_yubikey_that_another_program_holds(own: Own) -> None:
    with own.held():
        found = own.provider.diagnose()
    (one,) = (one for one in found if own.reader in one.problem)
    assert (one.code, one.severity) == ("YUBIKEY002", Severity.WARNING)
    assert "held by another program" in one.problem
    assert "end what uses it" in one.remedy
    assert not own.wire


@pytest.mark.parametrize("ins", [0xA4, Ins.VERSION, Ins.GET_DATA])
def test_a_yubikey_that_does_not_answer_well(own: Own, ins: int) -> None:
    own.device.fail_next(ins, 0x6F00, times=9)
    found = own.provider.diagnose()
    own.device.stop_failing()
    assert [one.code for one in found] == ["YUBIKEY002"]
    assert codes(own) == QUIET


def test_a_list_of_keys_that_somebody_wrote_over(own: Own) -> None:
    own.state.objects[OBJECT_ID] = b"\x01\x02\x03"
    (found,) = diagnosed(own)
    assert found.code == "YUBIKEY002"
    assert f"{OBJECT_ID:X}" in found.problem


def test_a_yubikey_that_hides_its_serial_number(own: Own) -> None:
    transmit = own.device.transmit

    def hide(command: bytes) -> bytes:
        answer = transmit(command)
        if command[1] != 0x1D:
            return answer
        serial = b"\x02\x04" + own.device.serial.to_bytes(4, "big")
        return bytes([answer[0] - len(serial)]) + answer[1:].replace(serial, b"")

    own.device.transmit = hide
    (found,) = own.provider.diagnose()
    assert (found.code, found.severity) == ("YUBIKEY003", Severity.WARNING)
    assert not own.provider.tokens()


def test_factory_secrets_one_by_one_and_all(new_yubikey) -> None:
    own = new_yubikey()
    assert codes(own) == ["YUBIKEY004", "YUBIKEY005", "YUBIKEY006", "YUBIKEY012"]
    for code, secret in (("YUBIKEY004", "PIN"), ("YUBIKEY006", "management key")):
        found = only(own, code)
        assert f"factory {secret}," in found.problem
        assert "token init" in found.remedy
    own.state.pin.set(b"246813\xff\xff")
    assert codes(own) == ["YUBIKEY005", "YUBIKEY006", "YUBIKEY012"]
    own.state.management = replace(own.state.management, value=bytes(24))
    assert codes(own) == ["YUBIKEY005", "YUBIKEY012"]
    own.state.puk.set(b"97531864")
    assert codes(own) == ["YUBIKEY012"]


@pytest.mark.parametrize("firmware", [(5, 7, 1), (4, 3, 5)], ids=str)
def test_tries_of_the_pin(new_yubikey, firmware) -> None:
    own = new_yubikey(firmware)
    own.set_up()
    own.state.pin.left = 1
    last = only(own, "YUBIKEY007")
    own.state.pin.left = 0
    blocked = only(own, "YUBIKEY007")
    assert "one try is left" in last.problem
    assert "blocked" in blocked.problem
    assert (last.severity, blocked.severity) == (Severity.WARNING, Severity.ERROR)
    assert last.remedy == blocked.remedy
    assert f"mesh-hsm pin unblock '{own.uri}'" in blocked.remedy


def test_tries_of_the_puk(own: Own) -> None:
    own.state.puk.left = 1
    assert "one try is left" in only(own, "YUBIKEY008").problem
    own.state.puk.left = 0
    blocked = only(own, "YUBIKEY008")
    assert blocked.severity is Severity.WARNING
    assert "keep the PIN" in blocked.remedy


def test_with_both_blocked_nothing_but_erasing_is_proposed(own: Own) -> None:
    own.state.pin.left = own.state.puk.left = 0
    for code in ("YUBIKEY007", "YUBIKEY008"):
        remedy = only(own, code).remedy
        assert f"mesh-hsm token init '{own.uri}' --label NAME --erase" in remedy


@pytest.mark.parametrize(
    ("firmware", "names"),
    [
        ((5, 7, 1), []),
        ((5, 4, 3), ["EUCLEAK"]),
        ((4, 3, 0), ["EUCLEAK", "ROCA"]),
        ((4, 4, 2), ["EUCLEAK", "YSA-2019-02"]),
    ],
    ids=str,
)
def test_what_is_known_against_a_firmware(new_yubikey, firmware, names) -> None:
    own = new_yubikey(firmware)
    own.set_up()
    found = [one for one in diagnosed(own) if one.code == "YUBIKEY009"]
    assert [next(name for name in names if name in one.problem) for one in found] == names
    assert all(one.severity is Severity.WARNING for one in found)


def test_a_management_key_that_is_nowhere_on_the_card_is_no_finding(own: Own) -> None:
    own.state.objects.pop(0x5FFF00)
    assert codes(own) == ["YUBIKEY012"]


def test_a_slot_that_another_program_took(own: Own) -> None:
    own.make()
    own.forget()
    with own.other_program() as piv:
        piv.authenticate(own.state.management.value)
        piv.generate_key(SLOT.SIGNATURE, KEY_TYPE.ECCP256)
    found = only(own, "YUBIKEY011")
    assert "lists key in slot 9c" in found.problem
    with own.open() as token:
        token.generate(KeySpec("P-256", Use.SIGN, "other", slot="9a"))
    assert codes(own) == QUIET


def test_several_yubikeys_are_told_apart(own: Own, new_yubikey) -> None:
    other = new_yubikey()
    assert only(other, "YUBIKEY004").remedy.count(str(other.device.serial)) == 1
    mine = [one.code for one in diagnosed(own) if str(own.device.serial) in one.problem]
    assert sorted(mine) == QUIET


def test_a_yubikey_that_is_open_here_is_looked_at_all_the_same(own: Own) -> None:
    key = own.make(PinPolicy.ONCE)
    key.sign(bytes(32))
    assert codes(own) == QUIET
    key.sign(bytes(32))
