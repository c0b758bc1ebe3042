"""For all tests: no simulator is skipped where it is required, and no real card is touched."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import suppress

import pytest

from mesh_hsm.errors import ProviderUnavailableError
from mesh_hsm.testing.virtual_yubikey.pcsc_process import in_process


@pytest.fixture(scope="session", autouse=True)
def no_card_of_this_machine(request: pytest.FixtureRequest) -> None:
    """No test sees a smart card that somebody plugged in here, unless he says so by ``--device``.

    libpcsclite asks once in the life of a process where its service is: so before any test.
    """
    if request.config.getoption("--device", default=None) is not None:
        return
    with suppress(ProviderUnavailableError):  # no libpcsclite, and so no card
        in_process()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With ``--require-simulator`` a skip because something "is not installed" is a failure."""
    report = yield
    required = item.config.getoption("--require-simulator", default=[])
    if required and report.skipped and "is not installed" in str(report.longrepr):
        report.outcome = "failed"
        report.longrepr = f"not skipped, since simulators are required: {report.longrepr}"
    return report
