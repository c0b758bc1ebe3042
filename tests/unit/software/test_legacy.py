"""Private keys of older published data: the same points, the same signatures, no new freedom."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh_hsm.curves import (
    ED448,
    ED25519,
    P256,
    X448,
    X25519,
    Curve,
    curve,
    verify_ed25519ctx,
    verify_prehashed,
)
from mesh_hsm.dare.strict_json import b64url
from mesh_hsm.errors import (
    DeviceError,
    FormatError,
    InvalidPointError,
    MeshHsmError,
    ProviderUnavailableError,
    UnsupportedError,
)
from mesh_hsm_software import legacy
from mesh_hsm_software.legacy import EdwardsKey, edwards_key, montgomery_scalar

VECTORS = Path(__file__).parents[2] / "vectors" / "threshold"
SIZES = [(ED25519, 32), (ED448, 56), (ED448, 57)]


def vectors(name: str, kind: str) -> list[Any]:
    found = [
        one
        for one in json.loads((VECTORS / name).read_text())
        if one["kind"] == kind and one["verified"]
    ]
    assert found, f"no vectors of kind {kind} in {name}"
    return [pytest.param(one, id=f"{one['name']}-{at}") for at, one in enumerate(found)]


def tagged(crv: str, octets: bytes) -> dict[str, Any]:
    return {"PrivateKeyECDH": {"crv": crv, "Private": b64url(octets)}}


@pytest.mark.parametrize(
    "vector",
    vectors("published-keygen.json", "keypair")
    + vectors("published-mesh-keys.json", "account-private-key")
    + vectors("published-mesh-keys.json", "profile-device-key"),
)
def test_published_private_octets_give_the_published_point(vector: dict[str, Any]) -> None:
    inputs, expected = vector["inputs"], vector["expected"]
    private = bytes.fromhex(inputs.get("private") or expected["private"])
    named = tagged(inputs["algorithm"], private)
    if inputs["algorithm"].startswith("Ed"):
        public = edwards_key(named).public
    else:
        public = montgomery_scalar(named).public()
    assert public.encode().hex() == expected["public"]


@pytest.mark.parametrize("vector", vectors("published-mesh-keys.json", "raw-share"))
def test_a_raw_share_is_neither_clamped_nor_hashed(vector: dict[str, Any]) -> None:
    inputs, expected = vector["inputs"], vector["expected"]
    share = montgomery_scalar(tagged(inputs["crv"], bytes.fromhex(inputs["private"])))
    assert share.value == int(expected["scalar"])
    assert share.public().encode().hex() == expected["share_public_signed"]


@settings(max_examples=20, deadline=None)
@given(st.binary(min_size=57, max_size=57), st.binary(max_size=200))
def test_signatures_of_rfc_8032_are_those_of_another_library(seed: bytes, message: bytes) -> None:
    ed448 = Ed448PrivateKey.from_private_bytes(seed)
    assert EdwardsKey(ED448, seed).sign(message) == ed448.sign(message)
    ed25519 = Ed25519PrivateKey.from_private_bytes(seed[:32])
    assert EdwardsKey(ED25519, seed[:32]).sign(message) == ed25519.sign(message)


def test_a_seed_of_56_octets_is_hashed_without_padding() -> None:
    seed = bytes(range(56))
    short, padded = EdwardsKey(ED448, seed), EdwardsKey(ED448, seed + b"\0")
    assert short.public != padded.public
    assert verify_prehashed(short.public, b"message", short.sign(b"message"))


def test_the_context_tells_published_signatures_from_plain_ones() -> None:
    key = EdwardsKey(ED25519, bytes(range(32)))
    signature = key.sign_ed25519ctx(b"digest")
    assert verify_ed25519ctx(key.public, b"digest", signature)
    assert not verify_prehashed(key.public, b"digest", signature)
    assert not verify_ed25519ctx(key.public, b"digest", key.sign(b"digest"))


def test_nonces_differ_with_message_and_key() -> None:
    # One R under two messages, or one that needs no secret, gives the scalar away (threshold §3).
    one, other = EdwardsKey(ED25519, bytes(32)), EdwardsKey(ED25519, bytes([1] * 32))
    signatures = [one.sign(b"a"), one.sign(b"b"), one.sign_ed25519ctx(b"a"), other.sign(b"a")]
    assert len({signature[:32] for signature in signatures}) == len(signatures)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(SIZES), st.integers(min_value=1, max_value=2**200), st.data())
def test_both_sides_agree_and_torsion_does_not_get_through(
    form: tuple[Curve, int], e: int, data: st.DataObject
) -> None:
    group, size = form
    key = EdwardsKey(group, data.draw(st.binary(min_size=size, max_size=size)))
    E = group.base.multiply(e)
    (Z,) = key.agreements(E)
    assert key.public.multiply(e).agreement_octets() == Z
    T = group.point(0, group.field_prime - 1)  # of order 2
    assert list(key.agreements(E + T)) == [Z]


HOSTILE_POINTS = {
    "neutral": lambda: ED25519.neutral,
    "order 2": lambda: ED25519.point(0, ED25519.field_prime - 1),
    "another Edwards curve": lambda: ED448.base,
    "its Montgomery form": lambda: X25519.base,
}


@pytest.mark.parametrize("name", HOSTILE_POINTS)
def test_hostile_points_never_meet_the_scalar(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    key = EdwardsKey(ED25519, bytes(32))
    monkeypatch.setattr(legacy, "_multiply", lambda k, S: pytest.fail("it was multiplied"))
    with pytest.raises(InvalidPointError):
        list(key.agreements(HOSTILE_POINTS[name]()))


HOSTILE_KEYS: dict[str, tuple[Any, type[MeshHsmError]]] = {
    "31 octets of Ed25519": (tagged("Ed25519", bytes(31)), FormatError),
    "57 octets of Ed25519": (tagged("Ed25519", bytes(57)), FormatError),
    "no octets of Ed448": (tagged("Ed448", b""), FormatError),
    "58 octets of Ed448": (tagged("Ed448", bytes(58)), FormatError),
    "a raw Edwards scalar": (tagged("Ed448z", bytes(56)), UnsupportedError),
    "a NIST key": (tagged("P-256", bytes(32)), UnsupportedError),
    "no known curve": (tagged("Ed123", bytes(32)), FormatError),
    "a curve that is no text": ({"PrivateKeyECDH": {"crv": 3, "Private": "AA"}}, FormatError),
    "no octets at all": ({"PrivateKeyECDH": {"crv": "Ed25519"}}, FormatError),
    "another tag": ({"PublicKeyECDH": {"crv": "Ed25519", "Private": "AA"}}, FormatError),
    "two tags": (tagged("Ed25519", bytes(32)) | {"PublicKeyECDH": {}}, FormatError),
    "not an object": ({"PrivateKeyECDH": []}, FormatError),
}


@pytest.mark.parametrize("name", HOSTILE_KEYS)
def test_hostile_edwards_keys(name: str) -> None:
    given_key, error = HOSTILE_KEYS[name]
    with pytest.raises(error):
        edwards_key(given_key)


HOSTILE_SCALARS: dict[str, tuple[Any, type[MeshHsmError]]] = {
    "an Edwards key": (tagged("Ed25519", bytes(32)), UnsupportedError),
    "a raw NIST scalar": (tagged("P-256z", bytes(32)), UnsupportedError),
    "55 octets of X448": (tagged("X448", bytes(55)), FormatError),
    "33 octets of X25519": (tagged("X25519", bytes(33)), FormatError),
    "a raw scalar of zero": (tagged("X448z", bytes(56)), FormatError),
    "a raw scalar n": (tagged("X448z", X448.order.to_bytes(56, "little")), FormatError),
    "a short raw scalar": (tagged("X448z", bytes(55)), FormatError),
}


@pytest.mark.parametrize("name", HOSTILE_SCALARS)
def test_hostile_montgomery_scalars(name: str) -> None:
    given_key, error = HOSTILE_SCALARS[name]
    with pytest.raises(error):
        montgomery_scalar(given_key)


def test_a_curve_without_seeds_is_refused() -> None:
    with pytest.raises(UnsupportedError):
        EdwardsKey(P256, bytes(32))


def test_only_ed25519_has_the_empty_context(monkeypatch: pytest.MonkeyPatch) -> None:
    key = EdwardsKey(ED448, bytes(56))
    monkeypatch.setattr(legacy, "_multiply", lambda k, S: pytest.fail("it was multiplied"))
    with pytest.raises(UnsupportedError):
        key.sign_ed25519ctx(b"digest")


@pytest.mark.parametrize("operation", ["sign", "sign_ed25519ctx"])
def test_a_faulty_signature_is_not_released(
    operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = EdwardsKey(ED25519, bytes(32))
    honest = legacy._multiply
    monkeypatch.setattr(legacy, "_multiply", lambda k, S: honest(k + 1, S))
    with pytest.raises(DeviceError):
        getattr(key, operation)(b"message")


def test_without_the_library_the_hint_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    imported = builtins.__import__

    def absent(name: str, *args: Any, **named: Any) -> Any:
        if name.startswith("Cryptodome"):
            raise ImportError(name)
        return imported(name, *args, **named)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ProviderUnavailableError) as raised:
        EdwardsKey(ED25519, bytes(32))
    assert raised.value.hint == "pip install 'mesh-hsm[legacy]'"


def test_no_secret_in_repr() -> None:
    key = EdwardsKey(ED25519, bytes(range(32)))
    assert repr(key) == f"EdwardsKey({key.public!r})"
    assert curve("Ed25519").name in repr(key)
