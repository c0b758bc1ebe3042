"""The PKCS #11 provider keeps the contract on tpm2-pkcs11: a software TPM that signs only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pkcs11_bench import Pkcs11Bench
from rigs import Tpm2, skipped_if_absent

from mesh_hsm.provider import Imports, Seals
from mesh_hsm.testing.conformance import Bench, ProviderConformance
from mesh_hsm_pkcs11.module import forget_modules

# tpm2-pkcs11 1.9, by part of a test's name.
FAULTS = {
    "P-521": "it writes the points of P-521 with a wrong length, and then cannot read its own",
    "forked": "C_Finalize in a forked child unloads the parent's keys from the TPM",
}


class Tpm2Bench(Pkcs11Bench):
    """A token in a TPM of its own. Its PIN is counted by the TPM, and the module tells nothing."""

    lacks = frozenset({Imports, Seals})  # it takes no EC key from outside, and agrees on no curve


class TestTpm2Pkcs11(ProviderConformance):
    @pytest.fixture(autouse=True)
    def without_its_faults(self, request: pytest.FixtureRequest) -> None:
        for part, reason in FAULTS.items():
            if part in request.node.name:
                pytest.skip(f"tpm2-pkcs11: {reason}")

    @pytest.fixture
    def bench(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
        with skipped_if_absent(Tpm2) as rig:
            for name, value in rig.environment.items():
                monkeypatch.setenv(name, value)
            yield Tpm2Bench(rig, tmp_path / "records")
            forget_modules()
