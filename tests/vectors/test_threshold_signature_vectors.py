"""Every verified vector of signatures and of the scalars they are weighted with, by kind.

threshold §5 (EdDSA of several parties, by public arithmetic only: none is made here) and §7
(derived ECDSA). ``test_threshold_vectors.py`` counts that no kind falls between the two files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mesh_hsm.curves import (
    CURVES,
    ED25519,
    Curve,
    Point,
    SecretScalar,
    verify_ed25519ctx,
    verify_prehashed,
)
from mesh_hsm.threshold import combine, derive_public
from mesh_hsm.threshold.derived import device_digest, finish
from mesh_hsm.threshold.lagrange import coefficients, evaluate

FILES = sorted((Path(__file__).parent / "threshold").glob("*.json"))
Members = dict[str, Any]


def curve_of(i: Members) -> Curve:
    return CURVES[i.get("algorithm") or i["curve"]]


def ecdsa_multiplicative(i: Members, e: Members) -> None:
    curve = curve_of(i)
    digest = _hash(i["hash"], bytes.fromhex(i["message"]))
    y = int(i["y"])
    X, Z = (curve.decode(bytes.fromhex(e[f"{name}_public"])) for name in ("device", "composite"))
    assert SecretScalar(curve, int(i["x"])).public() == X
    assert derive_public(X, SecretScalar(curve, y)) == Z
    assert int.from_bytes(digest, "big") % curve.order == int(e["e"]) % curve.order
    octets = device_digest(curve, digest, y)
    assert octets.hex() == e["device_digest_octets"]
    shift = 8 * curve.scalar_size - curve.order.bit_length()
    assert int.from_bytes(octets, "big") >> shift == int(e["e_prime"])
    signature = finish(curve, _rs(curve, e["r"], e["s_prime"]), y)
    s = int(e["s"])
    assert signature == _rs(curve, e["r"], min(s, curve.order - s))
    assert verify_prehashed(Z, digest, signature)
    assert not verify_prehashed(X, digest, signature)


def related_key_attack(i: Members, e: Members) -> None:
    """The attack itself is sound, and the binding of hsm-1 §3 is what stops it."""
    curve, n = curve_of(i), curve_of(i).order
    X = curve.decode(bytes.fromhex(e["device_public"]))
    assert SecretScalar(curve, int(i["x"])).public() == X
    e_values = []
    for j, name in (("1", "signature_1"), ("2", "transferred_signature_2")):
        Z = curve.decode(bytes.fromhex(e[f"composite_public_{j}"]))
        assert derive_public(X, SecretScalar(curve, int(i[f"y_{j}"]))) == Z
        digest = _hash(i["hash"], i[f"message_{j}_utf8"].encode())
        assert verify_prehashed(Z, digest, _rs(curve, e[name]["r"], e[name]["s"]))
        bound = _hash(i["hash"], Z.encode() + i[f"message_{j}_utf8"].encode())
        assert not verify_prehashed(Z, bound, _rs(curve, e[name]["r"], e[name]["s"]))
        e_values.append(int.from_bytes(digest, "big"))
    moved = int(e["signature_1"]["s"]) * e_values[1] * pow(e_values[0], -1, n) % n
    assert moved == int(e["transferred_signature_2"]["s"])


def lagrange(i: Members, e: Members) -> None:
    curve = curve_of(i)
    indices, shares = ([int(v) for v in i[name]] for name in ("x", "y"))
    weights = coefficients(curve, indices)
    assert [weights[x] for x in indices] == [int(v) for v in e["l"]]
    weighted = [weights[x] * y % curve.order for x, y in zip(indices, shares, strict=True)]
    assert weighted == [int(v) for v in e["weighted"]]


def shamir_shares(i: Members, e: Members) -> None:
    curve = curve_of(i)
    polynomial = [int(i["a0"]), int(i["a1"])]
    assert [evaluate(curve, polynomial, int(x)) for x in i["x"]] == [int(y) for y in e["y"]]


def check_point(i: Members, e: Members) -> None:
    """S·B as printed; until SIG-05 the Shamir examples print another number in place of y."""
    point = curve_of(i).base.multiply(int(i["S"]))
    if "printed" in e:
        assert str(point.x) in e["printed"]
    else:
        assert (point.x, point.y) == (int(e["x"]), int(e["y"]))


def diagnosis(i: Members, e: Members) -> None:
    """The published Ed448 contributions were weighted modulo the order of edwards25519 (§5.3)."""
    n = CURVES["Ed448"].order
    r, y, weights = ([int(v) for v in i[name]] for name in ("r", "y", "lagrange"))
    made = [
        (r_i + int(i["k"]) * (y_i * l_i % ED25519.order)) % n
        for r_i, y_i, l_i in zip(r, y, weights, strict=True)
    ]
    assert made == [int(v) for v in e["S_i"]]


def threshold_signature(i: Members, e: Members) -> None:
    """Public arithmetic over a finished two-party signature; none is made here."""
    curve, message = curve_of(i), i["message_utf8"].encode()
    A = curve.decode(bytes.fromhex(i["aggregate_public"]))
    if "share_scalars" in i:
        scalars, nonces = ([int(v) for v in i[name]] for name in ("share_scalars", "r"))
        contributions = [int(v) for v in e["S_i"]]
    else:
        scalars, nonces = ([int(i[f"{v}_{who}"]) for who in "ab"] for v in ("scalar", "r"))
        contributions = [int(e[f"S_{who}"]) for who in "ab"]
        for who, nonce in zip("ab", nonces, strict=True):
            assert curve.base.multiply(nonce).encode().hex() == e[f"R_{who}"]
    assert combine([curve.base.multiply(s) for s in scalars]) == A
    R = combine([curve.base.multiply(r) for r in nonces])
    assert R.encode().hex() == e["R"]
    k = _eddsa_challenge(curve, R, A, message)
    assert k == int(e["k"])
    made = [(r + k * s) % curve.order for r, s in zip(nonces, scalars, strict=True)]
    assert made == contributions
    S = sum(made) % curve.order
    assert int(e["S"]) == S
    signature = R.encode() + S.to_bytes(curve.encoded_size, "little")
    assert signature.hex() == e["signature"]
    assert verify_prehashed(A, message, signature)


def threshold_signature_ctx(i: Members, e: Members) -> None:
    A = ED25519.decode(bytes.fromhex(i["aggregate_public"]))
    message, signature = i["message_utf8"].encode(), bytes.fromhex(e["signature"])
    assert verify_ed25519ctx(A, message, signature, i["context"].encode())
    assert not verify_prehashed(A, message, signature)


def _eddsa_challenge(curve: Curve, R: Point, A: Point, message: bytes) -> int:
    framed = R.encode() + A.encode() + message
    if curve is ED25519:
        digest = hashlib.sha512(framed).digest()
    else:
        digest = hashlib.shake_256(b"SigEd448\0\0" + framed).digest(114)
    return int.from_bytes(digest, "little") % curve.order


def _hash(name: str, message: bytes) -> bytes:
    return hashlib.new(name.lower().replace("-", ""), message).digest()


def _rs(curve: Curve, r: str | int, s: str | int) -> bytes:
    return b"".join(int(v).to_bytes(curve.scalar_size, "big") for v in (r, s))


CHECKS: dict[str, Callable[[Members, Members], None]] = {
    "check-point": check_point,
    "diagnosis": diagnosis,
    "ecdsa-multiplicative": ecdsa_multiplicative,
    "lagrange": lagrange,
    "related-key-attack": related_key_attack,
    "shamir-shares": shamir_shares,
    "threshold-signature": threshold_signature,
    "threshold-signature-corrected": threshold_signature,
    "threshold-signature-ctx": threshold_signature_ctx,
}
COVERED = [
    (f"{path.stem}-{number}-{record['name']}", record)
    for path in FILES
    for number, record in enumerate(json.loads(path.read_text()))
    if record["verified"] and record["kind"] in CHECKS
]


@pytest.mark.parametrize("record", [r for _, r in COVERED], ids=[name for name, _ in COVERED])
def test_vector(record: Members) -> None:
    CHECKS[record["kind"]](record["inputs"], record["expected"])


def test_every_kind_has_vectors() -> None:
    assert {record["kind"] for _, record in COVERED} == CHECKS.keys()
    assert len(COVERED) == 69
