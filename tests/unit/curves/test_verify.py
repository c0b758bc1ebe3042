from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mesh_hsm.curves import (
    CURVES,
    ED448,
    ED25519,
    P256,
    P384,
    P521,
    X448,
    X25519,
    Curve,
    Point,
    ecdsa_digest_size,
    verify_ed25519ctx,
    verify_prehashed,
)
from mesh_hsm.errors import FormatError, InvalidPointError, UnsupportedError

NIST: dict[Curve, tuple[ec.EllipticCurve, hashes.HashAlgorithm]] = {
    P256: (ec.SECP256R1(), hashes.SHA256()),
    P384: (ec.SECP384R1(), hashes.SHA384()),
    P521: (ec.SECP521R1(), hashes.SHA512()),
}
# RFC 8032 §7.2, "foo": the only published vectors with a context.
CTX_PUBLIC = "dfc9425e4f968f7f0c29f0259cf5f9aed6851c2bb4ad8bfb860cfee0ab248292"
CTX_MESSAGE = "f726936d19c800494e3fdaff20b276a8"
CTX_SIGNATURES = {
    b"foo": "55a4cc2f70a54e04288c5f4cd1e45a7bb520b36292911876cada7323198dd87a"
    "8b36950b95130022907a7fb7c4e9b2d5f6cca685a587b4b21f4b888e4e7edb0d",
    b"bar": "fc60d5872fc46b3aa69f8b5b4351d5808f92bcc044606db097abab6dbcb1aee3"
    "216c48e8b3b66431b5b186d1d28f8ee15a5ca2df6668346291c2043d4eb3e90d",
}


def flip(octets: bytes, position: int) -> bytes:
    return octets[:position] + bytes([octets[position] ^ 1]) + octets[position + 1 :]


def test_digest_sizes() -> None:
    assert {c.name: ecdsa_digest_size(c) for c in CURVES.values()} == {
        "P-256": 32,
        "P-384": 48,
        "P-521": 64,
        "X25519": None,
        "X448": None,
        "Ed25519": None,
        "Ed448": None,
    }


@pytest.mark.parametrize("curve", NIST, ids=repr)
class TestEcdsa:
    def sign(self, curve: Curve) -> tuple[Point, bytes, bytes]:
        library_curve, algorithm = NIST[curve]
        key = ec.generate_private_key(library_curve)
        digest = bytes(range(algorithm.digest_size))
        r, s = decode_dss_signature(key.sign(digest, ec.ECDSA(Prehashed(algorithm))))
        numbers = key.public_key().public_numbers()
        width = curve.field_size
        signature = r.to_bytes(width, "big") + s.to_bytes(width, "big")
        return curve.point(numbers.x, numbers.y), digest, signature

    def test_a_right_one_with_either_s(self, curve: Curve) -> None:
        public, digest, signature = self.sign(curve)
        assert verify_prehashed(public, digest, signature)
        width = curve.field_size
        s = curve.order - int.from_bytes(signature[width:], "big")
        assert verify_prehashed(public, digest, signature[:width] + s.to_bytes(width, "big"))

    def test_wrong_ones(self, curve: Curve) -> None:
        public, digest, signature = self.sign(curve)
        width = curve.field_size
        n = curve.order.to_bytes(width, "big")
        r, s = signature[:width], signature[width:]
        assert not verify_prehashed(-public, digest, signature)
        assert not verify_prehashed(public, flip(digest, 0), signature)
        for wrong in (
            flip(signature, width - 1),
            flip(signature, 2 * width - 1),
            s + r,
            bytes(2 * width),
            bytes(width) + s,
            r + bytes(width),
            n + s,
            r + n,
            b"\xff" * (2 * width),
            signature[:-1],
            signature + b"\x00",
            r + b"\x00" + s,
            b"",
        ):
            assert not verify_prehashed(public, digest, wrong)

    def test_digest_of_another_length(self, curve: Curve) -> None:
        public, digest, signature = self.sign(curve)
        for wrong in (digest[:-1], digest + b"\x00", b""):
            with pytest.raises(FormatError, match="digest"):
                verify_prehashed(public, wrong, signature)

    def test_neutral_key(self, curve: Curve) -> None:
        with pytest.raises(InvalidPointError):
            verify_prehashed(curve.neutral, bytes(ecdsa_digest_size(curve) or 0), b"")


@pytest.mark.parametrize(
    ("curve", "key"),
    [(ED25519, Ed25519PrivateKey.generate()), (ED448, Ed448PrivateKey.generate())],
    ids=["Ed25519", "Ed448"],
)
def test_eddsa(curve: Curve, key: Ed25519PrivateKey | Ed448PrivateKey) -> None:
    raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    public, message = curve.decode(raw), b"a message, not a digest"
    signature = key.sign(message)
    assert verify_prehashed(public, message, signature)
    assert not verify_prehashed(public, message + b".", signature)
    assert not verify_prehashed(-public, message, signature)
    for wrong in (flip(signature, 0), flip(signature, 40), signature[:-1], b""):
        assert not verify_prehashed(public, message, wrong)
    with pytest.raises(InvalidPointError):
        verify_prehashed(curve.neutral, message, signature)


def test_montgomery_keys_do_not_sign() -> None:
    for curve in (X25519, X448):
        with pytest.raises(UnsupportedError):
            verify_prehashed(curve.base, b"", b"")


class TestEd25519ctx:
    public = ED25519.decode(bytes.fromhex(CTX_PUBLIC))
    message = bytes.fromhex(CTX_MESSAGE)

    @pytest.mark.parametrize("context", CTX_SIGNATURES, ids=bytes.decode)
    def test_rfc_8032(self, context: bytes) -> None:
        signature = bytes.fromhex(CTX_SIGNATURES[context])
        assert verify_ed25519ctx(self.public, self.message, signature, context)
        assert not verify_ed25519ctx(self.public, self.message, signature, b"other")
        assert not verify_ed25519ctx(self.public, self.message, signature)
        assert not verify_ed25519ctx(self.public, self.message + b".", signature, context)
        assert not verify_ed25519ctx(-self.public, self.message, signature, context)
        # Not pure Ed25519, and the other way round.
        assert not verify_prehashed(self.public, self.message, signature)

    def test_malleated_signatures(self) -> None:
        signature = bytes.fromhex(CTX_SIGNATURES[b"foo"])
        s = int.from_bytes(signature[32:], "little") + ED25519.order
        for wrong in (
            signature[:32] + s.to_bytes(32, "little"),
            flip(signature, 0),
            flip(signature, 63),
            signature[:-1],
            signature + b"\x00",
            b"",
        ):
            assert not verify_ed25519ctx(self.public, self.message, wrong, b"foo")

    def test_a_pure_signature_is_not_ctx(self) -> None:
        key = Ed25519PrivateKey.generate()
        raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        public = ED25519.decode(raw)
        assert verify_prehashed(public, b"m", key.sign(b"m"))
        assert not verify_ed25519ctx(public, b"m", key.sign(b"m"))

    def test_bad_arguments(self) -> None:
        with pytest.raises(UnsupportedError):
            verify_ed25519ctx(ED448.base, b"", bytes(64))
        with pytest.raises(FormatError, match="255"):
            verify_ed25519ctx(self.public, b"", bytes(64), bytes(256))
        assert not verify_ed25519ctx(self.public, b"", bytes(64), bytes(255))
        # With a neutral key, R = sG would pass for every message.
        R = ED25519.base.multiply(5).encode()
        with pytest.raises(InvalidPointError):
            verify_ed25519ctx(ED25519.neutral, b"m", R + ED25519.scalar_octets(5))


def test_the_context_prefix_is_the_rfcs() -> None:
    # An independent signer: r·B and k·a mod n with the clamped scalar, RFC 8032 §5.1.6.
    seed = bytes(32)
    expanded = hashlib.sha512(seed).digest()
    a = int.from_bytes(expanded[:32], "little") & ((1 << 254) - 8) | 1 << 254
    A = ED25519.base.multiply(a)
    raw = Ed25519PrivateKey.from_private_bytes(seed).public_key()
    assert raw.public_bytes(Encoding.Raw, PublicFormat.Raw) == A.encode()
    for context in (b"", b"c" * 255):
        prefix = b"SigEd25519 no Ed25519 collisions\x00" + bytes([len(context)]) + context
        R = ED25519.base.multiply(7).encode()
        k = int.from_bytes(hashlib.sha512(prefix + R + A.encode() + b"m").digest(), "little")
        s = (7 + k * a) % ED25519.order
        assert verify_ed25519ctx(A, b"m", R + ED25519.scalar_octets(s), context)
