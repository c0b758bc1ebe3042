"""Published envelopes open, and published key derivations reproduce (dare §2)."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from mesh_hsm import udf
from mesh_hsm.curves import Point, curve
from mesh_hsm.custody import CustodyClass, CustodyStatement, Hardware
from mesh_hsm.dare import SignatureStatus, decode, inspect, verify
from mesh_hsm.dare.jsonb import binary
from mesh_hsm.dare.published_keys import (
    PresharedKey,
    kek,
    names,
    payload_keys,
    seed_kid,
    witness,
)
from mesh_hsm.dare.strict_json import b64url
from mesh_hsm.errors import DecryptionError
from mesh_hsm.provider import Use
from mesh_hsm.threshold import CompositeKey, ScalarShare
from mesh_hsm_software.legacy import EdwardsKey, edwards_key, montgomery_scalar

Vector = dict[str, Any]
VECTORS = Path(__file__).parent / "dare"
STATEMENT = CustodyStatement(CustodyClass.SOFTWARE, Hardware.NONE, device="published example")


def load(name: str, *, verified: bool = True) -> list[Any]:
    vectors = [
        one for one in json.loads((VECTORS / name).read_text()) if one["verified"] is verified
    ]
    assert vectors, f"no vectors in {name}"
    return [pytest.param(one, id=one["name"]) for one in vectors]


def private_key(key: dict[str, str]) -> EdwardsKey | CompositeKey:
    tagged: Any = {"PrivateKeyECDH": key}
    if key["crv"].startswith("Ed"):
        return edwards_key(tagged)
    share = ScalarShare(
        montgomery_scalar(tagged), Use.ENCRYPT, label="published", custody=STATEMENT
    )
    return CompositeKey(share.public, Use.ENCRYPT, [share])


def keys_of(inputs: Vector) -> list[Any]:
    if "earl_key_udf" in inputs:
        return [PresharedKey(udf.parse(inputs["earl_key_udf"]).octets)]
    return [private_key(inputs[name]) for name in ("recipient_private_key",) if name in inputs]


def public_key(key: dict[str, str]) -> Point:
    return curve(key["crv"]).decode(binary(key["Public"]))


def trusted_of(inputs: Vector) -> dict[bytes, Point]:
    if "signer_public_key" not in inputs:
        return {}
    point = public_key(inputs["signer_public_key"])
    return {udf.fingerprint(point).octets: point}


def source_of(inputs: Vector) -> BytesIO:
    return BytesIO(json.dumps(inputs["envelope"]).encode())


def plaintext_of(expected: Vector) -> bytes:
    if "plaintext" in expected:
        return str(expected["plaintext"]).encode()
    return bytes.fromhex(expected["plaintext_hex"])


@pytest.mark.parametrize("vector", load("envelopes.json"))
def test_a_published_envelope_opens_and_verifies(vector: Vector) -> None:
    inputs, sink = vector["inputs"], BytesIO()
    signed = "signer_public_key" in inputs
    report = decode(
        source_of(inputs),
        sink,
        keys=keys_of(inputs),
        trusted=trusted_of(inputs),
        allow_unauthenticated=not signed,
    )
    assert sink.getvalue() == plaintext_of(vector["expected"])
    assert not report.authenticated
    assert report.warnings
    if signed:
        assert [one.status for one in report.signers] == [SignatureStatus.HEADER_NOT_COVERED]
        assert verify(source_of(inputs), trusted_of(inputs)).signers == report.signers
    else:
        assert report.signers == ()


@pytest.mark.parametrize("vector", load("envelopes.json"))
def test_a_published_envelope_is_inspected_without_a_key(vector: Vector) -> None:
    header = vector["inputs"]["envelope"][0]
    report = inspect(source_of(vector["inputs"]))
    assert report.enc == header.get("enc", "none")
    assert list(report.recipients) == [one["kid"] for one in header.get("recipients", [])]
    assert all(one.status is SignatureStatus.NOT_CHECKED for one in report.signers)


@pytest.mark.parametrize("vector", load("envelopes.json", verified=False))
def test_an_envelope_printed_with_another_message_s_payload_does_not_open(vector: Vector) -> None:
    sink = BytesIO()
    with pytest.raises(DecryptionError):
        decode(
            source_of(vector["inputs"]),
            sink,
            keys=keys_of(vector["inputs"]),
            allow_unauthenticated=True,
        )
    assert sink.getvalue() == b""


@pytest.mark.parametrize("vector", load("envelopes.json"))
def test_intermediate_values_reproduce(vector: Vector) -> None:
    inputs, expected = vector["inputs"], vector["expected"]
    header = inputs["envelope"][0]
    for label, name in (
        ("recipient_kid_label", "recipient_private_key"),
        ("signer_kid_label", "signer_private_key"),
    ):
        if label in expected:
            key = private_key(inputs[name])
            place = header if name.startswith("recipient") else inputs["envelope"][2]
            entries = place["recipients" if name.startswith("recipient") else "signatures"]
            assert names(entries[0]["kid"], key.public)
            assert entries[0]["kid"] == udf.fingerprint(key.public, expected[label]).udf()
    if "kek_hex" in expected:
        Z = agreed(inputs, header["recipients"][0])
        if "agreement_hex" in expected:
            assert Z.hex() == expected["agreement_hex"]
        assert kek(Z, expected.get("kek_info", "").encode()).hex() == expected["kek_hex"]
    if "payload_key_hex" in expected:
        seed, salt = bytes.fromhex(expected["base_seed_hex"]), binary(header["Salt"])
        key_octets, iv = payload_keys(seed, salt)
        assert key_octets.hex() == expected["payload_key_hex"]
        assert iv.hex() == expected["payload_iv_hex"]
        assert (seed_kid(seed) == header.get("kid")) is expected.get(
            "header_kid_matches_seed", False
        )
        if "witness_hex" in expected:
            signature = binary(inputs["envelope"][2]["signatures"][0]["signature"])
            assert witness(seed, salt, signature).hex() == expected["witness_hex"]


def agreed(inputs: Vector, entry: Vector) -> bytes:
    (key,) = keys_of(inputs)
    if isinstance(key, PresharedKey):
        return key.octets
    (Z,) = key.agreements(public_key(entry["epk"]["PublicKeyECDH"]))
    return bytes(Z)


@pytest.mark.parametrize("vector", load("kdf.json"))
def test_a_published_key_derivation_reproduces(vector: Vector) -> None:
    inputs, expected = vector["inputs"], vector["expected"]
    if "kid" in expected:
        assert seed_kid(bytes.fromhex(inputs["base_seed_hex"])) == expected["kid"]
        return
    key = private_key(inputs["recipient_private_key"])
    (Z,) = key.agreements(public_key(inputs["epk"]["PublicKeyECDH"]))
    assert Z.hex() == expected["agreement_hex"]
    assert kek(Z, expected["kek_info"].encode()).hex() == expected["kek_hex"]
    seed, salt = bytes.fromhex(expected["base_seed_hex"]), bytes.fromhex(inputs["salt_hex"])
    octets = [one.hex() for one in payload_keys(seed, salt)]
    assert octets == [expected["payload_key_hex"], expected["payload_iv_hex"]]
    entry = {"epk": inputs["epk"], "wmk": _b64(inputs["wmk_hex"])}
    header = {"enc": "A256CBC", "Salt": _b64(inputs["salt_hex"]), "recipients": [entry]}
    sink = BytesIO()
    decode(
        BytesIO(json.dumps([header, _b64(inputs["ciphertext_hex"])]).encode()),
        sink,
        keys=[key],
        allow_unauthenticated=True,
    )
    assert sink.getvalue() == bytes.fromhex(expected["plaintext_hex"])


@pytest.mark.parametrize("vector", load("kdf.json", verified=False))
def test_the_ephemeral_key_printed_in_dare_12_is_not_the_message_s(vector: Vector) -> None:
    key = edwards_key({"PrivateKeyECDH": vector["inputs"]["ephemeral_private_key"]})
    assert key.public.encode() == binary(vector["expected"]["epk_public_computed"])
    assert key.public.encode() != binary(vector["expected"]["epk_public_in_message"])


@pytest.mark.parametrize(
    "vector", [one for one in load("envelopes.json") if "signed" in str(one.id)]
)
def test_a_published_signature_is_made_again(vector: Vector) -> None:
    # RFC 8032 signatures are deterministic: the same key and digest give the same octets.
    inputs, expected = vector["inputs"], vector["expected"]
    key = edwards_key({"PrivateKeyECDH": inputs["signer_private_key"]})
    assert key.public == public_key(inputs["signer_public_key"])
    made = key.sign_ed25519ctx(bytes.fromhex(expected["payload_digest_hex"]))
    assert made == binary(inputs["envelope"][2]["signatures"][0]["signature"])


def _b64(hexadecimal: str) -> str:
    return b64url(bytes.fromhex(hexadecimal))
