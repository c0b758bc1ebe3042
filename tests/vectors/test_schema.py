"""Published Mesh objects: read, verified, and their activations reproduced."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from mesh_hsm import dare
from mesh_hsm.curves import ED448, X448, X25519, Point, SecretScalar, curve
from mesh_hsm.dare.jsonb import binary
from mesh_hsm.dare.strict_json import b64url, compact
from mesh_hsm.errors import FormatError, MeshHsmError, VerificationError
from mesh_hsm.mesh import open_published_profile, read_published
from mesh_hsm.mesh.contribution import NAMES, contribution
from mesh_hsm.provider import Use
from mesh_hsm.udf import OLDER_CONTENT_TYPES, derive_key, fingerprint, parse_seed, udf_of

FOLDER = Path(__file__).parent / "schema"
MEMBERS = {Use.ENCRYPT: "Encryption", Use.SIGN: "Signature", Use.AUTHENTICATE: "Authentication"}


def vectors(name: str, prefix: str = "") -> list[Any]:
    records = [
        one
        for one in json.loads((FOLDER / f"{name}.json").read_text())
        if one["name"].startswith(prefix)
    ]
    assert records, f"no vectors {prefix} in {name}"
    return [pytest.param(one["inputs"], one["expected"], id=one["name"]) for one in records]


def b64(text: str) -> bytes:
    return binary(text)


def private_scalar(crv: str, octets: bytes) -> int:
    """56 private octets as published: clamped, after SHAKE256 for Ed448 (schema §4)."""
    if crv == "Ed448":
        octets = hashlib.shake_256(octets).digest(56)
    number = int.from_bytes(octets, "little")
    return (number & ~3 & ((1 << 447) - 1) | (1 << 447)) % X448.order


@pytest.mark.parametrize(("inputs", "expected"), vectors("activation", "keypair-"))
def test_published_key_pair(inputs: Any, expected: Any) -> None:
    scalar = private_scalar(inputs["crv"], b64(inputs["Private"]))
    if inputs["crv"] == "X448":
        public = SecretScalar(X448, scalar).public()
    else:
        public = curve(inputs["crv"]).base.multiply(scalar)  # published, hence no secret
    assert public.encode() == b64(expected["Public"])
    assert udf_of(public) == expected["udf"]


@pytest.mark.parametrize(("inputs", "expected"), vectors("activation", "activation-alice"))
def test_published_activation_from_a_seed(inputs: Any, expected: Any) -> None:
    device = read_published(compact({"ProfileDevice": inputs["ProfileDevice"]}))
    connection = read_published(compact({"ConnectionDevice": expected["ConnectionDevice"]}))
    seed = parse_seed(inputs["ActivationKey"])
    for use, member in MEMBERS.items():
        base = device.key(member)
        if base.curve is ED448:
            # Our devices do not sign by sums; the seed is published, so this is no secret either.
            y = derive_key(seed, NAMES[use], ED448)
            composite = base + ED448.base.multiply(y)
        else:
            composite = base + contribution(seed, use, base.curve).public()
        assert composite == connection.key(member)
        assert composite.encode() == b64(expected["derived"][member]["composite_public"])
        assert udf_of(composite) == expected["derived"][member]["composite_udf"]


@pytest.mark.parametrize(("inputs", "expected"), vectors("activation", "activation-account"))
def test_published_activation_by_overlay_keys(inputs: Any, expected: Any) -> None:
    for member, derived in expected["derived"].items():
        entry = inputs["ActivationAccount"][member]
        overlay = b64(entry["Overlay"]["PrivateKeyECDH"]["Private"])
        base = ED448.decode(b64(derived["base_public"]))
        composite = base + ED448.base.multiply(private_scalar("Ed448", overlay))
        assert composite.encode() == b64(derived["composite_public"])
        older = OLDER_CONTENT_TYPES[0]
        assert fingerprint(base, older).udf() == entry["BaseUDF"]
        assert fingerprint(composite, older).udf() == entry["UDF"] == derived["composite_udf"]


PROFILES = vectors("signed_assertions", "ProfileDevice") + vectors(
    "signed_assertions", "ProfileMesh"
)


@pytest.mark.parametrize(("inputs", "expected"), PROFILES)
def test_published_profile_is_signed_by_its_own_key(inputs: Any, expected: Any) -> None:
    profile = open_published_profile(inputs["envelope"])
    public = profile.key("ProfileSignature")
    names = [fingerprint(public, one).udf() for one in ("PKIXKey", OLDER_CONTENT_TYPES[0])]
    assert expected["signer_udf"] in names
    assert profile.tag == {"ProfileMesh": "ProfileMaster"}.get(
        expected["object_type"], expected["object_type"]
    )


@pytest.mark.parametrize(("inputs", "expected"), PROFILES)
def test_an_altered_published_profile_is_refused(inputs: Any, expected: Any) -> None:
    header, payload, trailer = inputs["envelope"]
    octets = dare.peek_payload(inputs["envelope"])
    with pytest.raises(VerificationError):
        open_published_profile([header, b64url(octets + b" "), trailer])
    for unsigned in ({}, {"signatures": []}):
        with pytest.raises(MeshHsmError):
            open_published_profile([header, payload, unsigned])


@pytest.mark.parametrize(("inputs", "expected"), vectors("signed_assertions", "ConnectionDevice"))
def test_published_connections_are_read(inputs: Any, expected: Any) -> None:
    connection = read_published(dare.peek_payload(inputs["envelope"]))
    members = expected["payload"]["ConnectionDevice"]
    for member in MEMBERS.values():
        alias = member if member in members else f"Device{member}"
        parameters = members[alias]["PublicParameters"]["PublicKeyECDH"]
        assert connection.key(member).encode() == b64(parameters["Public"])


@pytest.mark.parametrize(("inputs", "expected"), vectors("seed_derivation"))
def test_device_keys_from_a_published_seed(inputs: Any, expected: Any) -> None:
    seed = parse_seed(inputs["seed_udf"])
    for key in expected.values():
        on = curve(key["crv"])
        public: Point = on.base.multiply(derive_key(seed, key["key_name"], on))
        assert public.encode() == b64(key["public"])
        assert udf_of(public) == key["udf"]


def key_json(udf: str, name: str = "Udf") -> dict[str, Any]:
    octets = ED448.base.encode()
    parameters = {"PublicKeyECDH": {"crv": "Ed448", "Public": b64url(octets)}}
    return {name: udf, "PublicParameters": parameters}


GOOD = udf_of(ED448.base)
BAD: dict[str, tuple[Any, type[MeshHsmError]]] = {
    "not an object": ([], FormatError),
    "two tags": ({"ProfileDevice": {}, "ProfileMesh": {}}, FormatError),
    "no tag": ({}, FormatError),
    "unknown tag": ({"ProfileUnheardOf": {}}, FormatError),
    "key without UDF": ({"ProfileMesh": {"KeyEncryption": {}}}, FormatError),
    "another UDF": (
        {"ProfileMesh": {"KeyEncryption": key_json(udf_of(X448.base))}},
        VerificationError,
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_published_objects(name: str) -> None:
    value, error = BAD[name]
    with pytest.raises(error):
        read_published(compact(value))


def test_a_key_is_named_by_any_content_type_ever_published() -> None:
    for content_type in ("PKIXKey", *OLDER_CONTENT_TYPES):
        udf = fingerprint(ED448.base, content_type).udf()
        for name in ("Udf", "UDF"):
            value = {"ProfileMesh": {"KeysOnlineSignature": [key_json(udf, name)]}}
            read = read_published(compact(value))
            assert read.tag == "ProfileMaster"
            assert read.key("AdministratorSignature") == ED448.base


def test_x25519_keys_come_without_sign() -> None:
    octets = X25519.base.encode()[:32]
    parameters = {"PublicKeyECDH": {"crv": "X25519", "Public": b64url(octets)}}
    key = {"Udf": udf_of(X25519.base), "PublicParameters": parameters}
    read = read_published(compact({"ProfileDevice": {"Encryption": key}}))
    assert read.key("Encryption") in (X25519.base, -X25519.base)


def test_one_key_is_not_several() -> None:
    two = [key_json(GOOD), key_json(GOOD)]
    read = read_published(compact({"ProfileMesh": {"KeysMasterEscrow": two}}))
    with pytest.raises(FormatError, match="2 keys"):
        read.key("EscrowEncryption")
    with pytest.raises(FormatError, match="0 keys"):
        read.key("Encryption")
