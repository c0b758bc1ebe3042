"""The pytest plugin: fixtures that start simulators, so that a user's own CI can ask for them.

A simulator that is not installed skips the test and says so, unless ``--require-simulator NAME``
named it: a CI that counts on one then fails. Nothing of mesh-hsm is imported before it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

import pytest

if TYPE_CHECKING:
    from mesh_hsm.testing.softhsm import Softhsm
    from mesh_hsm.testing.swtpm import Swtpm
    from mesh_hsm.testing.virtual_yubikey.rig import YubiKeyRig

pytest.register_assert_rewrite("mesh_hsm.testing.conformance")

_OPTION = "--require-simulator"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--require-simulator NAME``, which may be given several times."""
    parser.getgroup("mesh-hsm").addoption(
        _OPTION,
        action="append",
        default=[],
        choices=("swtpm", "softhsm", "yubikey"),
        help="fail instead of skipping where this simulator is absent",
    )


@pytest.fixture
def swtpm(request: pytest.FixtureRequest) -> Iterator[Swtpm]:
    """A software TPM of this test's own, started and empty."""
    from mesh_hsm.testing.swtpm import Swtpm

    with _present(request, "swtpm", Swtpm) as rig:
        yield rig


@pytest.fixture
def softhsm_token(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Softhsm]:
    """A SoftHSM of this test's own with one token: ``uri``, ``pin``, ``so_pin``, ``module``.

    SOFTHSM2_CONF and MESH_HSM_PKCS11_MODULE lead to it, in this process and in those that the
    test starts. A SoftHSM that this process has loaded already forgets the test before.
    """
    from mesh_hsm.testing.softhsm import Softhsm, look_again

    with _present(request, "softhsm", Softhsm) as rig:
        _lead_to(rig, monkeypatch)
        look_again(rig.module)
        yield rig
        rig.clear()
        _lead_to(rig, monkeypatch)  # wherever the test has led
        look_again(rig.module)  # at nothing: no session and no login outlives the test


@pytest.fixture
def virtual_yubikey(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[YubiKeyRig]:
    """A simulated YubiKey, plugged in: ``device``, ``uri``, ``pin``, ``puk``, ``management_key``.

    Its PINs are not the factory's. This process sees it through PC/SC, and so do those that the
    test starts; no other smart card is seen. ``add`` plugs in more.
    """
    yield from _yubikey(request, monkeypatch, factory=False)


@pytest.fixture
def factory_yubikey(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[YubiKeyRig]:
    """As ``virtual_yubikey``, but as it leaves the factory, with the PINs that everybody knows."""
    yield from _yubikey(request, monkeypatch, factory=True)


def _yubikey(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, *, factory: bool
) -> Iterator[YubiKeyRig]:
    from mesh_hsm.testing.virtual_yubikey.rig import rig_in_process

    with _present(request, "yubikey", lambda: rig_in_process(factory=factory)) as rig:
        _lead_to(rig, monkeypatch)
        yield rig


def _lead_to(rig: Softhsm | YubiKeyRig, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in rig.environment.items():
        monkeypatch.setenv(name, value)


_Rig = TypeVar("_Rig")


def _present(request: pytest.FixtureRequest, name: str, make: Callable[[], _Rig]) -> _Rig:
    from mesh_hsm.errors import ProviderUnavailableError

    try:
        return make()
    except ProviderUnavailableError as error:
        if name in request.config.getoption(_OPTION):
            pytest.fail(f"a required simulator is absent: {error} ({error.hint})")
        pytest.skip(f"{error} ({error.hint})")
