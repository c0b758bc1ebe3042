"""An account's signature, made with a key in the TPM, verified by the openssl command."""

from __future__ import annotations

from pathlib import Path

import pytest
from independent.openssl import verified_by_openssl

from mesh_hsm import dare
from mesh_hsm.curves import SecretScalar, curve
from mesh_hsm.custody import CustodyClass, CustodyStatement, Hardware
from mesh_hsm.dare.strict_json import compact
from mesh_hsm.provider import KeySpec, Use
from mesh_hsm.threshold import DerivedKey
from mesh_hsm_tpm2.token import Tpm2Token

FACTOR = CustodyStatement(CustodyClass.SOFTWARE, Hardware.NONE, "this process")


@pytest.mark.parametrize("on", ["P-256", "P-384"])
def test_openssl_verifies_it(token: Tpm2Token, on: str, tmp_path: Path) -> None:
    device = token.generate(KeySpec(on, Use.SIGN, "device"))
    key = DerivedKey(device, SecretScalar.random(curve(on)), factor_custody=FACTOR)
    envelope = compact(dare.seal(b"an assertion", signers=[key]))
    verified_by_openssl(envelope, on, key.public.encode(), tmp_path)
    with pytest.raises(AssertionError, match="Verification failure"):
        verified_by_openssl(envelope, on, device.public.encode(), tmp_path)
