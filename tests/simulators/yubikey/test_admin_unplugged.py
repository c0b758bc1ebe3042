"""``admin add``, the YubiKey pulled out at every command: card and profile stay consistent."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mesh_hsm.mesh import open_profile_master
from mesh_hsm.secret_source import FixedSecrets, SecretKind
from mesh_hsm.testing.virtual_yubikey import VirtualYubiKey
from mesh_hsm.testing.virtual_yubikey.rig import YubiKeyRig
from mesh_hsm.udf import udf_of
from mesh_hsm.uri import Uri
from mesh_hsm_cli import main
from mesh_hsm_cli.records import load_mesh
from mesh_hsm_cli.state import State
from mesh_hsm_yubikey import YubiKeyProvider, catalogue, slot_state
from mesh_hsm_yubikey.card import card_of
from mesh_hsm_yubikey.slots import OURS

PASSPHRASE = "correct horse battery staple"
# Away after an answer is away before the next command.
LOSSES: dict[str, Callable[[VirtualYubiKey, int], None]] = {
    "before": lambda device, n: device.unplug_at(n),
    "unanswered": lambda device, n: device.power_loss_after(n, answered=False),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Mesh whose keys are in software."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MESH_HSM_HOME", str(folder / "home"))
        patch.setenv("PHRASE", PASSPHRASE)
        patch.chdir(folder)
        arguments = ["mesh", "create", "--no-escrow", "--passphrase-env", "PHRASE"]
        assert main.main([*arguments, "--store-passphrase-env", "PHRASE"]) == 0
    return folder / "home"


@pytest.fixture
def home(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = Path(shutil.copytree(made, tmp_path / "home"))
    monkeypatch.setenv("MESH_HSM_HOME", str(home))
    monkeypatch.setenv("PHRASE", PASSPHRASE)
    monkeypatch.setenv("MESH_HSM_PKCS11_MODULE", "")
    return home


def add(rig: YubiKeyRig, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """``admin add``; its exit code and what it said."""
    command = ["admin", "add", "--token", rig.uri, "--label", "card", "--pin-env", "PIN"]
    code = main.main([*command, "--passphrase-env", "PHRASE"])
    return code, capsys.readouterr().err


def listed(home: Path) -> set[str]:
    """UDFs of the administrators in the record, which must be those of the signed profile."""
    record = load_mesh(State(home))
    assert record is not None
    profile = open_profile_master(record.profile).value
    udfs = {one.udf for one in record.administrators}
    assert udfs == {udf_of(key) for key in profile.administrator_signature}
    return udfs


def on_the_card(rig: YubiKeyRig, folder: Path) -> set[str]:
    """UDFs of our keys there; nothing else may lie in a slot, but what an entry accounts for."""
    card = card_of(rig.first.serial)

    def look(hold) -> set[int]:
        found = catalogue.read(hold.piv)
        known = {one.slot for one in found.entries} if found else set()
        return {one for one in OURS if slot_state.read(hold.piv, one)} - known

    assert card.run("be looked at", look) == set()
    secrets = FixedSecrets({SecretKind.PIN: rig.pin.encode()})
    with YubiKeyProvider(folder).open(Uri.parse(rig.uri), secrets) as token:
        keys = token.keys()
    return {udf_of(key.public) for key in keys}


@pytest.mark.parametrize("loss", LOSSES)
def test_pulled_out_at_every_command(
    virtual_yubikey: YubiKeyRig,
    home: Path,
    tmp_path: Path,
    loss: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PIN", virtual_yubikey.pin)
    rig, device, saved = virtual_yubikey, virtual_yubikey.device, virtual_yubikey.device.save()
    before, fresh = listed(home), tmp_path / "fresh"
    shutil.copytree(home, fresh)
    start = device.apdus
    assert add(rig, capsys)[0] == 0
    count = device.apdus - start
    assert count > 20
    for n in range(1, count + 1):
        shutil.rmtree(home)
        shutil.copytree(fresh, home)
        card_of(rig.first.serial).release()
        device.load(saved)
        LOSSES[loss](device, n)
        code, said = add(rig, capsys)
        device.stop_failing()
        device.insert()
        there = on_the_card(rig, tmp_path)
        if code == 0:  # it went away after all was done
            assert there == listed(home) - before
            continue
        assert "error: " in said, n
        assert "hint: " in said, n
        # Never listed without its key; a key that could not be deleted any more is told of.
        assert listed(home) == before, n
        assert not there or "card" in said, n
        if device.save() == saved:  # as it was before: no need to see that it works
            continue
        assert add(rig, capsys)[0] == 0, n
        assert on_the_card(rig, tmp_path) == listed(home) - before, n


def test_a_key_on_record_by_its_slot_does_not_move(
    virtual_yubikey: YubiKeyRig,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PIN", virtual_yubikey.pin)
    assert add(virtual_yubikey, capsys)[0] == 0
    assert main.main(["key", "move", "card", "82", "--pin-env", "PIN"]) == 11
    assert "on record in this slot" in capsys.readouterr().err
    plain = ["key", "generate", "--token", virtual_yubikey.uri, "--use", "sign", "--label", "plain"]
    assert main.main([*plain, "--pin-env", "PIN"]) == 0
    assert main.main(["key", "move", "plain", "9e", "--pin-env", "PIN"]) == 0
    removed = ["admin", "remove", "card", "--delete-key", "--yes", "--pin-env", "PIN"]
    assert main.main([*removed, "--passphrase-env", "PHRASE"]) == 0
