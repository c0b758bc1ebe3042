"""Seeds, nonces and the scalars of hsm-1 §1."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mesh_hsm.curves import CURVES, P384, curve
from mesh_hsm.errors import FormatError
from mesh_hsm.udf import (
    SeedUse,
    TypeId,
    derive_key,
    derive_octets,
    new_seed,
    nonce,
    parse,
    parse_seed,
    present,
    present_seed,
)

SEED = bytes.fromhex("0101") + bytes(range(32))


@pytest.mark.parametrize(("name", "size", "identifier"), [
    ("P-256", 40, 5), ("P-384", 56, 6), ("P-521", 74, 7),
])  # fmt: skip
def test_nist_contributions_carry_their_algorithm(name: str, size: int, identifier: int) -> None:
    info = b"\x01\x01ActivationDeviceSign" + identifier.to_bytes(2, "big")
    okm = HKDF(SHA512(), size, salt=None, info=info).derive(SEED)
    target = curve(name)
    assert derive_octets(SEED, "ActivationDeviceSign", target) == okm
    expected = int.from_bytes(okm, "big") % (target.order - 1) + 1
    assert derive_key(SEED, "ActivationDeviceSign", target) == expected


def test_p384_is_not_ed448_of_the_same_name() -> None:
    assert derive_octets(SEED, "x", P384) != derive_octets(SEED, "x", curve("Ed448"))


@pytest.mark.parametrize("name", CURVES)
def test_scalars_are_in_range_and_differ_by_name(name: str) -> None:
    target = curve(name)
    one, other = derive_key(SEED, "One", target), derive_key(SEED, "Other", target)
    assert 0 < one < target.order
    assert one != other


def test_seeds_are_fresh_and_come_back() -> None:
    seed = new_seed(SeedUse.ACTIVATION_DEVICE)
    assert len(seed) == 34
    assert seed[:2] == b"\x01\x01"
    assert seed != new_seed(SeedUse.ACTIVATION_DEVICE)
    assert parse_seed(present_seed(seed)) == seed


def test_nonces_are_fresh() -> None:
    one, other = nonce(), nonce()
    assert one != other
    assert parse(one).type_id == TypeId.NONCE
    assert len(one) == 34


@pytest.mark.parametrize(
    "text", [present(TypeId.NONCE, SEED), present(TypeId.SEED, b"\x01\x01"), "not a seed"]
)
def test_what_is_no_seed_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse_seed(text)
    assert text not in str(caught.value)


def test_an_empty_secret_derives_nothing() -> None:
    with pytest.raises(FormatError):
        derive_key(b"\x01\x01", "ActivationDeviceSign", P384)
