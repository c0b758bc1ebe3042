"""Evidence: an attestation and the key's own answer, from one side to the other."""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils, x25519
from hypothesis import given
from hypothesis import strategies as st
from independent.piv_certificates import F9_NAME, SIMULATOR, attest, authority, ec_key, rsa_key

from mesh_hsm.curves import ED25519, P256, P384, X25519, Curve, Point, XOnly
from mesh_hsm.custody import CustodyClass, CustodyStatement, Hardware
from mesh_hsm.errors import FormatError, MeshHsmError, UnsupportedError, VerificationError
from mesh_hsm.provider import DeviceKey, Use
from mesh_hsm.threshold import Verifier
from mesh_hsm.uri import Uri
from mesh_hsm_yubikey import evidence
from mesh_hsm_yubikey.chain import UnknownRootError
from mesh_hsm_yubikey.roots import Roots

ROOT = authority(SIMULATOR)
F9 = authority(F9_NAME, ROOT, rsa_key(1), path_length=0)
TRUSTED = Roots((ROOT.certificate,))


class Slot(DeviceKey):
    """A slot's key played by the library: x only, as PIV answers."""

    def __init__(self, curve: Curve, private: Any, use: Use) -> None:
        self.uri, self.label, self.use = Uri("fake", (("key", "slot"),)), "slot", use
        self.private = private
        public = private.public_key()
        if curve is ED25519:
            self.public: Point = curve.decode(public.public_bytes_raw())
        elif curve is X25519:
            self.public = curve.decode_x(public.public_bytes_raw())
        else:
            self.public = curve.point(public.public_numbers().x, public.public_numbers().y)

    def custody(self) -> CustodyStatement:
        return CustodyStatement(CustodyClass.GENERATED, Hardware.SIMULATOR, "slot")

    def _agree(self, point: Point) -> XOnly:
        if point.curve is X25519:
            peer: Any = x25519.X25519PublicKey.from_public_bytes(point.agreement_octets())
            return XOnly.decode(point.curve, self.private.exchange(peer))
        peer = ec.EllipticCurvePublicKey.from_encoded_point(self.private.curve, point.encode())
        return XOnly.decode(point.curve, self.private.exchange(ec.ECDH(), peer))

    def _sign(self, octets: bytes) -> bytes:
        if self.public.curve is ED25519:
            return self.private.sign(octets)
        hashed = {32: hashes.SHA256(), 48: hashes.SHA384()}[len(octets)]
        signature = self.private.sign(octets, ec.ECDSA(utils.Prehashed(hashed)))
        size = len(octets)
        return b"".join(one.to_bytes(size, "big") for one in utils.decode_dss_signature(signature))


KEYS = {
    "P-256 signs": Slot(P256, ec_key(11), Use.SIGN),
    "P-384 signs": Slot(P384, ec_key(11, "P-384"), Use.SIGN),
    "Ed25519 signs": Slot(ED25519, ed25519.Ed25519PrivateKey.generate(), Use.SIGN),
    "P-256 agrees": Slot(P256, ec_key(12), Use.ENCRYPT),
    "P-384 agrees": Slot(P384, ec_key(12, "P-384"), Use.AUTHENTICATE),
    "X25519 agrees": Slot(X25519, x25519.X25519PrivateKey.generate(), Use.ENCRYPT),
}


def made(key: Slot, asked: Verifier, of: Slot | None = None) -> bytes:
    slot = attest(F9, (of or key).private.public_key(), "9d")
    return evidence.make(key, slot, F9.der, asked.challenge.octets)


@pytest.mark.parametrize("name", KEYS)
def test_there_and_back(name: str) -> None:
    key, asked = KEYS[name], Verifier("mesh.example")
    told = made(key, asked)
    found = evidence.verify(told, key.public, key.use, asked, TRUSTED)
    assert (found.public, found.slot) == (key.public, "9d")
    assert found.hardware is Hardware.SIMULATOR
    assert list(json.loads(told)) == ["evidence", "verifier", "nonce", "certificates", "answer"]
    with pytest.raises(VerificationError, match="answered already"):
        evidence.verify(told, key.public, key.use, asked, TRUSTED)


def test_by_default_only_yubicos_word_counts() -> None:
    key, asked = KEYS["P-384 agrees"], Verifier("mesh.example")
    told = made(key, asked)
    with pytest.raises(UnknownRootError):
        evidence.verify(told, key.public, key.use, asked)
    evidence.verify(told, key.public, key.use, asked, TRUSTED)  # nothing was spent


def test_a_copied_certificate_is_no_proof() -> None:
    """The thief shows somebody's attestation and answers with a key of his own."""
    for name, other in (("P-256 signs", P256), ("P-256 agrees", P256)):
        key, asked = KEYS[name], Verifier("mesh.example")
        thief = Slot(other, ec.generate_private_key(ec.SECP256R1()), key.use)
        with pytest.raises(VerificationError, match="challenge does not verify"):
            evidence.verify(made(thief, asked, key), key.public, key.use, asked, TRUSTED)


def test_evidence_about_another_key() -> None:
    key, asked = KEYS["P-256 agrees"], Verifier("mesh.example")
    public = KEYS["P-256 signs"].public
    with pytest.raises(VerificationError, match="about another key"):
        evidence.verify(made(key, asked), public, key.use, asked, TRUSTED)


def test_evidence_for_another_challenge() -> None:
    key, asked = KEYS["P-256 agrees"], Verifier("mesh.example")
    for other in (Verifier("mesh.example"), Verifier("other.example")):
        with pytest.raises(VerificationError, match="answers another challenge"):
            evidence.verify(made(key, other), key.public, key.use, asked, TRUSTED)


def test_evidence_of_another_use() -> None:
    for name, use in (("P-256 signs", Use.ENCRYPT), ("P-256 agrees", Use.SIGN)):
        key, asked = KEYS[name], Verifier("mesh.example")
        with pytest.raises(VerificationError, match="does not verify"):
            evidence.verify(made(key, asked), key.public, use, asked, TRUSTED)


@pytest.mark.parametrize("challenge", [b"", bytes(32), b"\0\1a"])
def test_what_is_no_challenge_reaches_no_key(challenge: bytes) -> None:
    key = KEYS["P-256 signs"]
    with pytest.raises(FormatError):
        evidence.make(key, b"", b"", challenge)


def test_a_challenge_without_the_keys_curve() -> None:
    with pytest.raises(UnsupportedError, match="no point on P-384"):
        made(KEYS["P-384 agrees"], Verifier("mesh.example", (P256,)))


def b64(octets: bytes) -> str:
    return urlsafe_b64encode(octets).rstrip(b"=").decode()


def changed(**members: object) -> Callable[[dict[str, Any]], bytes]:
    return lambda value: json.dumps(value | members, separators=(",", ":")).encode()


HOSTILE: dict[str, tuple[Callable[[dict[str, Any]], bytes], type[MeshHsmError]]] = {
    "nothing": (lambda value: b"", FormatError),
    "no JSON": (lambda value: b"\x30\x82", FormatError),
    "an array": (lambda value: b"[]", FormatError),
    "too long": (changed(answer=b64(bytes(65_536))), FormatError),
    "white space": (lambda value: json.dumps(value).encode(), FormatError),
    "another order": (
        lambda value: changed()(dict(reversed(list(value.items())))),
        FormatError,
    ),
    "a member more": (changed(more=1), FormatError),
    "another kind": (changed(evidence="mesh-hsm/1 tpm"), FormatError),
    "no list": (changed(certificates="x"), FormatError),
    "one certificate": (changed(certificates=["AA"]), FormatError),
    "three certificates": (changed(certificates=["AA"] * 3), FormatError),
    "a certificate that is a number": (changed(certificates=[1, 2]), FormatError),
    "a certificate that is none": (changed(certificates=["AA", "AA"]), FormatError),
    "a verifier that is a number": (changed(verifier=1), FormatError),
    "padding": (changed(answer="AA=="), FormatError),
    "no answer": (changed(answer=""), VerificationError),
    "an answer of zeros": (changed(answer=b64(bytes(64))), VerificationError),
    "a long answer": (changed(answer=b64(hashlib.sha512().digest() * 2)), VerificationError),
    "no nonce": (changed(nonce=""), VerificationError),
    "another nonce": (changed(nonce=b64(bytes(32))), VerificationError),
    "another verifier": (changed(verifier="other.example"), VerificationError),
    "a verifier beyond ASCII": (changed(verifier="\u0130"), FormatError),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("kind", ["P-256 signs", "P-256 agrees"])
def test_hostile(name: str, kind: str) -> None:
    change, error = HOSTILE[name]
    key, asked = KEYS[kind], Verifier("mesh.example", (P256,))
    told = change(json.loads(made(key, asked)))
    with pytest.raises(error):
        evidence.verify(told, key.public, key.use, asked, TRUSTED)


@given(st.binary(max_size=200))
def test_no_octets_surprise_the_verifier(octets: bytes) -> None:
    with pytest.raises(FormatError):
        evidence.verify(octets, P256.base, Use.SIGN, ASKED, TRUSTED)


ASKED = Verifier("mesh.example", ())
