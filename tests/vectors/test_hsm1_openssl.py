"""A derived signature verified by the openssl command: over M, under the derived public key."""

from __future__ import annotations

from pathlib import Path

import pytest
from hsm1_answers import SOFTWARE
from independent.openssl import verified_by_openssl

from mesh_hsm import dare
from mesh_hsm.curves import SecretScalar, curve
from mesh_hsm.dare.strict_json import compact
from mesh_hsm.provider import KeySpec, Use
from mesh_hsm.secret_source import FixedSecrets, SecretKind
from mesh_hsm.threshold import DerivedKey
from mesh_hsm.uri import Uri
from mesh_hsm_software.provider import SoftwareProvider

PASSPHRASE = b"correct horse"
SECRETS = FixedSecrets({SecretKind.PASSPHRASE: PASSPHRASE, SecretKind.NEW_PASSPHRASE: PASSPHRASE})


@pytest.mark.parametrize("on", ["P-256", "P-384"])
def test_openssl_verifies_a_derived_signature(on: str, tmp_path: Path) -> None:
    with SoftwareProvider(tmp_path / "records").open(Uri.parse("soft:"), SECRETS) as token:
        device = token.generate(KeySpec(on, Use.SIGN, "device"))
        key = DerivedKey(device, SecretScalar.random(curve(on)), factor_custody=SOFTWARE)
        for _ in range(4):  # both signs of s come up
            envelope = compact(dare.seal(b"an assertion", signers=[key]))
            verified_by_openssl(envelope, on, key.public.encode(), tmp_path)
        with pytest.raises(AssertionError, match="Verification failure"):
            verified_by_openssl(envelope, on, device.public.encode(), tmp_path)
