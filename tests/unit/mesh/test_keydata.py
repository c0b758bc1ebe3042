"""Keys on the wire and keys confirmed by people."""

from __future__ import annotations

from typing import Any

import pytest

from mesh_hsm.curves import CURVES, P256, P384, X448, X25519, Point, curve
from mesh_hsm.dare.strict_json import b64url
from mesh_hsm.errors import (
    FormatError,
    InvalidPointError,
    MeshHsmError,
    UnsupportedError,
    VerificationError,
)
from mesh_hsm.mesh import KeyData, confirm
from mesh_hsm.mesh.keydata import check_distinct, read_keys
from mesh_hsm.mesh.wire import Members
from mesh_hsm.provider import Use
from mesh_hsm.udf import fingerprint, udf_of

USES = {"edwards": Use.SIGN, "montgomery": Use.ENCRYPT, "weierstrass": Use.AUTHENTICATE}


def key_json(crv: str, octets: bytes, udf: str) -> dict[str, Any]:
    return {
        "Udf": udf,
        "PublicParameters": {"PublicKeyECDH": {"crv": crv, "Public": b64url(octets)}},
    }


@pytest.mark.parametrize("name", CURVES)
def test_every_curve_reads_back(name: str) -> None:
    key = KeyData(CURVES[name].base.multiply(12345))
    assert KeyData.from_json(key.to_json(), "Key", USES[CURVES[name].family]) == key
    assert key.to_json()["Udf"] == udf_of(key.public)


B = P384.base.encode()
GOOD = udf_of(P384.base)
SMALL_ORDER = bytes(57)
TORSION = X448.base + X448.decode(SMALL_ORDER)

BAD: dict[str, tuple[Any, type[MeshHsmError]]] = {
    "not an object": ([], FormatError),
    "no parameters": ({"Udf": GOOD}, FormatError),
    "no Udf": ({**key_json("P-384", B, GOOD), "Udf": ""}, FormatError),
    "another Udf": (key_json("P-384", B, udf_of(P256.base)), VerificationError),
    "Udf in lower case": (key_json("P-384", B, GOOD.lower()), VerificationError),
    "unknown curve": (key_json("P-224", B, GOOD), UnsupportedError),
    "curve of another key": (key_json("P-256", B, GOOD), FormatError),
    "truncated": (key_json("P-384", B[:-1], GOOD), FormatError),
    "oversized": (key_json("P-384", B + b"\0", GOOD), FormatError),
    "empty": (key_json("P-384", b"", GOOD), FormatError),
    "off the curve": (key_json("P-384", B[:-1] + bytes([B[-1] ^ 1]), GOOD), InvalidPointError),
    "compressed": (key_json("P-384", bytes([2 + (B[-1] & 1)]) + B[1:49], GOOD), FormatError),
    "X25519 without sign": (
        key_json("X25519", X25519.base.encode()[:32], udf_of(X25519.base)),
        FormatError,
    ),
    "small order": (key_json("X448", SMALL_ORDER, GOOD), InvalidPointError),
    "torsion": (key_json("X448", TORSION.encode(), udf_of(TORSION)), InvalidPointError),
    "Edwards key that should agree": (
        key_json("Ed448", CURVES["Ed448"].base.encode(), udf_of(CURVES["Ed448"].base)),
        UnsupportedError,
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_keys(name: str) -> None:
    value, error = BAD[name]
    with pytest.raises(error):
        KeyData.from_json(value, "Key", Use.ENCRYPT)


def test_an_agreement_key_does_not_sign() -> None:
    with pytest.raises(UnsupportedError):
        KeyData.from_json(KeyData(X448.base).to_json(), "Key", Use.SIGN)


def test_a_list_of_keys_may_be_one_key() -> None:
    one, two = KeyData(P384.base), KeyData(P256.base)
    members = Members({"A": one.to_json(), "B": [one.to_json(), two.to_json()], "C": []}, "X")
    assert read_keys(members, "A", Use.SIGN) == (P384.base,)
    assert read_keys(members, "B", Use.SIGN) == (P384.base, P256.base)
    assert read_keys(members, "C", Use.SIGN) == ()


def test_a_list_without_end_is_refused_before_its_points_are_read() -> None:
    one = key_json("P-384", b"", GOOD)
    with pytest.raises(FormatError, match="at most 64"):
        read_keys(Members({"A": [one] * 65}, "X"), "A", Use.SIGN)


def test_one_key_in_two_roles() -> None:
    check_distinct([P384.base, P256.base], "X")
    with pytest.raises(FormatError, match="two roles"):
        check_distinct([P384.base, P256.base, curve("P-384").base], "X")


@pytest.fixture
def public() -> Point:
    return P384.base.multiply(7)


def test_a_udf_is_confirmed_however_it_is_typed(public: Point) -> None:
    shown = udf_of(public)
    for typed in (
        shown,
        shown.lower(),
        shown.replace("-", ""),
        f"  {shown.replace('-', ' ')}\n",
        fingerprint(public).udf(200),
        fingerprint(public).udf(440),
    ):
        confirm(typed, public)


def test_what_does_not_confirm_a_udf(public: Point) -> None:
    shown = udf_of(public)
    for short in ("", "M", shown[:-1], shown[:4]):
        with pytest.raises(FormatError, match="28 characters"):
            confirm(short, public)
    last = "A" if shown[-1] != "A" else "B"
    longer = fingerprint(public).udf(200)
    for other in (shown[:-1] + last, udf_of(P384.base), longer[:-1] + last, shown + "AAAA"):
        with pytest.raises(VerificationError, match=shown):
            confirm(other, public)
    with pytest.raises(FormatError):
        confirm(shown[:-1] + "!", public)
