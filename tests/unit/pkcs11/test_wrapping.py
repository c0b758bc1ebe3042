"""What travels to a token opens to the share, for whoever has the token's key and nobody else."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP
from cryptography.hazmat.primitives.asymmetric.x448 import X448PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, HashAlgorithm
from cryptography.hazmat.primitives.keywrap import (
    InvalidUnwrap,
    aes_key_unwrap,
    aes_key_unwrap_with_padding,
)
from cryptography.hazmat.primitives.serialization import load_der_private_key
from hypothesis import given
from hypothesis import strategies as st

from mesh_hsm.curves import SecretScalar, curve
from mesh_hsm.errors import DeviceError
from mesh_hsm_pkcs11 import wrapping

OWN = rsa.generate_private_key(65537, 2048)
CURVES = ("P-256", "P-384", "P-521", "X25519", "X448")
DIGESTS = (SHA256(), SHA1())


def share_of(algorithm: str, scalar: int) -> SecretScalar:
    return SecretScalar(curve(algorithm), scalar % curve(algorithm).order)


@pytest.mark.parametrize("digest", DIGESTS, ids=lambda digest: digest.name)
@pytest.mark.parametrize("scalar", [1, 2**200 + 7, -1])
@pytest.mark.parametrize("algorithm", CURVES)
def test_the_owner_of_the_transport_key_opens_it(
    algorithm: str, scalar: int, digest: HashAlgorithm
) -> None:
    share = share_of(algorithm, scalar)
    wrapped = wrapping.wrap(share, OWN.public_key(), digest)
    key = OWN.decrypt(wrapped.key, OAEP(MGF1(digest), digest, None))
    assert len(key) == 32
    opened = load_der_private_key(aes_key_unwrap_with_padding(key, wrapped.share), None)
    if isinstance(opened, ec.EllipticCurvePrivateKey):
        assert opened.private_numbers().private_value == share.value
    else:
        assert isinstance(opened, X25519PrivateKey | X448PrivateKey)
        octets = opened.public_key().public_bytes_raw()
        assert octets == share.public().agreement_octets()
    with pytest.raises(InvalidUnwrap):  # RFC 3394's check value is another than RFC 5649's
        aes_key_unwrap(key, wrapped.share)


def test_no_two_wraps_are_alike() -> None:
    share = share_of("P-384", 4711)
    made = [wrapping.wrap(share, OWN.public_key(), SHA256()) for _ in range(4)]
    assert len({one.key for one in made}) == len({one.share for one in made}) == 4


@pytest.mark.parametrize("algorithm", ["P-256", "P-384", "P-521"])
def test_a_value_of_a_nist_curve_has_full_width(algorithm: str) -> None:
    size = {"P-256": 32, "P-384": 48, "P-521": 66}[algorithm]
    assert wrapping.value(share_of(algorithm, 0x0102)) == bytes(size - 2) + b"\1\2"


@given(st.sampled_from(["X25519", "X448"]), st.integers(0, 2**249))
def test_a_montgomery_value_survives_clamping_and_is_the_share_up_to_sign(
    algorithm: str, more: int
) -> None:
    n = curve(algorithm).order
    share = share_of(algorithm, n // 3 + more)  # those next to 0 have no such form
    octets = wrapping.value(share)
    c = int.from_bytes(octets, "little")
    assert c % n in (share.value, n - share.value)
    if algorithm == "X25519":
        assert (c % 8, c >> 254, len(octets)) == (0, 1, 32)
    else:
        assert (c % 4, c >> 447, len(octets)) == (0, 1, 56)


def numbers() -> tuple[int, int]:
    public = OWN.public_key().public_numbers()
    return public.n, public.e


N, E = numbers()
BAD_KEYS = {
    "nothing": (0, E),
    "too short": (N >> 1025, E),
    "one bit too short": (N >> 1 | 1, E),
    "an even exponent": (N, 65536),
    "exponent one": (N, 1),
    "no exponent": (N, 0),
}


@pytest.mark.parametrize("name", BAD_KEYS)
def test_nothing_is_wrapped_to_what_is_no_good_key(name: str) -> None:
    modulus, exponent = (number.to_bytes(256, "big") for number in BAD_KEYS[name])
    with pytest.raises(DeviceError):
        wrapping.transport_key(modulus, exponent)


def test_a_good_key_is_read_as_the_token_tells_it() -> None:
    read = wrapping.transport_key(b"\0" + N.to_bytes(256, "big"), b"\1\0\1")
    assert read == OWN.public_key()
    assert wrapping.transport_key(N.to_bytes(256, "big"), b"\0\1\0\1") == read
