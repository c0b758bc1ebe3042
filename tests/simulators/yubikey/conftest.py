"""YubiKeys of a test's own, in the PC/SC service of this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from own_yubikey import Own

from mesh_hsm.testing.virtual_yubikey.pcsc_process import in_process


@pytest.fixture
def new_yubikey(tmp_path: Path) -> Iterator[Callable[..., Own]]:
    """Makes YubiKeys as they leave the factory: ``new_yubikey(firmware, fips=True)``."""
    with ExitStack() as stack:

        def make(*firmware, **made) -> Own:
            one = Own(in_process(), tmp_path / "providers" / "yubikey", *firmware, **made)
            stack.callback(one.pull_out)
            return one

        yield make


@pytest.fixture
def own(new_yubikey: Callable[..., Own]) -> Own:
    """One with firmware 5.7.1, set up."""
    one = new_yubikey()
    one.set_up()
    return one
