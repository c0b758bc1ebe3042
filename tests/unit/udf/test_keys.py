"""DER forms and fingerprints of keys that the published vectors do not cover."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mesh_hsm.curves import X448, X25519, curve
from mesh_hsm.udf import fingerprint, key_info, udf_of


@pytest.mark.parametrize(
    ("name", "library"),
    [("P-256", ec.SECP256R1()), ("P-384", ec.SECP384R1()), ("P-521", ec.SECP521R1())],
)
def test_nist_keys_have_the_ordinary_form(name: str, library: ec.EllipticCurve) -> None:
    public = ec.derive_private_key(7, library).public_key()
    point = curve(name).decode(public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))
    assert key_info(point) == public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def test_x25519_contributes_u_without_its_sign() -> None:
    point = X25519.base.multiply(5)
    assert key_info(point)[-32:] == point.encode()[:32]
    assert fingerprint(point) == fingerprint(-point)


def test_x448_contributes_its_sign() -> None:
    point = X448.base.multiply(5)
    assert key_info(point)[-57:] == point.encode()
    assert fingerprint(point) != fingerprint(-point)


def test_a_udf_is_the_fingerprint_at_140_bits() -> None:
    point = curve("P-384").base
    assert udf_of(point) == fingerprint(point).udf(140)
    assert len(udf_of(point)) == 34
