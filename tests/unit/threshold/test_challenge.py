"""Challenges to keys that sign and to keys that agree (hsm-1 §6.5, §8)."""

from __future__ import annotations

import copy
import hashlib
import hmac
import pickle
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils, x448, x25519
from hypothesis import given
from hypothesis import strategies as st

from mesh_hsm.curves import ED25519, P256, P384, X448, X25519, Curve, Point, SecretScalar, XOnly
from mesh_hsm.errors import (
    FormatError,
    InvalidPointError,
    MeshHsmError,
    UnsupportedError,
    VerificationError,
)
from mesh_hsm.framing import F
from mesh_hsm.provider import DeviceKey, Use
from mesh_hsm.threshold import Challenge, Question, Verifier, verify_possession

FP = hashlib.sha512(b"a public key").digest()
OTHER = hashlib.sha512(b"another public key").digest()
VERIFIER = "mesh.example"
NONCE = bytes(range(32))


def device(fake: type, curve: Curve, *, full: bool = False) -> DeviceKey:
    scalar = SecretScalar.random(curve)
    return fake(scalar.public(), scalar.times if full else scalar.x_of)


@pytest.mark.parametrize("full", [False, True])
def test_an_agreement_key_answers(curve: Curve, fake: type, full: bool) -> None:
    key, asked = device(fake, curve, full=full), Verifier(VERIFIER)
    challenge = Challenge.parse(asked.challenge.octets)
    assert challenge == asked.challenge
    answer = challenge.answer(key, FP)
    assert len(answer) == 64
    assert key.asked == [challenge.ephemeral(curve)]
    asked.verify(answer, key.public, Use.AUTHENTICATE, FP)


def test_a_signature_key_answers(fake: type) -> None:
    private = ec.derive_private_key(77, ec.SECP256R1())

    def sign(digest: bytes) -> bytes:
        prehashed = ec.ECDSA(utils.Prehashed(hashes.SHA256()))
        r, s = utils.decode_dss_signature(private.sign(digest, prehashed))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    key = fake(P256.base.multiply(77), lambda S: S, Use.SIGN, sign=sign)
    asked = Verifier(VERIFIER, ())
    answer = Challenge.parse(asked.challenge.octets).answer(key, FP)
    verify_possession(answer, key.public, FP, VERIFIER, asked.challenge.nonce)
    asked.verify(answer, key.public, Use.SIGN, FP)
    other = Verifier(VERIFIER)
    with pytest.raises(VerificationError):
        other.verify(answer, key.public, Use.SIGN, FP)


def exchanged(private: object, E: Point) -> bytes:
    """Z by the library alone."""
    if isinstance(private, x25519.X25519PrivateKey):
        peer = x25519.X25519PublicKey.from_public_bytes(E.encode()[:32])
        return private.exchange(peer)
    if isinstance(private, x448.X448PrivateKey):
        return private.exchange(x448.X448PublicKey.from_public_bytes(E.encode()[:56]))
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    peer = ec.EllipticCurvePublicKey.from_encoded_point(private.curve, E.encode())
    return private.exchange(ec.ECDH(), peer)


def framed(*found: bytes) -> bytes:
    return b"".join(len(one).to_bytes(2, "big") + one for one in found)


def hkdf(Z: bytes, info: bytes) -> bytes:
    """RFC 5869 with SHA-512, no salt, 64 octets: one block."""
    extracted = hmac.digest(bytes(64), Z, "sha512")
    return hmac.digest(extracted, info + b"\1", "sha512")


@pytest.mark.parametrize(
    ("curve", "private"),
    [
        (P384, ec.generate_private_key(ec.SECP384R1())),
        (X25519, x25519.X25519PrivateKey.generate()),
        (X448, x448.X448PrivateKey.generate()),
    ],
)
def test_the_answer_as_the_words_say_it(curve: Curve, private, fake: type) -> None:
    """Computed again from the documents, and a clamping device's key is proved by u alone."""
    if curve is P384:
        numbers = private.public_key().public_numbers()
        public = curve.point(numbers.x, numbers.y)
    else:
        public = curve.decode_x(private.public_key().public_bytes_raw())
    asked = Verifier(VERIFIER)
    nonce, E = asked.challenge.nonce, asked.challenge.ephemeral(curve)
    Z = exchanged(private, E)
    info = framed(b"mesh-hsm/1 possession by agreement", VERIFIER.encode(), FP, nonce)
    expected = hmac.digest(hkdf(Z, info), framed(E.encode(), nonce), "sha512")
    key = fake(public, lambda S: XOnly.decode(curve, exchanged(private, S)))
    assert asked.challenge.answer(key, FP) == expected
    asked.verify(expected, public, Use.ENCRYPT, FP)


def test_an_answer_is_bound_to_everything(fake: type) -> None:
    key, other = device(fake, P256), device(fake, P256)

    def refused(given: Challenge | None, public: Point, fp: bytes, answer: bytes | None) -> None:
        asked = Verifier(VERIFIER)
        if answer is None:
            challenge = given or asked.challenge
            answer = replace(challenge, ephemerals=asked.challenge.ephemerals).answer(key, FP)
        with pytest.raises(VerificationError):
            asked.verify(answer, public, Use.ENCRYPT, fp)

    refused(Challenge("other.example", NONCE), key.public, FP, None)
    refused(Challenge(VERIFIER, NONCE), key.public, FP, None)
    refused(None, other.public, FP, None)
    refused(None, key.public, bytes(64), None)
    refused(None, key.public, FP[:-1], None)
    refused(None, key.public, FP, b"")
    refused(None, key.public, FP, bytes(64))
    refused(None, key.public, FP, Verifier(VERIFIER).challenge.answer(key, FP))
    refused(None, ED25519.base, FP, None)
    refused(None, X25519.decode_x(bytes(32)), FP, None)


def test_an_answer_that_signs_is_not_one_that_agrees(fake: type) -> None:
    key, asked = device(fake, P256), Verifier(VERIFIER)
    answer = asked.challenge.answer(key, FP)
    with pytest.raises(VerificationError):
        asked.verify(answer, key.public, Use.SIGN, FP)


def test_a_challenge_is_good_for_one_answer(fake: type) -> None:
    key = device(fake, P256)
    for first in (True, False):
        asked = Verifier(VERIFIER, (P256,))
        answer = asked.challenge.answer(key, FP)
        if first:
            asked.verify(answer, key.public, Use.ENCRYPT, FP)
        else:
            with pytest.raises(VerificationError, match="does not verify"):
                asked.verify(bytes(64), key.public, Use.ENCRYPT, FP)
        with pytest.raises(VerificationError, match="answered already"):
            asked.verify(answer, key.public, Use.ENCRYPT, FP)


def test_a_key_of_a_curve_that_was_not_asked(fake: type) -> None:
    key, asked = device(fake, P384), Verifier(VERIFIER, (P256, X25519))
    with pytest.raises(UnsupportedError, match="no point on P-384"):
        asked.challenge.answer(key, FP)
    assert key.asked == []
    with pytest.raises(VerificationError, match="void for this key"):
        asked.verify(bytes(64), key.public, Use.ENCRYPT, FP)


def test_a_malformed_fingerprint_reaches_no_device(fake: type) -> None:
    key = device(fake, P256)
    with pytest.raises(FormatError):
        Verifier(VERIFIER, (P256,)).challenge.answer(key, FP[:-1])
    assert key.asked == []


def test_two_challenges_differ_and_tell_no_secret() -> None:
    first, second = (Verifier(VERIFIER, (P256, X25519)) for _ in range(2))
    assert first.challenge.nonce != second.challenge.nonce
    assert not set(first.challenge.ephemerals) & set(second.challenge.ephemerals)
    assert repr(first) == "<challenge of mesh.example>"
    for copied in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            copied(first)


@given(st.binary(max_size=300))
def test_no_octets_surprise_the_parser(octets: bytes) -> None:
    label = F("mesh-hsm/1 challenge")
    for given_octets in (octets, label + octets):
        with pytest.raises(MeshHsmError):
            Challenge.parse(given_octets)


E256, E384 = P256.base.encode(), P384.base.encode()
LABEL = "mesh-hsm/1 challenge"
LOW = X25519.decode(bytes(33))

HOSTILE: dict[str, tuple[bytes, type[MeshHsmError]]] = {
    "nothing": (b"", FormatError),
    "bare nonce": (NONCE, FormatError),
    "another label": (F("mesh-hsm/1 possession", VERIFIER, NONCE), FormatError),
    "no nonce": (F(LABEL, VERIFIER), FormatError),
    "a short nonce": (F(LABEL, VERIFIER, NONCE[1:]), FormatError),
    "a long nonce": (F(LABEL, VERIFIER, NONCE + b"\0"), FormatError),
    "no verifier": (F(LABEL, "", NONCE), FormatError),
    "a verifier beyond ASCII": (F(LABEL, "exämple".encode(), NONCE), FormatError),
    "a verifier that writes on terminals": (F(LABEL, "a\x1b[2J", NONCE), FormatError),
    "a curve without a point": (F(LABEL, VERIFIER, NONCE, "P-256"), FormatError),
    "an unknown curve": (F(LABEL, VERIFIER, NONCE, "P-192", E256), UnsupportedError),
    "a curve beyond ASCII": (F(LABEL, VERIFIER, NONCE, b"\xff", E256), FormatError),
    "a curve that signs": (
        F(LABEL, VERIFIER, NONCE, "Ed25519", ED25519.base.encode()),
        FormatError,
    ),
    "a curve twice": (F(LABEL, VERIFIER, NONCE, "P-256", E256, "P-256", E256), FormatError),
    "a point of another curve": (F(LABEL, VERIFIER, NONCE, "P-256", E384), InvalidPointError),
    "a point off the curve": (
        F(LABEL, VERIFIER, NONCE, "P-256", E256[:-1] + b"\0"),
        InvalidPointError,
    ),
    "a compressed point": (
        F(LABEL, VERIFIER, NONCE, "P-256", bytes([2 + P256.base.is_odd]) + E256[1:33]),
        FormatError,
    ),
    "a point of small order": (F(LABEL, VERIFIER, NONCE, "X25519", bytes(33)), InvalidPointError),
    "trailing octets": (F(LABEL, VERIFIER, NONCE) + b"\0", FormatError),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile(name: str) -> None:
    octets, error = HOSTILE[name]
    with pytest.raises(error):
        Challenge.parse(octets)


def test_a_challenge_cannot_be_made_wrong() -> None:
    with pytest.raises(FormatError, match="printable"):
        Verifier("two\nlines", ())
    with pytest.raises(FormatError, match="one point for each curve"):
        Verifier(VERIFIER, (P256, P256))
    with pytest.raises(InvalidPointError):
        Challenge(VERIFIER, NONCE, (LOW,))
    with pytest.raises(UnsupportedError):
        Verifier(VERIFIER, (ED25519,))


QUESTION = Question("tpm2", b"a credential", b"its secret")


def test_a_question_travels_and_its_answer_does_not() -> None:
    asked = Verifier(VERIFIER, (P256,), [QUESTION])
    travelled = Challenge.parse(asked.challenge.octets)
    assert travelled == asked.challenge
    assert travelled.question("tpm2") == b"a credential"
    assert travelled.question("yubikey") is None
    assert b"its secret" not in asked.challenge.octets
    assert "its secret" not in repr(QUESTION)
    assert asked.expected("tpm2") == b"its secret"
    assert asked.expected("yubikey") is None


def test_a_scheme_is_asked_once() -> None:
    with pytest.raises(FormatError, match="one question for each scheme"):
        Verifier(VERIFIER, (), [QUESTION, QUESTION])
    with pytest.raises(FormatError, match="one question for each scheme"):
        Challenge(VERIFIER, NONCE, (), (("Two words", b""),))
    point_last = F(LABEL, VERIFIER, NONCE, "tpm2:", b"", "P-256", E256)
    with pytest.raises(FormatError, match="one form"):
        Challenge.parse(point_last)


def test_a_saved_verifier_knows_the_answer_again(fake: type) -> None:
    key = device(fake, X25519)
    asked = Verifier(VERIFIER, (P256, X25519), [QUESTION])
    again = Verifier.restored(asked.saved())
    assert again.challenge == asked.challenge
    assert again.expected("tpm2") == b"its secret"
    again.verify(asked.challenge.answer(key, FP), key.public, Use.ENCRYPT, FP)


def test_each_key_answers_once(fake: type) -> None:
    first, second = device(fake, P256), device(fake, P256)
    asked = Verifier(VERIFIER, (P256,))
    asked.verify(asked.challenge.answer(first, FP), first.public, Use.ENCRYPT, FP)
    asked.verify(asked.challenge.answer(second, OTHER), second.public, Use.ENCRYPT, OTHER)
    with pytest.raises(VerificationError, match="answered already"):
        asked.verify(asked.challenge.answer(first, FP), first.public, Use.ENCRYPT, FP)


SAVED = Verifier(VERIFIER, (P256,), [QUESTION]).saved()


@given(st.integers(0, len(SAVED) - 1), st.binary(max_size=300))
def test_no_saved_octets_surprise_the_reader(cut: int, octets: bytes) -> None:
    for given_octets in (octets, SAVED[:cut], SAVED + octets[:1] + b"\0", F("mesh-hsm/1 verifier")):
        with pytest.raises(MeshHsmError):
            Verifier.restored(given_octets)
