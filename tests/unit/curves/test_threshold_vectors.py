"""Published and computed vectors, as far as they concern points, scalars and recovery."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x448 import X448PrivateKey

from mesh_hsm.curves import (
    ED25519,
    X448,
    X25519,
    Curve,
    Point,
    SecretScalar,
    XOnly,
    curve,
    recover,
    verify_ed25519ctx,
    verify_prehashed,
)
from mesh_hsm.errors import InvalidPointError

FOLDER = Path(__file__).parents[2] / "vectors" / "threshold"
NAMES = {"curve25519": "X25519", "curve448": "X448"}
Vector = dict[str, Any]


def vectors(kind: str, *files: str, having: str = "", algorithm: str = "") -> list[Any]:
    """Records of a kind that the vectors call verified; none at all is an error.

    Where asked for, only those with a certain expected member or of one algorithm.
    """
    found = [
        pytest.param(record, id=f"{file}: {record['name']} ({index})")
        for file in files
        for index, record in enumerate(json.loads((FOLDER / f"{file}.json").read_text()))
        if record["kind"] == kind and record["verified"]
        if not having or having in record["expected"]
        if not algorithm or record["inputs"]["algorithm"] == algorithm
    ]
    if not found:
        raise LookupError(f"no {kind} in {files}")
    return found


def curve_of(vector: Vector) -> Curve:
    name = vector["inputs"].get("algorithm") or vector["inputs"]["curve"]
    return curve(NAMES.get(name, name))


def point(on: Curve, coordinates: dict[str, str]) -> Point:
    x, y = (int(coordinates[c]) for c in (("u", "v") if "u" in coordinates else ("x", "y")))
    return on.point(x, y)


def encodings(P: Point) -> set[str]:
    """The signed form, and on Montgomery curves the plain one that older records print."""
    return {P.encode().hex(), P.agreement_octets().hex()}


PUBLISHED = ("published-keygen", "published-decryption", "published-signature")


@pytest.mark.parametrize("vector", vectors("keypair", *PUBLISHED, having="public"))
def test_public_point_of_a_secret_scalar(vector: Vector) -> None:
    on, expected = curve_of(vector), vector["expected"]
    P = on.base.multiply(int(expected["scalar"]))
    if {"u", "x"} & expected.keys():
        assert point(on, expected) == P
    assert expected["public"] in encodings(P)
    if on.family == "montgomery":
        assert SecretScalar(on, int(expected["scalar"]) % on.order).public() == P


@pytest.mark.parametrize("vector", vectors("cogeneration", *PUBLISHED, "computed-cogeneration"))
def test_composite_is_the_sum(vector: Vector) -> None:
    on, inputs, expected = curve_of(vector), vector["inputs"], vector["expected"]
    listed = inputs.get("scalars") or [v for k, v in inputs.items() if k.startswith("scalar_")]
    scalars = [int(s) for s in listed]
    publics = [on.base.multiply(s) for s in scalars]
    total = publics[0]
    for P in publics[1:]:
        total += P
    octets = expected.get("scalar_octets") or expected["encoded_scalar"]
    assert on.scalar(bytes.fromhex(octets)) == sum(scalars) % on.order == int(expected["scalar"])
    for P, octets in zip(publics, inputs.get("public", ()), strict=False):
        assert on.decode(bytes.fromhex(octets)) == P
    composite = next(
        expected[k] for k in ("composite_public", "public_signed", "public") if k in expected
    )
    assert total.encode().hex() == composite
    if "public_unsigned" in expected:
        assert total.agreement_octets().hex() == expected["public_unsigned"]


@pytest.mark.parametrize("vector", vectors("split-decrypt", "computed-cogeneration"))
def test_contributions_are_multiples_of_the_ephemeral(vector: Vector) -> None:
    on, inputs, expected = curve_of(vector), vector["inputs"], vector["expected"]
    S = on.decode(bytes.fromhex(inputs["ephemeral_public"]))
    parts = [S.multiply(int(share)) for share in inputs["shares"]]
    assert [part.encode().hex() for part in parts] == expected["contributions"]
    assert sum(parts[1:], start=parts[0]).encode().hex() == expected["sum"]
    if on.family != "edwards":
        again = [SecretScalar(on, int(share) % on.order).times(S) for share in inputs["shares"]]
        assert again == parts


@pytest.mark.parametrize("vector", vectors("hardware-share", "computed-hardware-share"))
def test_x_only_hardware_share(vector: Vector) -> None:
    on, inputs, expected = curve_of(vector), vector["inputs"], vector["expected"]
    S, X = point(on, inputs["S"]), point(on, inputs["device_public"])
    x1 = XOnly(on, int(expected["device_x_of_xS"]))
    x3 = XOnly(on, int(expected["device_x_of_x_S_plus_G"]))
    for answer in (x1, x3):
        answer.check_answer()

    xS = recover(X, x1, x3)
    assert xS == point(on, expected["recovered_xS"])
    yS = SecretScalar(on, int(inputs["software_scalar"])).times(S)
    assert yS == point(on, expected["software_yS"])
    assert (xS + yS).x == int(expected["agreement_additive"])
    assert (xS + yS).agreement_octets().hex() == expected["agreement_additive_octets"]
    candidates = {(lift + yS).x for lift in x1.lifts()}
    assert candidates == {int(c) for c in expected["candidates_additive"]}

    # The device's own key as a software share gives the same answers.
    device = SecretScalar(on, int(inputs["device_secret_for_checking"]) % on.order)
    assert device.public() in (X, -X)
    assert device.x_of(S) == x1
    assert device.x_of(S + on.base) in (x3, XOnly(on, (xS - X).x))


LOW_ORDER = [
    pytest.param(curve_of(v.values[0]), int(u), id=f"{curve_of(v.values[0])} {u[:12]}")
    for v in vectors("statistics", "computed-hardware-share")
    for u in v.values[0]["inputs"].get("low_order_u", ())
]


@pytest.mark.parametrize(("on", "u"), LOW_ORDER)
def test_low_order_u_never_reaches_a_device(on: Curve, u: int) -> None:
    octets = u.to_bytes(on.field_size, "little")
    for sign in (b"\x00", b"\x80"):
        with pytest.raises(InvalidPointError):
            on.decode(octets + sign).check_foreign()
    with pytest.raises(InvalidPointError):
        on.decode_x(octets).check_foreign()
    with pytest.raises(InvalidPointError):
        XOnly(on, u).check_answer()


def test_low_order_u_were_found() -> None:
    assert len(LOW_ORDER) == 4  # all of X25519; X448's are made by arithmetic in test_points


@pytest.mark.parametrize("vector", vectors("raw-share", "published-mesh-keys"))
def test_published_raw_share(vector: Vector) -> None:
    raw = X448.scalar(bytes.fromhex(vector["inputs"]["private"]))
    assert raw == int(vector["expected"]["scalar"])
    public = SecretScalar(X448, raw).public()
    assert public.encode().hex() == vector["expected"]["share_public_signed"]
    # An ordinary X448 key object clamps it into another key: why raw scalars are marked.
    clamped = X448PrivateKey.from_private_bytes(X448.scalar_octets(raw)).public_key()
    assert clamped.public_bytes_raw() != public.agreement_octets()


@pytest.mark.parametrize(
    "vector", vectors("account-private-key", "published-mesh-keys", algorithm="X448")
)
def test_published_account_keys(vector: Vector) -> None:
    octets = bytearray.fromhex(vector["inputs"]["private"])
    octets[0] &= 252
    octets[55] |= 128
    public = SecretScalar(X448, int.from_bytes(octets, "little") % X448.order).public()
    assert public.encode().hex() == vector["expected"]["public"]


@pytest.mark.parametrize("vector", vectors("threshold-signature-ctx", "published-signature"))
def test_published_ed25519ctx_signature(vector: Vector) -> None:
    public = ED25519.decode(bytes.fromhex(vector["inputs"]["aggregate_public"]))
    message = vector["inputs"]["message_utf8"].encode()
    signature = bytes.fromhex(vector["expected"]["signature"])
    assert verify_ed25519ctx(public, message, signature, vector["inputs"]["context"].encode())
    assert not verify_ed25519ctx(public, message + b".", signature)
    assert not verify_prehashed(public, message, signature)


@pytest.mark.parametrize("vector", vectors("threshold-signature-corrected", "published-signature"))
def test_corrected_eddsa_signature(vector: Vector) -> None:
    on = curve_of(vector)
    public = on.decode(bytes.fromhex(vector["inputs"]["aggregate_public"]))
    message = vector["inputs"]["message_utf8"].encode()
    signature = bytes.fromhex(vector["expected"]["signature"])
    assert verify_prehashed(public, message, signature)
    assert not verify_prehashed(public, message + b".", signature)


@pytest.mark.parametrize("vector", vectors("ecdsa-multiplicative", "computed-ecdsa-multiplicative"))
def test_ecdsa_public_points(vector: Vector) -> None:
    on, inputs, expected = curve_of(vector), vector["inputs"], vector["expected"]
    X = SecretScalar(on, int(inputs["x"])).public()
    assert X.encode().hex() == expected["device_public"]
    Z = SecretScalar(on, int(inputs["y"])).times(X)
    assert Z.encode().hex() == expected["composite_public"]


def test_base_point_signs() -> None:
    # udf §6: the sign convention, from the base points of RFC 7748.
    assert X25519.base.is_odd
    assert not X448.base.is_odd
