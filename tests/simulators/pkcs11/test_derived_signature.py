"""An account's signature, made with a key in an HSM, verified by the openssl command."""

from __future__ import annotations

from pathlib import Path

import pytest
from independent.openssl import verified_by_openssl

from mesh_hsm import dare
from mesh_hsm.curves import Point, SecretScalar, curve
from mesh_hsm.custody import CustodyClass, CustodyStatement, Hardware
from mesh_hsm.dare.strict_json import compact
from mesh_hsm.errors import VerificationError
from mesh_hsm.provider import KeySpec, Use
from mesh_hsm.threshold import DerivedKey
from mesh_hsm.udf import fingerprint
from mesh_hsm_pkcs11.token import Pkcs11Token

from .conftest import SIGN, Counted

FACTOR = CustodyStatement(CustodyClass.SOFTWARE, Hardware.NONE, "this process")


@pytest.mark.parametrize("on", ["P-256", "P-384"])
def test_openssl_verifies_it(token: Pkcs11Token, counted: Counted, on: str, tmp_path: Path) -> None:
    device = token.generate(KeySpec(on, Use.SIGN, "device"))
    key = DerivedKey(device, SecretScalar.random(curve(on)), factor_custody=FACTOR)
    envelope = compact(dare.seal(b"an assertion", signers=[key]))
    verified_by_openssl(envelope, on, key.public.encode(), tmp_path)
    with pytest.raises(AssertionError, match="Verification failure"):
        verified_by_openssl(envelope, on, device.public.encode(), tmp_path)
    assert counted(lambda: dare.seal(b"another", signers=[key])) == SIGN


def test_one_key_many_accounts(token: Pkcs11Token) -> None:
    """Unlinkable by their public keys; none of them takes another's signature for its own."""
    device = token.generate(KeySpec("P-384", Use.SIGN, "device"))
    accounts = [
        DerivedKey(device, SecretScalar.random(curve("P-384")), factor_custody=FACTOR)
        for _ in range(2)
    ]
    points = [device.public, *(account.public for account in accounts)]
    assert len({point.encode() for point in points}) == 3
    envelope = dare.seal(b"an assertion", signers=[accounts[0]])
    dare.unseal(envelope, trusted=by_fingerprint(accounts[0].public))
    for other in (device.public, accounts[1].public):
        with pytest.raises(VerificationError):
            dare.unseal(envelope, trusted=by_fingerprint(other))
    assert {account.custody().theft for account in accounts} == {CustodyClass.GENERATED}


def by_fingerprint(point: Point) -> dict[bytes, Point]:
    return {fingerprint(point).octets: point}
