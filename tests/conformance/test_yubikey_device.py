"""The same kit on the YubiKey that ``--device SERIAL`` names, and on no other."""

from __future__ import annotations

from pathlib import Path

import pytest
from yubikey_bench import CardBench

from mesh_hsm.testing.conformance import Bench, ProviderConformance


class TestDevice(ProviderConformance):
    @pytest.fixture
    def bench(self, device_serial: int, tmp_path: Path) -> Bench:
        return CardBench(device_serial, tmp_path)
