"""Every published UDF value that this library computes, reproduced from its inputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mesh_hsm.curves import ED448, ED25519, X25519, Point, curve
from mesh_hsm.udf import (
    TypeId,
    content_digest,
    derive_key,
    derive_octets,
    fingerprint,
    key_info,
    parse,
    parse_seed,
    present,
    present_seed,
    udf_of,
)

FOLDER = Path(__file__).parent / "udf"


def vectors(name: str) -> list[Any]:
    records = [one for one in json.loads((FOLDER / f"{name}.json").read_text()) if one["verified"]]
    assert records, f"no vectors in {name}"
    return [pytest.param(one["inputs"], one["expected"], id=one["name"]) for one in records]


def key(algorithm: str, octets: bytes) -> Point:
    if algorithm == "X25519":  # published without the sign octet
        return X25519.decode_x(octets)
    return curve(algorithm).decode(octets)


@pytest.mark.parametrize(("inputs", "expected"), vectors("content-digest"))
def test_content_digest(inputs: Any, expected: Any) -> None:
    digest = content_digest(
        bytes.fromhex(inputs["data_hex"]), inputs["content_type"], inputs["algorithm"]
    )
    assert digest.octets.hex() == expected["typed_content_digest_hex"]
    assert digest.type_id == expected["type_id"]
    assert digest.udf(inputs["precision_bits"]) == expected["udf"]


@pytest.mark.parametrize(("inputs", "expected"), vectors("key-identifier"))
def test_key_identifier(inputs: Any, expected: Any) -> None:
    public = key(inputs["algorithm"], bytes.fromhex(inputs["public_key_hex"]))
    if "der_hex" in inputs:
        assert key_info(public).hex() == inputs["der_hex"]
    digest = fingerprint(public, inputs["content_type"])
    assert digest.udf(inputs["precision_bits"]) == expected["udf"]


@pytest.mark.parametrize(("inputs", "expected"), vectors("oid-sequence"))
def test_oid_sequence(inputs: Any, expected: Any) -> None:
    info = key_info(key(inputs["algorithm"], bytes.fromhex(inputs["public_key_hex"])))
    assert info.hex() == expected["der_hex"]
    assert present(TypeId.OID, info) == expected["udf"]


@pytest.mark.parametrize(("inputs", "expected"), vectors("derive-named"))
def test_derived_by_name(inputs: Any, expected: Any) -> None:
    seed = parse_seed(inputs["seed_udf"])
    assert seed.hex() == inputs["ikm_hex"]
    target = curve(inputs.get("algorithm") or curve_of(seed))
    octets = derive_octets(seed, inputs["key_name"], target)
    assert octets.hex() == expected["private_seed_hex"]
    public = target.base.multiply(derive_key(seed, inputs["key_name"], target))
    assert public.encode().hex() == expected["public_key_hex"]
    assert udf_of(public) == expected["udf"]


@pytest.mark.parametrize(("inputs", "expected"), vectors("derive-activation"))
def test_activation(inputs: Any, expected: Any) -> None:
    target = curve(inputs["algorithm"])
    base = derive_key(parse_seed(inputs["base_seed_udf"]), inputs["base_key_name"], target)
    contribution = derive_key(
        parse_seed(inputs["activation_seed_udf"]), inputs["activation_key_name"], target
    )
    combined = (base + contribution) % target.order
    assert combined == int(expected["combined_scalar_hex_be"], 16)
    public = target.base.multiply(base) + target.base.multiply(contribution)
    assert public.encode().hex() == expected["public_key_hex"]
    assert udf_of(public) == expected["udf"]


@pytest.mark.parametrize(("inputs", "expected"), vectors("derivation-seed"))
def test_seed(inputs: Any, expected: Any) -> None:
    seed = bytes.fromhex(inputs["key_specifier_hex"] + inputs["seed_hex"])
    assert present_seed(seed) == expected["udf"]
    assert parse_seed(expected["udf"]) == seed


@pytest.mark.parametrize(("inputs", "expected"), vectors("presentation"))
def test_presentation(inputs: Any, expected: Any) -> None:
    udf = parse(inputs["text"])
    assert udf.type_id == expected["type_id"]
    assert bytes([udf.type_id]).hex() + udf.octets.hex() == expected["binary_sequence_hex"]
    assert udf.bits == 5 * expected["length_chars"]
    assert udf.text == inputs["text"]


@pytest.mark.parametrize(("inputs", "expected"), vectors("type-identifiers"))
def test_type_identifier(inputs: Any, expected: Any) -> None:
    for octet in range(256):
        text = present(inputs["type_id"], bytes([octet]) * 64)
        assert text[0] == expected["initial"]
    assert parse(text).type_id == inputs["type_id"]


def curve_of(seed: bytes) -> str:
    """The reference's own tests name the algorithm in the seed."""
    return {2: "X448", 3: ED25519.name, 4: ED448.name}[int.from_bytes(seed[:2], "big")]
