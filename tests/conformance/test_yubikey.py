"""The YubiKey provider keeps the contract, on a virtual YubiKey of each firmware."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from yubikey_bench import YubiKeyBench

from mesh_hsm.testing.conformance import Bench, ProviderConformance
from mesh_hsm.testing.virtual_yubikey import VirtualYubiKey
from mesh_hsm.testing.virtual_yubikey.pcsc_process import in_process

SERIALS = count(30_000_100)


@pytest.mark.parametrize(
    "firmware", [(5, 7, 1), (5, 4, 3), (4, 3, 5)], ids=["5.7.1", "5.4.3", "4.3.5"], scope="class"
)
class TestYubiKey(ProviderConformance):
    @pytest.fixture
    def bench(self, firmware: tuple[int, int, int], tmp_path: Path) -> Iterator[Bench]:
        device = VirtualYubiKey(next(SERIALS), firmware)
        service = in_process()
        service.add(device)
        try:
            yield YubiKeyBench(device, tmp_path)
        finally:
            service.remove(device)
