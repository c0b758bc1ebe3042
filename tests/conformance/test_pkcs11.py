"""The PKCS#11 provider keeps the contract, on SoftHSM."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pytest

from mesh_hsm.provider import Provider
from mesh_hsm.secret_source import SecretKind
from mesh_hsm.testing.conformance import Bench, ProviderConformance
from mesh_hsm.testing.softhsm import Softhsm
from mesh_hsm.uri import Uri
from mesh_hsm_pkcs11 import Pkcs11Provider


class SofthsmBench(Bench):
    """A throw-away token, and a folder of records."""

    asks = SecretKind.PIN

    def __init__(self, rig: Softhsm, folder: Path) -> None:
        self.rig, self.folder = rig, folder
        self.uri = Uri.parse(rig.uri)
        self.answers = {
            SecretKind.PIN: rig.pin.encode(),
            SecretKind.NEW_PIN: rig.pin.encode(),
        }

    def provider(self) -> Provider:
        return Pkcs11Provider(self.folder)


class TestSoftHsm(ProviderConformance):
    @pytest.fixture
    def bench(self, softhsm_token: Softhsm, tmp_path: Path) -> Bench:
        return SofthsmBench(softhsm_token, tmp_path / "records")
