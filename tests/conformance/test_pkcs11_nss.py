"""The PKCS #11 provider keeps the contract on NSS, reached through p11-kit's proxy."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pkcs11_bench import Pkcs11Bench
from rigs import Nss, skipped_if_absent

from mesh_hsm.custody import CustodyClass
from mesh_hsm.provider import Use
from mesh_hsm.testing.conformance import Bench, ProviderConformance
from mesh_hsm.testing.conformance.bench import exercise, make
from mesh_hsm_pkcs11.module import forget_modules

for_ordinary_users = pytest.mark.skipif(
    os.geteuid() == 0, reason="p11-kit reads no user's configuration for root: see the last test"
)


class NssBench(Pkcs11Bench):
    """An empty database with a PIN. NSS does not say of a stored key that it was made in it."""

    custody = CustodyClass.IMPORTED


@pytest.fixture(scope="module")
def nss() -> Iterator[Nss]:
    with skipped_if_absent(Nss) as rig:
        yield rig


@for_ordinary_users
class TestNss(ProviderConformance):
    @pytest.fixture
    def bench(self, nss: Nss, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
        for name, value in nss.environment.items():
            monkeypatch.setenv(name, value)
        nss.anew()
        yield NssBench(nss, tmp_path / "records")
        forget_modules()


@for_ordinary_users
def test_without_the_proxy(nss: Nss, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What p11-kit has registered is found, and told what it must be, without p11-kit's library."""
    for name, value in nss.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MESH_HSM_PKCS11_MODULE")
    nss.anew()
    try:
        with NssBench(nss, tmp_path / "records").open() as token:
            exercise(make(token, Use.ENCRYPT))
    finally:
        forget_modules()


@pytest.mark.skipif(os.geteuid() != 0, reason="the tests above have run")
def test_as_an_ordinary_user(request: pytest.FixtureRequest) -> None:
    """Root becomes somebody else, in a user namespace where its files are still its own."""
    become = ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--"]
    if subprocess.run([*become, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody become another user in a namespace")
    pytest_again = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
    ]
    required = request.config.getoption("--require-simulator")
    done = subprocess.run(
        [*become, *pytest_again, *(f"--require-simulator={name}" for name in required), __file__],
        cwd=request.config.rootpath,
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout)  # with the reasons of all that was skipped
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert re.search(r"^\d{2,} passed", done.stdout, re.MULTILINE)
