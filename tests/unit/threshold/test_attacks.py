"""Named attacks on composite keys, each shown to work on bare algebra and stopped here."""

from __future__ import annotations

from hashlib import sha384, sha512
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384

from mesh_hsm.curves import P384, Point, SecretScalar, XOnly, verify_prehashed
from mesh_hsm.custody import CustodyStatement
from mesh_hsm.errors import DeviceError, VerificationError
from mesh_hsm.framing import F
from mesh_hsm.provider import Use
from mesh_hsm.threshold import (
    CompositeKey,
    DerivedKey,
    ScalarShare,
    combine,
    derive_public,
    prove,
    verify_proof,
)
from mesh_hsm.threshold.proof import _prove

DIGEST = sha512(b"ProfileDevice").digest()
AUTHORITY = "MB2G-K6DU-F5YG-YYL5-FRZM-3IGD-HBYE"
N = P384.order


def share(y: int, statement: CustodyStatement) -> ScalarShare:
    return ScalarShare(SecretScalar(P384, y), Use.ENCRYPT, label="y", custody=statement)


def test_rogue_key(statement: CustodyStatement) -> None:
    """Whoever contributes last, having seen X, publishes zG - X and steers Z to zG (threshold §3).

    Whatever scalar it then hands over or claims to know, nothing adds up.
    """
    x, z = SecretScalar.random(P384), SecretScalar.random(P384)
    X = x.public()
    rogue = z.public() - X
    Z = combine([X, rogue])
    assert z.public() == Z, "the attack itself: Z is the attacker's own key"
    for scalar in (z, SecretScalar.random(P384)):
        with pytest.raises(VerificationError):
            prove(scalar, X, Z, Use.ENCRYPT, DIGEST, AUTHORITY)
        device = ScalarShare(x, Use.ENCRYPT, label="device", custody=statement)
        with pytest.raises(VerificationError, match="add up"):
            CompositeKey(Z, Use.ENCRYPT, [device, share(scalar.value, statement)])


@pytest.mark.parametrize("use", Use)
def test_claimed_sum(use: Use) -> None:
    """Z = zG without the device: the sum checks, a proof from z does not (hsm-1 §5)."""
    z = SecretScalar.random(P384)
    X, Z = SecretScalar.random(P384).public(), z.public()
    assert X + (Z - X) == Z, "the sum checks, as every sum does"
    # A Schnorr proof that is true of z and base G, put forward as the proof of contribution.
    k = SecretScalar.random(P384)
    name = {"sign": "Signature", "encrypt": "Encryption", "authenticate": "Authentication"}[use]
    T = k.public()
    framed = F(
        "mesh-hsm/1 contribution",
        "P-384",
        name,
        X.encode(),
        Z.encode(),
        T.encode(),
        DIGEST,
        AUTHORITY,
    )
    c = int.from_bytes(sha512(framed).digest(), "big") % N
    s = (k.value + c * z.value) % N
    assert P384.base.multiply(s) == T + Z.multiply(c)
    with pytest.raises(VerificationError, match="does not check"):
        verify_proof(T.encode() + s.to_bytes(48, "big"), X, Z, use, DIGEST, AUTHORITY)


def test_a_proof_without_a_nonce_chosen_first() -> None:
    """Solving for T after c is not possible, since T is inside c."""
    X = P384.base.multiply(5)
    Z = P384.base.multiply(77)
    s, c = 12345, 67890
    T = P384.base.multiply(s) - (Z - X).multiply(c)
    with pytest.raises(VerificationError, match="does not check"):
        verify_proof(T.encode() + s.to_bytes(48, "big"), X, Z, Use.ENCRYPT, DIGEST, AUTHORITY)


def test_a_repeated_nonce_would_give_the_contribution_away() -> None:
    """Why k is fresh: two proofs by one k are two equations in two unknowns."""
    y, k = SecretScalar.random(P384), SecretScalar.random(P384)
    X = P384.base.multiply(5)
    Z = X + y.public()
    first = _prove(k, y, X, Z, Use.ENCRYPT, DIGEST, AUTHORITY)
    other = sha512(b"another payload").digest()
    second = _prove(k, y, X, Z, Use.ENCRYPT, other, AUTHORITY)
    assert first[:97] == second[:97]

    def c_of(digest: bytes) -> int:
        framed = F(
            "mesh-hsm/1 contribution",
            "P-384",
            "Encryption",
            X.encode(),
            Z.encode(),
            first[:97],
            digest,
            AUTHORITY,
        )
        return int.from_bytes(sha512(framed).digest(), "big")

    s = [int.from_bytes(proof[97:], "big") for proof in (first, second)]
    found = (s[0] - s[1]) * pow(c_of(DIGEST) - c_of(other), -1, N) % N
    assert found == y.value
    fresh = {prove(y, X, Z, Use.ENCRYPT, DIGEST, AUTHORITY)[:97] for _ in range(8)}
    assert len(fresh) == 8


def device_key(fake: type, x: int) -> Any:
    private = ec.derive_private_key(x, ec.SECP384R1())

    def sign(digest: bytes) -> bytes:
        r, s = decode_dss_signature(private.sign(digest, ec.ECDSA(Prehashed(SHA384()))))
        return r.to_bytes(48, "big") + s.to_bytes(48, "big")

    return fake(P384.base.multiply(x), lambda S: S, Use.SIGN, sign=sign)


def transferred(signature: bytes, first: bytes, second: bytes) -> bytes:
    """The signature moved from one digest to another: s·e_2/e_1 (threshold §7)."""
    e1, e2 = (int.from_bytes(digest, "big") for digest in (first, second))
    s = int.from_bytes(signature[48:], "big") * e2 * pow(e1, -1, N) % N
    return signature[:48] + s.to_bytes(48, "big")


def test_related_keys(fake: type, statement: CustodyStatement) -> None:
    """Choosing y_2 = y_1·e_2/e_1 after a signature moves it to another message and key.

    hsm-1 §3 puts fp(signer) at the head of what is signed: then e_2 depends on y_2 and the choice
    fails. This library signs digests; the framing is what makes them safe.
    """
    x, y1 = 0xABC << 300, 0xDEF << 290
    device = device_key(fake, x)
    key = DerivedKey(device, SecretScalar(P384, y1), factor_custody=statement)

    benign, hostile = (sha384(m).digest() for m in (b"turn on the pot", b"add mallet"))
    signature = key.sign(benign)
    e1, e2 = (int.from_bytes(digest, "big") for digest in (benign, hostile))
    y2 = SecretScalar(P384, y1 * e2 * pow(e1, -1, N) % N)
    Z2 = derive_public(device.public, y2)
    assert verify_prehashed(Z2, hostile, transferred(signature, benign, hostile))

    def bound(Z: Point, message: bytes) -> bytes:
        """The digest of hsm-1 §3, an encoded key standing in for its fingerprint."""
        return sha384(F("mesh-hsm/1 signature", Z.encode(), message)).digest()

    first = bound(key.public, b"turn on the pot")
    signature = key.sign(first)
    guess = bound(key.public, b"add mallet")
    e1, e2 = (int.from_bytes(digest, "big") for digest in (first, guess))
    Z2 = derive_public(device.public, SecretScalar(P384, y1 * e2 * pow(e1, -1, N) % N))
    for digest in (guess, bound(Z2, b"add mallet")):
        forged = transferred(signature, first, digest)
        assert not verify_prehashed(Z2, bound(Z2, b"add mallet"), forged)


def test_late_activation_with_another_factor(fake: type, statement: CustodyStatement) -> None:
    """A factor that is not the one Z was published with gives another key, and says so."""
    device = device_key(fake, 1 << 200)
    published = derive_public(device.public, SecretScalar(P384, 3 << 200))
    late = DerivedKey(device, SecretScalar(P384, 5 << 200), factor_custody=statement)
    assert late.public != published
    with pytest.raises(VerificationError):
        prove(SecretScalar(P384, 5 << 200), device.public, published, Use.SIGN, DIGEST, AUTHORITY)


def test_a_lying_device_in_a_composite_key(fake: type, statement: CustodyStatement) -> None:
    """It steers the plain result to a point of its choice, and is named by the blinded one."""
    x, y, S = SecretScalar.random(P384), SecretScalar.random(P384), P384.base.multiply(31)
    claim = SecretScalar.random(P384).public()

    def lie(P: Point) -> XOnly:
        answer = claim if P == S else claim + x.public()
        return XOnly(P384, answer.x)

    liar = fake(x.public(), lie, label="liar")
    honest = ScalarShare(y, Use.ENCRYPT, label="y", custody=statement)
    key = CompositeKey(combine([x.public(), y.public()]), Use.ENCRYPT, [honest, liar])
    assert key.agree(S) == claim + y.times(S)
    with pytest.raises(DeviceError) as caught:
        key.agree(S, blinded=True)
    assert caught.value.uri == "fake:key=liar"
