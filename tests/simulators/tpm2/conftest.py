"""A software TPM, and tokens opened on it. Every test ends with nothing of ours in the TPM."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mesh_hsm.secret_source import FixedSecrets, SecretKind, SecretSource
from mesh_hsm.testing.swtpm import Swtpm
from mesh_hsm.testing.tpm_wire import Tap
from mesh_hsm.uri import Uri
from mesh_hsm_tpm2.provider import Tpm2Provider
from mesh_hsm_tpm2.token import Tpm2Token

PIN = b"correct PIN"
NEW_PIN = b"another PIN"
Open = Callable[..., Tpm2Token]


def answers(pin: bytes = PIN, new: bytes | None = None, *, last_try: bool = False) -> FixedSecrets:
    return FixedSecrets({SecretKind.PIN: pin, SecretKind.NEW_PIN: new or pin}, last_try)


@pytest.fixture
def tap(swtpm: Swtpm, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tap]:
    with swtpm.tapped() as tap:
        monkeypatch.setenv("MESH_HSM_TPM2_TCTI", swtpm.tap_tcti)
        yield tap


@pytest.fixture
def records(tmp_path: Path) -> Path:
    return tmp_path / "records"


@pytest.fixture
def open_token(swtpm: Swtpm, tap: Tap, records: Path) -> Iterator[Open]:
    """Opens tokens; closes them all, then looks for what they left in the TPM."""
    opened: list[Tpm2Token] = []

    def open_token(
        secrets: SecretSource | None = None, folder: Path = records, uri: str = "tpm2:"
    ) -> Tpm2Token:
        token = Tpm2Provider(folder).open(Uri.parse(uri), secrets or answers())
        opened.append(token)
        return token

    yield open_token
    for token in opened:
        token.close()
    assert swtpm.handles() == []


@pytest.fixture
def token(open_token: Open) -> Tpm2Token:
    return open_token()
