"""The PKCS#11 provider keeps the contract on tokens that speak otherwise than SoftHSM does."""
# ruff: noqa: SIM118  Token.keys is no dictionary's

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest
from interposer import NSS, OPENCRYPTOKI, STRICT_TEMPLATES, Interposer
from softhsm_bench import SofthsmBench

from mesh_hsm.curves import CURVES
from mesh_hsm.custody import CustodyClass
from mesh_hsm.errors import MeshHsmError
from mesh_hsm.provider import KeySpec, Use
from mesh_hsm.testing.conformance import Bench, ProviderConformance
from mesh_hsm.testing.conformance.bench import exercise, make, seen
from mesh_hsm.testing.softhsm import Softhsm


@pytest.fixture
def interposer(
    softhsm_token: Softhsm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Interposer]:
    with Interposer(softhsm_token.module, tmp_path / "module") as interposer:
        monkeypatch.setenv("MESH_HSM_PKCS11_MODULE", str(interposer.path))
        yield interposer


@pytest.fixture
def softhsm(softhsm_token: Softhsm, interposer: Interposer, tmp_path: Path) -> SofthsmBench:
    return SofthsmBench(softhsm_token, interposer, tmp_path / "records", faults=False)


class TestOpencryptokiDialect(ProviderConformance):
    """Key type EC_MONTGOMERY, object identifiers, raw points, other return values."""

    @pytest.fixture
    def bench(self, softhsm: SofthsmBench, interposer: Interposer) -> Bench:
        interposer.speak(*OPENCRYPTOKI)
        return softhsm


class TestNssDialect(ProviderConformance):
    """X25519 as an EC key under GNU's identifier, no Edwards curves, refused attributes."""

    @pytest.fixture
    def bench(self, softhsm: SofthsmBench, interposer: Interposer) -> Bench:
        interposer.speak(*NSS, *STRICT_TEMPLATES)
        return softhsm


ONE_BY_ONE = [
    "raw_points",
    "montgomery",
    "ec_type_x25519",
    "oids",
    "printable_only",
    "other_codes",
    "raw_peer_only",
    "der_peer_only",
    *STRICT_TEMPLATES,
    "login_first",
    "cannot_lock",
    "own_ids",
    "no_derive",
    "no_edwards",
    "no_ed448",
    "stripped_z",
    "ecdsa_der",
]


@pytest.mark.parametrize("feature", ONE_BY_ONE)
def test_each_difference_alone(softhsm: SofthsmBench, interposer: Interposer, feature: str) -> None:
    """Every curve on offer makes, finds, uses and deletes a key; nothing else stays."""
    interposer.speak(feature)
    with softhsm.open() as token:
        offered = {(c.algorithm, c.primitive) for c in token.capabilities()}
        made = [
            token.generate(KeySpec(name, use, f"{name} to {use}"))
            for name in CURVES
            for use in Use
            if any((name, primitive) in offered for primitive in use.primitives)
        ]
        assert {key.public.curve.name for key in made} >= {"P-256", "P-384"}
        for key in made:
            for _ in range(3):
                exercise(key)
            assert key.custody().custody is CustodyClass.GENERATED
    with softhsm.open() as again:
        assert {key.label for key in again.keys()} == {key.label for key in made}
        for key in made:
            exercise(again.key(key.uri))
            again.delete(key.uri)
        assert list(again.keys()) == []
    assert list(softhsm.leftovers()) == []


def test_a_token_that_numbers_its_keys_itself_is_rolled_back(
    softhsm_token: Softhsm, interposer: Interposer, tmp_path: Path
) -> None:
    """Whichever step fails: what is left of a key is neither on the token nor in a record."""
    interposer.speak("own_ids")
    softhsm = SofthsmBench(softhsm_token, interposer, tmp_path / "records")
    with softhsm.open() as token:
        make(token, Use.SIGN, "bystander")
        for step in count():
            done, failing = interposer.fired, softhsm.failing(step)
            assert failing is not None
            with suppress(MeshHsmError), failing:
                make(token, Use.ENCRYPT, "victim")
            if interposer.fired == done:
                break
            assert list(softhsm.leftovers()) == [], step
            assert {"bystander"} == set(seen(token)) - {"victim"}
            for key in token.keys():
                if key.label == "victim":
                    token.delete(key.uri)
        assert step > 20
