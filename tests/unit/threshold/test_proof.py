"""Proofs of contribution (hsm-1 §5): every field bound, every foul point refused."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha512

import pytest
from Cryptodome.PublicKey.ECC import EccPoint
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh_hsm.curves import ED448, P256, P384, X448, X25519, Curve, Point, SecretScalar
from mesh_hsm.errors import (
    FormatError,
    InvalidPointError,
    UnsupportedError,
    VerificationError,
)
from mesh_hsm.provider import Use
from mesh_hsm.threshold import prove, verify_proof
from mesh_hsm.threshold.proof import _prove

DIGEST = sha512(b"a ProfileDevice payload").digest()
AUTHORITY = "MB2G-K6DU-F5YG-YYL5-FRZM-3IGD-HBYE"
USES = list(Use)


def contribution(curve: Curve, use: Use, x: int = 5, y: int = 9) -> tuple[Point, Point]:
    """X and Z for a contribution y."""
    X = curve.base.multiply(x)
    return X, X.multiply(y) if use is Use.SIGN else X + curve.base.multiply(y)


def cases() -> list[tuple[Curve, Use]]:
    return [
        (curve, use)
        for curve in (P256, P384, X25519, X448)
        for use in USES
        if not (use is Use.SIGN and curve.family == "montgomery")
    ]


every_case = pytest.mark.parametrize(("curve", "use"), cases(), ids=str)


@every_case
def test_a_true_contribution_is_proved(curve: Curve, use: Use) -> None:
    for _ in range(3):
        y = SecretScalar.random(curve)
        X, Z = contribution(curve, use, 12345, y.value)
        proof = prove(y, X, Z, use, DIGEST, AUTHORITY)
        assert len(proof) == curve.encoded_size + curve.scalar_size
        verify_proof(proof, X, Z, use, DIGEST, AUTHORITY)


@every_case
def test_the_octets_are_those_of_the_specification(curve: Curve, use: Use) -> None:
    """hsm-1 §5 once more, written out by hand, with a known k."""
    X, Z = contribution(curve, use)
    k = 0x1F2E3D4C5B6A79
    base = X if use is Use.SIGN else curve.base
    T = base.multiply(k)
    order = "little" if curve.family == "montgomery" else "big"
    name = {"sign": "Signature", "encrypt": "Encryption", "authenticate": "Authentication"}[use]
    fields = [
        b"mesh-hsm/1 contribution",
        curve.name.encode(),
        name.encode(),
        X.encode(),
        Z.encode(),
        T.encode(),
        DIGEST,
        AUTHORITY.encode(),
    ]
    framed = b"".join(len(field).to_bytes(2, "big") + field for field in fields)
    c = int.from_bytes(sha512(framed).digest(), order) % curve.order
    s = (k + c * 9) % curve.order
    size = {"P-256": 32, "P-384": 48, "X25519": 32, "X448": 56}[curve.name]
    point_size = {"P-256": 65, "P-384": 97, "X25519": 33, "X448": 57}[curve.name]
    made = _prove(SecretScalar(curve, k), SecretScalar(curve, 9), X, Z, use, DIGEST, AUTHORITY)
    assert made == T.encode() + s.to_bytes(size, order)
    assert len(T.encode()) == point_size
    verify_proof(made, X, Z, use, DIGEST, AUTHORITY)


@pytest.mark.parametrize("use", USES, ids=str)
def test_a_proof_is_verified_by_another_library(use: Use) -> None:
    """s·base = T + c·statement with no arithmetic of ours."""
    X, Z = contribution(P384, use)
    proof = prove(SecretScalar(P384, 9), X, Z, use, DIGEST, AUTHORITY)
    name = {"sign": b"Signature", "encrypt": b"Encryption", "authenticate": b"Authentication"}[use]
    fields = [b"mesh-hsm/1 contribution", b"P-384", name, X.encode(), Z.encode(), proof[:97]]
    framed = b"".join(
        len(field).to_bytes(2, "big") + field for field in (*fields, DIGEST, AUTHORITY.encode())
    )
    c = int.from_bytes(sha512(framed).digest(), "big") % P384.order
    s = int.from_bytes(proof[97:], "big")

    def theirs(octets: bytes) -> EccPoint:
        x, y = octets[1:49], octets[49:]
        return EccPoint(int.from_bytes(x, "big"), int.from_bytes(y, "big"), curve="P-384")

    G, device, whole = (theirs(point.encode()) for point in (P384.base, X, Z))
    base, statement = (device, whole) if use is Use.SIGN else (G, whole + -device)
    assert base * s == theirs(proof[:97]) + statement * c


def test_no_nonce_is_used_twice() -> None:
    """Two proofs with one k would give y away; so k is fresh even for the same statement."""
    X, Z = contribution(P256, Use.ENCRYPT)
    y = SecretScalar(P256, 9)
    proofs = {prove(y, X, Z, Use.ENCRYPT, DIGEST, AUTHORITY)[:65] for _ in range(16)}
    assert len(proofs) == 16


@every_case
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_no_altered_octet_passes(curve: Curve, use: Use, data: st.DataObject) -> None:
    X, Z = contribution(curve, use)
    proof = prove(SecretScalar(curve, 9), X, Z, use, DIGEST, AUTHORITY)
    place = data.draw(st.integers(0, len(proof) - 1))
    altered = bytearray(proof)
    altered[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(VerificationError):
        verify_proof(bytes(altered), X, Z, use, DIGEST, AUTHORITY)


OTHER = {
    "another device": {"X": P384.base.multiply(6)},
    "another composite": {"Z": P384.base.multiply(15)},
    "another use": {"use": Use.AUTHENTICATE},
    "as a signature key": {"use": Use.SIGN},
    "another profile": {"profile_digest": sha512(b"another").digest()},
    "another administrator": {"authority_udf": "MC" + AUTHORITY[2:]},
}


@pytest.mark.parametrize("change", OTHER.values(), ids=OTHER)
def test_a_proof_is_bound_to_everything_it_names(change: dict[str, object]) -> None:
    X, Z = contribution(P384, Use.ENCRYPT)
    told = {
        "X": X,
        "Z": Z,
        "use": Use.ENCRYPT,
        "profile_digest": DIGEST,
        "authority_udf": AUTHORITY,
    }
    proof = prove(SecretScalar(P384, 9), **told)
    verify_proof(proof, **told)
    with pytest.raises(VerificationError):
        verify_proof(proof, **(told | change))


@every_case
def test_a_prover_without_the_contribution_is_refused(curve: Curve, use: Use) -> None:
    X, Z = contribution(curve, use)
    for wrong in (7, 11, curve.order - 9):
        with pytest.raises(VerificationError, match="not the contribution"):
            prove(SecretScalar(curve, wrong), X, Z, use, DIGEST, AUTHORITY)


def test_a_scalar_of_another_curve() -> None:
    X, Z = contribution(P384, Use.ENCRYPT)
    for use in (Use.ENCRYPT, Use.SIGN):
        with pytest.raises((VerificationError, InvalidPointError)):
            prove(SecretScalar(P256, 9), X, Z, use, DIGEST, AUTHORITY)


@every_case
def test_malformed_proofs(curve: Curve, use: Use) -> None:
    X, Z = contribution(curve, use)
    proof = prove(SecretScalar(curve, 9), X, Z, use, DIGEST, AUTHORITY)
    T, s = proof[: curve.encoded_size], proof[curve.encoded_size :]
    above = int.from_bytes(s, curve.byteorder) + curve.order
    hostile = {
        "empty": b"",
        "truncated": proof[:-1],
        "oversized": proof + b"\0",
        "s of zeros": T + bytes(len(s)),
        "s = n": T + curve.order.to_bytes(len(s), curve.byteorder),
        "T of zeros": bytes(len(T)) + s,
        "T of ones": b"\xff" * len(T) + s,
    }
    if above.bit_length() <= 8 * len(s):
        hostile["s + n"] = T + above.to_bytes(len(s), curve.byteorder)
    for octets in hostile.values():
        with pytest.raises(VerificationError):
            verify_proof(octets, X, Z, use, DIGEST, AUTHORITY)


def test_s_equal_to_the_order_is_refused_though_zero_would_be_read() -> None:
    X, Z = contribution(P384, Use.ENCRYPT)
    octets = P384.base.encode() + P384.order.to_bytes(48, "big")
    with pytest.raises(VerificationError, match="group order"):
        verify_proof(octets, X, Z, Use.ENCRYPT, DIGEST, AUTHORITY)


def test_s_above_the_order_is_refused_though_it_is_congruent() -> None:
    X, Z = contribution(X25519, Use.ENCRYPT)
    proof = prove(SecretScalar(X25519, 9), X, Z, Use.ENCRYPT, DIGEST, AUTHORITY)
    s = int.from_bytes(proof[33:], "little") + X25519.order
    with pytest.raises(VerificationError, match="group order"):
        verify_proof(proof[:33] + s.to_bytes(32, "little"), X, Z, Use.ENCRYPT, DIGEST, AUTHORITY)


G = P256.base
FOUL: dict[str, tuple[Point, Point, Use]] = {
    "Z - X neutral": (G, G, Use.ENCRYPT),
    "Z neutral": (G, P256.neutral, Use.ENCRYPT),
    "X neutral": (P256.neutral, G, Use.ENCRYPT),
    "a factor of one": (G, G, Use.SIGN),
    "a signature's Z neutral": (G, P256.neutral, Use.SIGN),
    "a signature's X neutral": (P256.neutral, G, Use.SIGN),
    "Z on another curve": (G, P384.base, Use.ENCRYPT),
    "X with torsion": (
        X25519.base + X25519.point(0, 0),
        X25519.base.multiply(3),
        Use.ENCRYPT,
    ),
    "Z with torsion": (X448.base, X448.base.multiply(3) + X448.point(0, 0), Use.ENCRYPT),
    "both with the same torsion": (
        X448.base + X448.point(0, 0),
        X448.base.multiply(3) + X448.point(0, 0),
        Use.ENCRYPT,
    ),
}


@pytest.mark.parametrize(("X", "Z", "use"), FOUL.values(), ids=FOUL)
def test_foul_points(X: Point, Z: Point, use: Use) -> None:
    with pytest.raises(InvalidPointError):
        prove(SecretScalar(X.curve, 3), X, Z, use, DIGEST, AUTHORITY)
    curve = X.curve
    octets = curve.base.encode() + bytes(curve.scalar_size)
    with pytest.raises(VerificationError):
        verify_proof(octets, X, Z, use, DIGEST, AUTHORITY)


@pytest.mark.parametrize(
    ("curve", "use"), [(ED448, Use.ENCRYPT), (ED448, Use.SIGN), (X448, Use.SIGN)], ids=str
)
def test_keys_without_proofs(curve: Curve, use: Use) -> None:
    X, Z = curve.base, curve.base.multiply(3)
    with pytest.raises(VerificationError, match="has a proof"):
        verify_proof(bytes(113), X, Z, use, DIGEST, AUTHORITY)
    if curve is X448:
        with pytest.raises(UnsupportedError):
            prove(SecretScalar(curve, 3), X, Z, use, DIGEST, AUTHORITY)


NAMES = {
    "a short digest": (DIGEST[:-1], AUTHORITY),
    "a long digest": (DIGEST + b"\0", AUTHORITY),
    "no authority": (DIGEST, ""),
    "a short authority": (DIGEST, AUTHORITY[:-5]),
    "a long authority": (DIGEST, AUTHORITY + "-AAAA"),
    "lower case": (DIGEST, AUTHORITY.lower()),
    "without dashes": (DIGEST, AUTHORITY.replace("-", "")),
    "a line feed": (DIGEST, AUTHORITY + "\n"),
    "not Base32": (DIGEST, AUTHORITY[:-1] + "1"),
}


@pytest.mark.parametrize(("digest", "authority"), NAMES.values(), ids=NAMES)
def test_malformed_names(digest: bytes, authority: str) -> None:
    X, Z = contribution(P256, Use.ENCRYPT)
    with pytest.raises(FormatError):
        prove(SecretScalar(P256, 9), X, Z, Use.ENCRYPT, digest, authority)
    good = prove(SecretScalar(P256, 9), X, Z, Use.ENCRYPT, DIGEST, AUTHORITY)
    with pytest.raises(VerificationError):
        verify_proof(good, X, Z, Use.ENCRYPT, digest, authority)


@pytest.mark.parametrize("curve", [X25519, X448], ids=str)
def test_torsion_in_proofs(curve: Curve, torsion: Callable[[Curve], list[Point]]) -> None:
    """Z = X + yG + T: grinding k until c·T cancels passes a verifier that skips the subgroup.

    hsm-1 §5. Nobody holding y would get the agreement that Z promises to others.
    """
    T = torsion(curve)[0]
    X = curve.base.multiply(5)
    y = 9
    Z = X + curve.base.multiply(y) + T
    for k in range(2, 400):
        made = curve.base.multiply(k)
        c = _by_hand(X, Z, made)
        if T.multiply(c).is_neutral:
            break
    else:
        pytest.fail("no k found: the attack itself does not work")
    s = (k + c * y) % curve.order
    forged = made.encode() + s.to_bytes(curve.scalar_size, "little")
    assert curve.base.multiply(s) == made + (Z - X).multiply(c), "the equation itself holds"
    with pytest.raises(VerificationError, match="subgroup"):
        verify_proof(forged, X, Z, Use.ENCRYPT, DIGEST, AUTHORITY)


@pytest.mark.parametrize("curve", [X25519, X448], ids=str)
def test_torsion_in_the_commitment(curve: Curve, torsion: Callable[[Curve], list[Point]]) -> None:
    X, Z = contribution(curve, Use.ENCRYPT)
    for T in torsion(curve):
        commitment = curve.base.multiply(77) + T
        c = _by_hand(X, Z, commitment)
        s = (77 + c * 9) % curve.order
        forged = commitment.encode() + s.to_bytes(curve.scalar_size, "little")
        with pytest.raises(VerificationError, match="subgroup"):
            verify_proof(forged, X, Z, Use.ENCRYPT, DIGEST, AUTHORITY)


def _by_hand(X: Point, Z: Point, T: Point) -> int:
    fields = [
        b"mesh-hsm/1 contribution",
        X.curve.name.encode(),
        b"Encryption",
        X.encode(),
        Z.encode(),
        T.encode(),
        DIGEST,
        AUTHORITY.encode(),
    ]
    framed = b"".join(len(field).to_bytes(2, "big") + field for field in fields)
    return int.from_bytes(sha512(framed).digest(), "little") % X.curve.order
