"""Unmodified ykman, OpenSC and ykcs11 over the private PC/SC service."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesh_hsm.testing.virtual_yubikey.rig import FACTORY_PIN, FACTORY_PUK, YubiKeyRig
from tests.simulators.yubikey.pcsc.tools import (
    OPENSC,
    YKCS11,
    Tools,
    check_agreement,
    check_key,
    check_signature,
)


@pytest.fixture
def tools(virtual_yubikey: YubiKeyRig, tmp_path: Path) -> Tools:
    return Tools(virtual_yubikey.environment, tmp_path)


def test_ykman_finds_it(tools: Tools) -> None:
    assert tools.ykman("list") == "YubiKey 5C (5.7.1) [CCID] Serial: 30000001\n"
    assert tools.ykman("list", "--serials") == "30000001\n"
    info = tools.ykman("info")
    assert "Serial number: 30000001\n" in info
    assert "Firmware version: 5.7.1\n" in info
    assert [
        line.split("\t")[0].strip() for line in info.splitlines() if "Enabled" in line[10:]
    ] == ["PIV"]
    piv = tools.ykman("piv", "info")
    assert "PIN tries remaining:      3/3" in piv
    assert "stored on the YubiKey, protected by PIN" in piv
    assert "WARNING" not in piv


def test_ykman_finds_two_and_tells_them_apart(virtual_yubikey: YubiKeyRig, tools: Tools) -> None:
    second = virtual_yubikey.add(firmware=(5, 4, 3))
    assert tools.ykman("list").splitlines() == [
        "YubiKey 5C (5.7.1) [CCID] Serial: 30000001",
        "YubiKey 5C (5.4.3) [CCID] Serial: 30000002",
    ]
    assert "version:              5.4.3" in tools.ykman("--device", "30000002", "piv", "info")
    assert "Multiple YubiKeys" in tools.ykman("piv", "info", fails=True)
    virtual_yubikey.unplug(second)
    assert tools.ykman("list", "--serials") == "30000001\n"


def test_ykman_says_what_is_still_the_factory_s(
    factory_yubikey: YubiKeyRig, tmp_path: Path
) -> None:
    tools = Tools(factory_yubikey.environment, tmp_path)
    info = tools.ykman("piv", "info")
    assert [line for line in info.splitlines() if "WARNING" in line] == [
        "WARNING: Using default PIN!",
        "WARNING: Using default PUK!",
        "WARNING: Using default Management key!",
    ]
    tools.ykman("piv", "access", "change-pin", "-P", FACTORY_PIN, "-n", "998877")
    tools.ykman("piv", "access", "change-puk", "-p", FACTORY_PUK, "-n", "11223344")
    tools.ykman(
        *("piv", "access", "change-management-key", "-P", "998877", "--protect", "--generate"),
        *("-m", factory_yubikey.management_key.hex(), "--algorithm", "AES256"),
    )
    info = tools.ykman("piv", "info")
    assert "WARNING" not in info
    assert "algorithm: AES256" in info
    tools.ykman("piv", "keys", "generate", "-P", "998877", "-a", "X25519", "9a", "-")
    assert 0x9A in factory_yubikey.device._piv.context.state.keys


def test_secrets_change_and_a_wrong_one_is_counted(
    virtual_yubikey: YubiKeyRig, tools: Tools
) -> None:
    change = ("piv", "access", "change-pin", "-n", "998877", "-P")
    assert "2 tries left" in tools.ykman(*change, "000000", fails=True)
    assert "PIN tries remaining:      2/3" in tools.ykman("piv", "info")
    tools.ykman(*change, virtual_yubikey.pin)
    assert "PIN tries remaining:      3/3" in tools.ykman("piv", "info")
    tools.ykman("piv", "access", "unblock-pin", "-p", virtual_yubikey.puk, "-n", "445566")
    tools.ykman("piv", "keys", "generate", "-P", "445566", "-a", "ECCP384", "9c", "-")


def test_a_reset_forgets_everything_but_the_attestation_key(
    virtual_yubikey: YubiKeyRig, tools: Tools
) -> None:
    tools.ykman("piv", "keys", "generate", "-P", virtual_yubikey.pin, "-a", "ECCP256", "9a", "-")
    tools.ykman("piv", "reset", "--force")
    assert "WARNING: Using default PIN!" in tools.ykman("piv", "info")
    assert list(virtual_yubikey.device._piv.context.state.keys) == [0xF9]


def test_a_key_is_made_attested_and_used_by_everybody(
    virtual_yubikey: YubiKeyRig, tools: Tools
) -> None:
    pin = virtual_yubikey.pin
    public = check_key(tools, pin)
    for module in (OPENSC, YKCS11):
        listed = tools.pkcs11(module, "--list-objects", "--type", "pubkey")
        assert public.public_numbers().x.to_bytes(32, "big").hex() in listed
        check_agreement(tools, pin, module, public)
    check_signature(tools, pin, YKCS11, public)
