"""Wrapping a share, checked by another implementation that holds the storage key's private part."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st
from tpm2_pytss import (
    TPM2B_ENCRYPTED_SECRET,
    TPM2B_PRIVATE,
    TPM2B_PUBLIC,
    TPM2B_SENSITIVE,
    TPMT_PUBLIC,
    TPMT_SENSITIVE,
)
from tpm2_pytss.utils import unwrap

from mesh_hsm.curves import curve
from mesh_hsm.custody import PinPolicy
from mesh_hsm.errors import FormatError, UnsupportedError
from mesh_hsm.provider import KeySpec, Use
from mesh_hsm_tpm2 import templates
from mesh_hsm_tpm2.structures import Attr, PublicArea
from mesh_hsm_tpm2.wrapping import WrappedShare, wrap_share

SPEC = KeySpec("P-384", Use.ENCRYPT, "share")


def storage_key() -> tuple[ec.EllipticCurvePrivateKey, PublicArea]:
    private = ec.generate_private_key(ec.SECP256R1())
    numbers = private.public_key().public_numbers()
    unique = (numbers.x.to_bytes(32, "big"), numbers.y.to_bytes(32, "big"))
    return private, replace(templates.STORAGE_ROOT, unique=unique)


PRIVATE, PARENT = storage_key()
STORAGE_KEY = PARENT.marshal()


def opened(share: WrappedShare) -> TPM2B_SENSITIVE:
    """By tpm2-pytss, as the TPM would."""
    number = PRIVATE.private_numbers().private_value.to_bytes(32, "big")
    sensitive, _ = TPMT_SENSITIVE.unmarshal(
        b"\x00\x23\x00\x00\x00\x00" + len(number).to_bytes(2, "big") + number
    )
    return unwrap(
        TPMT_PUBLIC.unmarshal(STORAGE_KEY)[0],
        sensitive,
        TPM2B_PUBLIC(publicArea=TPMT_PUBLIC.unmarshal(share.public)[0]),
        TPM2B_PRIVATE(share.duplicate),
        TPM2B_ENCRYPTED_SECRET(share.seed),
    )


@pytest.mark.parametrize("algorithm", ["P-256", "P-384", "P-521"])
@pytest.mark.parametrize("scalar", [1, 2**200 + 7, -1])
@pytest.mark.parametrize("auth", [b"", b"initial"])
def test_another_implementation_unwraps_the_share(algorithm: str, scalar: int, auth: bytes) -> None:
    on = curve(algorithm)
    scalar %= on.order
    spec = replace(SPEC, algorithm=algorithm)
    share = wrap_share(STORAGE_KEY, scalar, spec, initial_auth=auth)
    sensitive = opened(share).sensitiveArea
    assert bytes(sensitive.sensitive.ecc) == on.scalar_octets(scalar)
    assert bytes(sensitive.authValue) == auth
    assert PublicArea.parse(share.public).point == on.base.multiply(scalar)
    assert (share.has_auth, share.parent) == (bool(auth), PARENT.name)
    assert not PublicArea.parse(share.public).attributes & templates.GENERATED


def test_no_two_wraps_are_alike() -> None:
    shares = [wrap_share(STORAGE_KEY, 4711, SPEC) for _ in range(4)]
    assert len({share.seed for share in shares}) == 4
    assert len({share.duplicate for share in shares}) == 4


def test_a_wrap_belongs_to_its_public_area() -> None:
    """The dealer's template, and so its policy, is under the wrap's integrity check."""
    share = wrap_share(STORAGE_KEY, 4711, SPEC)
    area = replace(PublicArea.parse(share.public), attributes=Attr.DECRYPT)
    with pytest.raises(InvalidSignature):
        opened(replace(share, public=area.marshal()))


BAD_PARENTS = {
    "empty": b"",
    "a template without key": templates.STORAGE_ROOT.marshal(),
    "not a parent": replace(PARENT, storage=False).marshal(),
    "another curve": replace(PARENT, algorithm="P-384").marshal(),
    "one that can leave": replace(PARENT, attributes=PARENT.attributes & ~Attr.FIXED_TPM).marshal(),
    "unrestricted": replace(PARENT, attributes=PARENT.attributes & ~Attr.RESTRICTED).marshal(),
    "off the curve": replace(PARENT, unique=(PARENT.unique[0], bytes(31) + b"\1")).marshal(),
}


@pytest.mark.parametrize("name", BAD_PARENTS)
def test_bad_parents_are_refused(name: str) -> None:
    with pytest.raises(FormatError):
        wrap_share(BAD_PARENTS[name], 4711, SPEC)


def test_bad_shares_are_refused() -> None:
    n = curve("P-384").order
    for scalar in (0, -1, n, n + 1):
        with pytest.raises(FormatError):
            wrap_share(STORAGE_KEY, scalar, SPEC)
    with pytest.raises(UnsupportedError):
        wrap_share(STORAGE_KEY, 5, replace(SPEC, algorithm="X25519"))
    with pytest.raises(FormatError):
        wrap_share(STORAGE_KEY, 5, replace(SPEC, pcrs=(7,)))
    with pytest.raises(FormatError):
        wrap_share(STORAGE_KEY, 5, SPEC, pcr_digest=bytes(32))
    with pytest.raises(FormatError):
        wrap_share(STORAGE_KEY, 5, SPEC, initial_auth=b"x" * 33)


def test_the_policy_asked_for_is_in_the_template() -> None:
    spec = replace(SPEC, pin=PinPolicy.ONCE, pcrs=(7,))
    area = PublicArea.parse(wrap_share(STORAGE_KEY, 5, spec, pcr_digest=bytes(32)).public)
    assert len(area.policy) == 32
    assert not area.attributes & Attr.USER_WITH_AUTH


octets = st.binary(max_size=64)
shares = st.builds(WrappedShare, octets, octets, octets, octets, st.booleans())


@given(shares)
def test_json_comes_back(share: WrappedShare) -> None:
    assert WrappedShare.from_json(json.dumps(share.to_json()).encode()) == share


GOOD = wrap_share(STORAGE_KEY, 4711, SPEC).to_json()
BAD_JSON = {
    "empty": b"",
    "not an object": b"[]",
    "not JSON": b"{",
    "member missing": json.dumps({**GOOD, "seed": None}).encode(),
    "not base64": json.dumps({**GOOD, "seed": "***"}).encode(),
    "member too many": json.dumps({**GOOD, "more": "AA=="}).encode(),
    "has_auth no boolean": json.dumps({**GOOD, "has_auth": 1}).encode(),
    "has_auth missing": json.dumps({k: v for k, v in GOOD.items() if k != "has_auth"}).encode(),
    "not UTF-8": b"\xff",
}


@pytest.mark.parametrize("name", BAD_JSON)
def test_bad_json_is_refused(name: str) -> None:
    with pytest.raises(FormatError):
        WrappedShare.from_json(BAD_JSON[name])


@settings(max_examples=30)
@given(st.binary(max_size=100))
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(FormatError):
        WrappedShare.from_json(noise)


def test_wrapping_needs_no_tpm_library() -> None:
    """An administrator's machine need not have tpm2-pytss; the provider then says it is absent."""
    script = """
import sys
sys.modules["tpm2_pytss"] = None
from mesh_hsm_tpm2.wrapping import wrap_share
import mesh_hsm_tpm2
try:
    mesh_hsm_tpm2.Tpm2Provider
except ImportError as error:
    assert error.name == "tpm2_pytss", error
    print("absent", end="")
try:
    mesh_hsm_tpm2.nothing
except AttributeError:
    print(", as said", end="")
"""
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert said.stdout == "absent, as said"
