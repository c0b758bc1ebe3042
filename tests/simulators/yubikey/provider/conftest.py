"""YubiKeys whose slots are looked into."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from slots_bench import SlotsBench


@pytest.fixture
def new_bench(tmp_path: Path) -> Iterator[Callable[..., SlotsBench]]:
    """Plugs in one more: ``new_bench(firmware, reader=name)``."""
    with ExitStack() as stack:

        def make(*firmware, **how) -> SlotsBench:
            one = SlotsBench(tmp_path, *firmware, **how)
            stack.callback(one.pull_out)
            return one

        yield make


@pytest.fixture
def bench(new_bench: Callable[..., SlotsBench]) -> SlotsBench:
    """One with firmware 5.7.1."""
    return new_bench()
