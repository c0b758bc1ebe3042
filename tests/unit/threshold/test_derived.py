"""Derived ECDSA: one device key, many signature keys (threshold §7, hsm-1 §3-§4)."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256, sha384, sha512
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
    decode_dss_signature,
    encode_dss_signature,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh_hsm.curves import (
    ED448,
    P256,
    P384,
    P521,
    X25519,
    Curve,
    Point,
    SecretScalar,
    verify_prehashed,
)
from mesh_hsm.custody import CustodyClass, CustodyStatement
from mesh_hsm.errors import DeviceError, FormatError, InvalidPointError, UnsupportedError
from mesh_hsm.provider import Use
from mesh_hsm.threshold import DerivedKey, derive_public
from mesh_hsm.threshold.derived import device_digest, finish

LIBRARY: dict[Curve, tuple[Any, Any, Callable[[bytes], Any]]] = {
    P256: (ec.SECP256R1(), hashes.SHA256(), sha256),
    P384: (ec.SECP384R1(), hashes.SHA384(), sha384),
    P521: (ec.SECP521R1(), hashes.SHA512(), sha512),
}
SIGNING = pytest.mark.parametrize("curve", [P256, P384], ids=str)


def device_signer(curve: Curve, x: int) -> Callable[[bytes], bytes]:
    """A device's ECDSA, played by the library over a digest as it is."""
    library, algorithm, _ = LIBRARY[curve]
    key = ec.derive_private_key(x, library)

    def sign(digest: bytes) -> bytes:
        r, s = decode_dss_signature(key.sign(digest, ec.ECDSA(Prehashed(algorithm))))
        size = curve.scalar_size
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")

    return sign


@pytest.fixture
def make(fake: type, statement: CustodyStatement) -> Callable[..., tuple[DerivedKey, Any]]:
    def build(curve: Curve, x: int, y: int, **how: Any) -> tuple[DerivedKey, Any]:
        device = fake(curve.base.multiply(x), lambda S: S, Use.SIGN, sign=device_signer(curve, x))
        factor = SecretScalar(curve, y)
        return DerivedKey(device, factor, factor_custody=statement, **how), device

    return build


@SIGNING
def test_the_signature_verifies_under_the_derived_key_alone(
    curve: Curve, make: Callable[..., tuple[DerivedKey, Any]]
) -> None:
    """Checked by the library under a public key the library computed from z = xy mod n."""
    library, algorithm, digest_of = LIBRARY[curve]
    for i in range(8):
        x, y = SecretScalar.random(curve).value, SecretScalar.random(curve).value
        key, device = make(curve, x, y)
        digest = digest_of(bytes([i])).digest()
        signature = key.sign(digest)
        size = curve.scalar_size
        r, s = int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
        der, how = encode_dss_signature(r, s), ec.ECDSA(Prehashed(algorithm))
        whole = ec.derive_private_key(x * y % curve.order, library).public_key()
        whole.verify(der, digest, how)
        numbers = whole.public_numbers()
        assert key.public == curve.point(numbers.x, numbers.y)
        with pytest.raises(InvalidSignature):
            ec.derive_private_key(x, library).public_key().verify(der, digest, how)
        assert 0 < s <= curve.order // 2
        assert len(device.signed) == 1
        assert device.signed[0] != digest
        assert key.use is Use.SIGN


@settings(deadline=None)
@given(st.sampled_from([P256, P384, P521]), st.data())
def test_device_digest_is_left_aligned_and_invertible(curve: Curve, data: st.DataObject) -> None:
    size = {P256: 32, P384: 48, P521: 64}[curve]
    digest = data.draw(st.binary(min_size=size, max_size=size).filter(any))
    y = data.draw(st.integers(2, curve.order - 1))
    octets = device_digest(curve, digest, y)
    assert len(octets) == curve.scalar_size
    shift = 7 if curve is P521 else 0
    value = int.from_bytes(octets, "big")
    assert value % (1 << shift) == 0
    e_prime = value >> shift
    assert e_prime < curve.order
    assert e_prime * y % curve.order == int.from_bytes(digest, "big") % curve.order


@settings(deadline=None)
@given(st.sampled_from([P256, P384, P521]), st.data())
def test_finish_multiplies_s_and_makes_it_low(curve: Curve, data: st.DataObject) -> None:
    n, size = curve.order, curve.scalar_size
    r, s, y = (data.draw(st.integers(low, n - 1)) for low in (1, 1, 2))
    signature = finish(curve, r.to_bytes(size, "big") + s.to_bytes(size, "big"), y)
    assert signature[:size] == r.to_bytes(size, "big")
    low = int.from_bytes(signature[size:], "big")
    assert low <= n // 2
    assert low in (s * y % n, -s * y % n)


@pytest.mark.parametrize("curve", LIBRARY, ids=str)
def test_p521_too_by_the_pure_functions(curve: Curve) -> None:
    """The device part by its definition, as no device takes 66-octet digests."""
    digest = LIBRARY[curve][2](b"message").digest()
    x, y, k = 0x1234567 << 200, 0xABCDEF << 190, 0x314159 << 180
    n = curve.order
    octets = device_digest(curve, digest, y)
    e_prime = int.from_bytes(octets, "big") >> (8 * len(octets) - n.bit_length())
    r = curve.base.multiply(k).x % n
    s = pow(k, -1, n) * (e_prime + r * x) % n
    size = curve.scalar_size
    signature = finish(curve, r.to_bytes(size, "big") + s.to_bytes(size, "big"), y)
    Z = curve.base.multiply(x).multiply(y)
    assert derive_public(curve.base.multiply(x), SecretScalar(curve, y)) == Z
    assert verify_prehashed(Z, digest, signature)


@SIGNING
def test_a_wrong_device_is_found_before_anything_is_released(
    curve: Curve, fake: type, statement: CustodyStatement
) -> None:
    liar = fake(curve.base.multiply(5), lambda S: S, Use.SIGN, sign=device_signer(curve, 6))
    key = DerivedKey(liar, SecretScalar(curve, 9), factor_custody=statement)
    with pytest.raises(DeviceError) as caught:
        key.sign(bytes(curve.scalar_size - 1) + b"\1")
    assert caught.value.uri == str(liar.uri)


def test_a_wrong_factor_is_found_before_anything_is_released(
    make: Callable[..., tuple[DerivedKey, Any]],
) -> None:
    """As after a fault in memory: the device's own signature is right, the derived one is not."""
    key, device = make(P256, 5, 9)
    key.public = P256.base.multiply(46)
    with pytest.raises(DeviceError, match="derived signature") as caught:
        key.sign(sha256(b"").digest())
    assert caught.value.uri == str(device.uri)


DIGESTS = {
    "empty": b"",
    "one octet short": bytes(46) + b"\1",
    "one octet long": bytes(48) + b"\1",
    "of another hash": sha512(b"").digest(),
    "zero": bytes(48),
    "the group order": P384.order.to_bytes(48, "big"),
}


@pytest.mark.parametrize("digest", DIGESTS.values(), ids=DIGESTS)
def test_refused_digests(digest: bytes, make: Callable[..., tuple[DerivedKey, Any]]) -> None:
    key, device = make(P384, 5, 9)
    with pytest.raises(FormatError):
        key.sign(digest)
    assert device.signed == []


@pytest.mark.parametrize("y", [0, 1, P384.order, P384.order + 1])
def test_factors_that_derive_nothing(y: int) -> None:
    with pytest.raises(UnsupportedError):
        device_digest(P384, sha384(b"").digest(), y)
    with pytest.raises(UnsupportedError):
        finish(P384, bytes(47) + b"\1" + bytes(47) + b"\1", y)


def test_a_factor_of_one_would_publish_the_device_key(
    make: Callable[..., tuple[DerivedKey, Any]],
) -> None:
    with pytest.raises(UnsupportedError, match="neither 0 nor 1"):
        make(P384, 5, 1)


ONE, N = (1).to_bytes(48, "big"), P384.order.to_bytes(48, "big")
SIGNATURES = {
    "empty": b"",
    "short": (ONE + ONE)[:-1],
    "long": ONE + ONE + b"\0",
    "r = 0": bytes(48) + ONE,
    "s = 0": ONE + bytes(48),
    "r = n": N + ONE,
    "s = n": ONE + N,
}


@pytest.mark.parametrize("signature", SIGNATURES.values(), ids=SIGNATURES)
def test_refused_device_signatures(signature: bytes) -> None:
    with pytest.raises(FormatError):
        finish(P384, signature, 9)


@pytest.mark.parametrize("curve", [P521, ED448, X25519], ids=str)
def test_curves_without_derivation(curve: Curve, fake: type, statement: CustodyStatement) -> None:
    device = fake(curve.base, lambda S: S, Use.SIGN)
    with pytest.raises(UnsupportedError) as caught:
        DerivedKey(device, SecretScalar(P521, 9), factor_custody=statement)
    assert caught.value.hint


def test_derive_public_refusals() -> None:
    with pytest.raises(UnsupportedError):
        derive_public(X25519.base, SecretScalar(X25519, 9))
    with pytest.raises(InvalidPointError):
        derive_public(P256.base, SecretScalar(P384, 9))
    with pytest.raises(InvalidPointError):
        derive_public(P256.neutral, SecretScalar(P256, 9))


def test_an_agreement_key_is_no_base(fake: type, statement: CustodyStatement) -> None:
    with pytest.raises(UnsupportedError, match="from a signature key"):
        DerivedKey(fake(P256.base, lambda S: S), SecretScalar(P256, 9), factor_custody=statement)


def test_custody_is_the_device_share_alone(
    make: Callable[..., tuple[DerivedKey, Any]], statement: CustodyStatement
) -> None:
    key, device = make(P256, 5, 9)
    whole = key.custody()
    assert whole.theft is CustodyClass.GENERATED
    assert whole.shares == (device.custody(), statement)
    assert not whole.proved
    assert make(P256, 5, 9, proved=True)[0].custody().proved


def test_no_factor_is_shown(make: Callable[..., tuple[DerivedKey, Any]]) -> None:
    key, _ = make(P256, 5, 0xDEADBEEFCAFE)
    for text in (repr(key), str(key), repr(vars(key))):
        assert "deadbeefcafe" not in text.lower()
        assert str(0xDEADBEEFCAFE) not in text


def test_a_point_is_public(make: Callable[..., tuple[DerivedKey, Any]]) -> None:
    assert isinstance(make(P256, 5, 9)[0].public, Point)
