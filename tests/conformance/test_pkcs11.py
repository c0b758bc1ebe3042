"""The PKCS#11 provider keeps the contract, on SoftHSM."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from interposer import Interposer
from softhsm_bench import SofthsmBench

from mesh_hsm.testing.conformance import Bench, ProviderConformance
from mesh_hsm.testing.softhsm import Softhsm


class TestSoftHsm(ProviderConformance):
    @pytest.fixture
    def bench(
        self, softhsm_token: Softhsm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[Bench]:
        with Interposer(softhsm_token.module, tmp_path / "module") as interposer:
            monkeypatch.setenv("MESH_HSM_PKCS11_MODULE", str(interposer.path))
            yield SofthsmBench(softhsm_token, interposer, tmp_path / "records")
