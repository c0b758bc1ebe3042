"""An interposer before a SoftHSM of the test's own, and sessions through it without a binding."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from bare_module import BareModule, InitializeArguments
from interposed_bench import Bench
from interposer import Interposer

from mesh_hsm.testing.softhsm import Softhsm


@pytest.fixture
def interposer(softhsm_token: Softhsm, tmp_path: Path) -> Iterator[Interposer]:
    with Interposer(softhsm_token.module, tmp_path / "interposer") as made:
        yield made


@pytest.fixture
def module(interposer: Interposer) -> BareModule:
    module = BareModule(interposer.path)
    module("C_Initialize", InitializeArguments(flags=2))  # it is to lock, for threads
    return module


@pytest.fixture
def slot(module: BareModule) -> int:
    return module.slots()[0]


@pytest.fixture
def bench(softhsm_token: Softhsm, interposer: Interposer, module: BareModule, slot: int) -> Bench:
    session = module.open(slot)
    module.login(session, softhsm_token.pin)
    return Bench(interposer, module, slot, session)
