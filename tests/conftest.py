"""For all tests: where simulators are required, none is skipped for want of a program."""

from __future__ import annotations

from collections.abc import Generator

import pytest


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
