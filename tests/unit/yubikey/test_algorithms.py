"""Which keys of a library are keys of ours."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519

from mesh_hsm.errors import CannotVerifyError
from mesh_hsm_yubikey.algorithms import KEY_CURVES, KEY_TYPES
from mesh_hsm_yubikey.points import point_of


def test_the_identifiers_are_pivs() -> None:
    """SP 800-78-4 Table 6-2; the last two are Yubico's."""
    assert {name: int(one) for name, one in KEY_TYPES.items()} == {
        "P-256": 0x11,
        "P-384": 0x14,
        "Ed25519": 0xE0,
        "X25519": 0xE1,
    }
    assert {int(one): curve.name for one, curve in KEY_CURVES.items()} == {
        0x11: "P-256",
        0x14: "P-384",
        0xE0: "Ed25519",
        0xE1: "X25519",
    }


def test_a_public_key_is_a_point() -> None:
    nist = ec.derive_private_key(5, ec.SECP384R1()).public_key()
    assert point_of(nist) == KEY_CURVES[KEY_TYPES["P-384"]].base.multiply(5)
    edwards = ed25519.Ed25519PrivateKey.generate().public_key()
    assert point_of(edwards).encode() == edwards.public_bytes_raw()
    montgomery = x25519.X25519PrivateKey.generate().public_key()
    point = point_of(montgomery)
    assert point.agreement_octets() == montgomery.public_bytes_raw()
    assert not point.is_odd


@pytest.mark.parametrize(
    "key",
    [
        ec.derive_private_key(5, ec.SECP521R1()).public_key(),
        ec.derive_private_key(5, ec.SECP256K1()).public_key(),
        rsa.RSAPublicNumbers(65537, (1 << 2047) | 1).public_key(),
        None,
    ],
    ids=["P-521", "secp256k1", "RSA", "none"],
)
def test_other_keys_are_none(key: object) -> None:
    with pytest.raises(CannotVerifyError, match="none of the curves"):
        point_of(key)
