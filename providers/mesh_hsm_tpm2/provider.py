"""Finds TPMs: the one that this machine has, or the one that a TCTI string names."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final

from mesh_hsm.errors import NotFoundError, ProviderUnavailableError
from mesh_hsm.files import ensure_private_dir
from mesh_hsm.provider import Finding, Token, TokenInfo
from mesh_hsm.secret_source import NoSecrets, SecretSource
from mesh_hsm.uri import Uri
from mesh_hsm_tpm2 import diagnosis, identity
from mesh_hsm_tpm2.connection import Connection, default_tcti
from mesh_hsm_tpm2.storage_root import Pin
from mesh_hsm_tpm2.token import Tpm2Token
from mesh_hsm_tpm2.tpm import Tpm

_NAMES: Final = {"tcti", "key"}


class Tpm2Provider:
    """TPMs: ``tpm2:`` is this machine's (or that of MESH_HSM_TPM2_TCTI), ``tpm2:tcti=…`` another.

    ``records`` holds what we know of the default TPM's keys; another TPM has a folder in it, named
    by its TCTI string. Trusted endorsement roots go into ``ek-roots`` beside the records.
    """

    scheme = "tpm2"

    def __init__(self, records: Path) -> None:
        self._records = records

    def tokens(self) -> Sequence[TokenInfo]:
        """The default TPM, asked who it is. Raises ``ProviderUnavailableError`` without one."""
        with self.open(Uri("tpm2"), NoSecrets()) as token:
            return [token.info]

    def open(self, uri: Uri, secrets: SecretSource) -> Token:
        """Open a TPM. Nothing is asked of a person, and nothing is pinned, before a key is."""
        names = {name for name, _ in uri.attributes + uri.query}
        if uri.scheme != self.scheme or not names <= _NAMES:
            raise NotFoundError(
                "no TPM has this name", hint="write tpm2: or tpm2:tcti=swtpm:path=…", uri=str(uri)
            )
        tcti = uri.get("tcti")
        folder = self._folder(tcti)
        connection = Connection(tcti or default_tcti())
        tpm = Tpm(connection, folder, secrets)
        try:
            ensure_private_dir(folder)
            return Tpm2Token(_info(tpm, uri.without("key")), tpm)
        except BaseException:
            tpm.close()
            raise

    def diagnose(self) -> Sequence[Finding]:
        """What is wrong with the default TPM and its set-up; the codes are in ``diagnosis``."""
        try:
            connection = Connection(default_tcti())
        except ProviderUnavailableError as error:
            return [diagnosis.unreachable(error)]
        tpm = Tpm(connection, self._records, NoSecrets())
        try:
            return list(diagnosis.of_tpm(tpm, self._records))
        finally:
            tpm.close()

    def _folder(self, tcti: str | None) -> Path:
        if tcti is None:
            return self._records
        return self._records / f"tcti-{sha256(tcti.encode()).hexdigest()[:16]}"


def _info(tpm: Tpm, uri: Uri) -> TokenInfo:
    found = tpm.run(identity.read, str(uri))
    pin: Pin | None = tpm.pin
    return TokenInfo(
        uri=uri,
        label=f"TPM 2.0 ({found.model or found.manufacturer})",
        manufacturer=found.manufacturer,
        model=found.model,
        serial=pin.endorsement if pin else None,
        firmware=found.firmware,
        hardware=found.hardware(pin),
    )
