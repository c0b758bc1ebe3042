"""The rig itself: what it says it does to a software TPM, it does."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from tpm2_pytss import ESAPI, TPML_PCR_SELECTION

from mesh_hsm.errors import DeviceError, ProviderUnavailableError
from mesh_hsm.testing.swtpm import Swtpm
from mesh_hsm.testing.tpm_wire import Command, Tap, command, exchange, send


def pcr(rig: Swtpm, index: int) -> bytes:
    with ESAPI(rig.tcti) as esapi:
        _, _, values = esapi.pcr_read(TPML_PCR_SELECTION.parse(f"sha256:{index}"))
        value = values[0]
        return bytes(value)


def test_resets_and_restarts(swtpm: Swtpm) -> None:
    assert pcr(swtpm, 7) == bytes(32)
    for again in (swtpm.reset, swtpm.restart, lambda: swtpm.restart(orderly=False)):
        swtpm.extend_pcr(7)
        assert pcr(swtpm, 7) != bytes(32)
        again()
        assert pcr(swtpm, 7) == bytes(32)


def test_states_are_exchanged_and_put_back(swtpm: Swtpm) -> None:
    def endorsement() -> bytes:
        with ESAPI(swtpm.tcti) as esapi:
            handle, public, *_ = esapi.create_primary(None, "ecc256")
            esapi.flush_context(handle)
            return bytes(public.publicArea.marshal())

    first = endorsement()
    swtpm.exchange_state()
    assert endorsement() != first
    swtpm.put_back()
    assert endorsement() == first


def test_handles_are_listed(swtpm: Swtpm) -> None:
    assert swtpm.handles() == []
    with ESAPI(swtpm.tcti) as esapi:
        handle, *_ = esapi.create_primary(None, "ecc256")
        assert swtpm.handles() == [0x80000000]
        esapi.flush_context(handle)
    assert swtpm.handles() == []


def test_the_tap_counts_keeps_and_refuses(swtpm: Swtpm) -> None:
    with swtpm.tapped() as tap, ESAPI(swtpm.tap_tcti) as esapi:
        random = bytes(esapi.get_random(8))
        assert random in tap.octets
        assert tap.commands == [0x17B]
        tap.clear()
        assert (tap.commands, tap.octets) == ([], b"")
        tap.verdict = lambda request: 0x101
        with pytest.raises(Exception, match="fail"):
            esapi.get_random(8)


def test_a_refused_command_is_an_error(swtpm: Swtpm) -> None:
    swtpm.set_owner_password(b"owner")
    with pytest.raises(DeviceError, match="0x9a2"):
        swtpm.set_owner_password(b"again")
    with pytest.raises(DeviceError):
        send(swtpm.socket, command(Command.SIGN))


def test_a_tpm_that_hangs_up(tmp_path: Path) -> None:
    """Half an answer is none."""
    with pytest.raises(OSError, match="No such file"):
        exchange(tmp_path / "nobody", command(Command.STARTUP))
    with Tap(tmp_path / "tap", tmp_path / "nobody"), pytest.raises(EOFError):
        exchange(tmp_path / "tap", command(Command.STARTUP))


def test_programs_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ProviderUnavailableError, match="swtpm is not installed"):
        Swtpm()


def test_a_manufacture_that_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/false")
    with pytest.raises(DeviceError, match="swtpm_setup failed"):
        Swtpm(ek_certificate=True)
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_ends_at_once(swtpm: Swtpm, monkeypatch: pytest.MonkeyPatch) -> None:
    swtpm.stop()
    swtpm.stop()  # twice is harmless
    real = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda arguments, **named: real(["/bin/false"], **named)
    )
    with pytest.raises(DeviceError, match="ended as soon as"):
        swtpm.start()


def test_a_rig_leaves_no_folder() -> None:
    with Swtpm() as rig:
        folder = rig.folder
        assert folder.exists()
    assert not folder.exists()
