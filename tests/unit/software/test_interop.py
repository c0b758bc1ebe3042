"""A software key signs envelopes in the published form too."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh_hsm.dare import PUBLISHED, encode, verify
from mesh_hsm.errors import UnsupportedError
from mesh_hsm.provider import DeviceKey, KeySpec, Token, Use
from mesh_hsm.secret_source import FixedSecrets, SecretKind
from mesh_hsm.udf import fingerprint
from mesh_hsm.uri import Uri
from mesh_hsm_software import SoftwareProvider
from mesh_hsm_software.key import SoftwareKey

PASSPHRASE = b"correct horse battery staple"
ANSWERS = {SecretKind.PASSPHRASE: PASSPHRASE, SecretKind.NEW_PASSPHRASE: PASSPHRASE}


@pytest.fixture
def token(tmp_path: Path) -> Iterator[Token]:
    with SoftwareProvider(tmp_path).open(Uri("soft"), FixedSecrets(ANSWERS)) as token:
        yield token


def signer(token: Token, algorithm: str) -> DeviceKey:
    return token.generate(KeySpec(algorithm, Use.SIGN, algorithm.lower()))


@pytest.mark.parametrize("algorithm", ["Ed25519", "Ed448"])
def test_an_envelope_in_the_published_form_verifies(token: Token, algorithm: str) -> None:
    key, sink = signer(token, algorithm), io.BytesIO()
    encode(io.BytesIO(b"for older readers"), sink, signers=[key], dialect=PUBLISHED)
    sink.seek(0)
    report = verify(sink, {fingerprint(key.public).octets: key.public})
    assert [signature.status for signature in report.signers] == ["verified, header not covered"]


def test_no_other_key_signs_with_a_context(token: Token) -> None:
    key = signer(token, "Ed448")
    assert isinstance(key, SoftwareKey)
    with pytest.raises(UnsupportedError, match="only an Ed25519 key"):
        key.sign_ed25519ctx(b"digest")
