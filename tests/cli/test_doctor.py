"""doctor: every finding, made to happen; nothing is touched."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mesh_hsm import registry
from mesh_hsm.errors import ProviderUnavailableError, VerificationError
from mesh_hsm.provider import Finding, Provider
from mesh_hsm_cli import checks, trust
from mesh_hsm_cli.own_device import LazyDecryptor, own_device
from mesh_hsm_cli.session import Session
from tests.cli.conftest import PASSPHRASE, STORE, Home, World
from tests.cli.test_mesh_and_device import tree

SECRET = {"passphrase": PASSPHRASE}
NOW = datetime.now(UTC)
SOON = NOW + timedelta(days=345)
LATER = NOW + timedelta(days=366)


def session_of(home: Home, monkeypatch: pytest.MonkeyPatch) -> Session:
    monkeypatch.setenv("MESH_HSM_HOME", str(home.state))
    monkeypatch.delenv("MESH_HSM_TPM2_TCTI", raising=False)
    return Session()


def findings(
    home: Home, monkeypatch: pytest.MonkeyPatch, now: datetime = NOW
) -> dict[str, Finding]:
    found = checks.all_findings(session_of(home, monkeypatch), now)
    return {one.code: one for one in found if not one.code.startswith(("TPM", "PKCS11"))}


def test_an_empty_machine(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(findings(home, monkeypatch)) == {"STATE001"}


def test_a_healthy_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    record = world.admin.state / "mesh" / "record.json"
    kept = json.loads(record.read_text())
    record.write_text(json.dumps(kept | {"backup": str(world.folder / "taken away")}))
    assert findings(world.admin, monkeypatch) == {}
    assert findings(world.laptop, monkeypatch) == {}
    shown = world.laptop.run("doctor").out
    assert "cryptography:" in shown


def test_the_backup_is_still_here(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(findings(world.admin, monkeypatch)) == {"BACKUP002"}


def test_a_state_folder_open_to_others(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    os.chmod(world.laptop.state, 0o750)
    found = findings(world.laptop, monkeypatch)
    assert set(found) == {"STATE002"}
    assert "chmod 700" in found["STATE002"].remedy


@pytest.mark.parametrize(("now", "code"), [(SOON, "CONNECT003"), (LATER, "CONNECT002")])
def test_connections_that_end(
    world: World, monkeypatch: pytest.MonkeyPatch, now: datetime, code: str
) -> None:
    assert set(findings(world.laptop, monkeypatch, now)) == {code}
    assert set(findings(world.admin, monkeypatch, now)) == {"BACKUP002", code}


def test_a_device_that_has_not_answered(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.admin.ok(
        *("device", "connect", "../request.dare", "--out", "x", "--replace"),
        *("--confirm-udf", world.device),
        secrets={"passphrase": STORE},
    )
    assert set(findings(world.admin, monkeypatch)) == {"BACKUP002", "CONNECT001"}


def test_keys_that_are_gone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (world.laptop.state / "providers" / "soft" / "default.keys").unlink()
    found = findings(world.laptop, monkeypatch)
    assert set(found) == {"DEVICE002"}
    assert "--backup" in found["DEVICE002"].remedy


def test_a_provider_without_its_library(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[[str, Path], Provider] = registry.load

    def load(scheme: str, records: Path) -> Provider:
        if scheme == "tpm2":
            raise ProviderUnavailableError("not installed", hint="pip install it")
        return real(scheme, records)

    monkeypatch.setattr(registry, "load", load)
    found = findings(home, monkeypatch)
    assert found["PROVIDER001"].remedy == "pip install it"


def test_it_touches_nothing(world: World) -> None:
    before = tree(world.folder)
    world.admin.run("doctor")
    world.laptop.run("doctor", "--json")
    assert tree(world.folder) == before


# -- and what an expired connection still allows --------------------------------------------------


def test_old_files_open_after_the_connection_has_expired(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = session_of(world.laptop, monkeypatch)
    session.secrets.offered.add("passphrase")
    reader, writer = os.pipe()
    os.write(writer, PASSPHRASE + b"\n")
    os.close(writer)
    from mesh_hsm_cli.secret_options import Descriptor

    session.secrets.sources["passphrase"] = Descriptor(reader)
    device = own_device(session, LATER)
    key = LazyDecryptor(session, device)
    assert list(key.agreements(key.public.curve.base))
    os.close(reader)


def test_nobody_encrypts_or_signs_under_an_expired_connection(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = session_of(world.laptop, monkeypatch)
    assert trust.known_devices(session, LATER) == []
    with (
        pytest.raises(VerificationError, match="expired"),
        trust.signers(session, ("device",), LATER),
    ):
        pass
    session = session_of(world.admin, monkeypatch)
    assert trust.known_devices(session, LATER) == []
    assert len(trust.known_devices(session, NOW)) == 1
