"""The pytest plugin: fixtures that start simulators, so that a user's own CI can ask for them.

A simulator that is not installed skips the test and says so, unless ``--require-simulator NAME``
named it: a CI that counts on one then fails. Nothing of mesh-hsm is imported before it is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mesh_hsm.testing.swtpm import Swtpm

pytest.register_assert_rewrite("mesh_hsm.testing.conformance")

_OPTION = "--require-simulator"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--require-simulator NAME``, which may be given several times."""
    parser.getgroup("mesh-hsm").addoption(
        _OPTION,
        action="append",
        default=[],
        metavar="NAME",
        help="fail instead of skipping where this simulator (swtpm) is absent",
    )


@pytest.fixture
def swtpm(request: pytest.FixtureRequest) -> Iterator[Swtpm]:
    """A software TPM of this test's own, started and empty."""
    from mesh_hsm.errors import ProviderUnavailableError
    from mesh_hsm.testing.swtpm import Swtpm

    try:
        rig = Swtpm()
    except ProviderUnavailableError as error:
        if "swtpm" in request.config.getoption(_OPTION):
            pytest.fail(f"a required simulator is absent: {error} ({error.hint})")
        pytest.skip(f"{error} ({error.hint})")
    with rig:
        yield rig
