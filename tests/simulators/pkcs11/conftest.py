"""A SoftHSM token whose every call is counted, and tokens opened on it.

Every test ends with a look for what it left behind: objects that no record accounts for, secrets
that were derived and not destroyed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from bare_module import BareModule
from interposer import Interposer
from softhsm_bench import SofthsmBench

from mesh_hsm.secret_source import FixedSecrets, SecretKind, SecretSource
from mesh_hsm.testing.softhsm import Softhsm
from mesh_hsm.testing.swtpm import Swtpm
from mesh_hsm.testing.tpm_wire import Tap
from mesh_hsm.uri import Uri
from mesh_hsm_pkcs11 import Pkcs11Provider
from mesh_hsm_pkcs11.token import Pkcs11Token

AGREE = ["C_DeriveKey", "C_GetAttributeValue", "C_DestroyObject"]
"""What a warm agreement asks of the module (DESIGN §8)."""

SIGN = ["C_SignInit", "C_Sign"]
"""What a warm signature asks of it."""


def answers(pin: str, new: str | None = None, *, last_try: bool = False) -> FixedSecrets:
    """The PIN, and the new one where one is set."""
    given = {SecretKind.PIN: pin.encode(), SecretKind.NEW_PIN: (new or pin).encode()}
    return FixedSecrets(given, last_try)


@dataclass
class Hsm:
    """The rig, the interposer before its module, and where records are kept."""

    rig: Softhsm
    interposer: Interposer
    records: Path
    opened: list[Pkcs11Token] = field(default_factory=list)

    def open(
        self,
        secrets: SecretSource | None = None,
        *,
        uri: str | None = None,
        records: Path | None = None,
    ) -> Pkcs11Token:
        """Open a token, the rig's own unless another is named; it is closed with the test."""
        provider = Pkcs11Provider(records or self.records)
        token = provider.open(Uri.parse(uri or self.rig.uri), secrets or answers(self.rig.pin))
        assert isinstance(token, Pkcs11Token)
        self.opened.append(token)
        return token

    # -- another part of this program, which knows nothing of the provider ------------------------

    @property
    def bare(self) -> BareModule:
        """The same module, called past the provider."""
        return BareModule(self.interposer.path)

    @property
    def slot(self) -> int:
        """The slot of the rig's own token."""
        bare = self.bare
        return next(
            s for s in bare.slots() if bare.token_info(s).serial.decode() == self.rig.serial
        )

    def elsewhere(self) -> int:
        """A session that the provider does not know of."""
        return self.bare.open(self.slot)

    def change_pin_elsewhere(self, old: str, new: str) -> None:
        """C_SetPIN, behind the provider's back."""
        given = old.encode(), len(old), new.encode(), len(new)
        self.bare("C_SetPIN", self.elsewhere(), *given)

    # -- what is left ----------------------------------------------------------------------------

    def leftovers(self) -> Collection[object]:
        """What lies on the token or in the records that no key accounts for."""
        return SofthsmBench(self.rig, self.interposer, self.records).leftovers()

    def close(self) -> None:
        """Close every token."""
        for token in self.opened:
            token.close()


def slot_of(token: Pkcs11Token) -> int:
    """The slot in which an opened token is now."""
    return token._connection.found.facts.slot_id


@pytest.fixture
def hsm(softhsm_token: Softhsm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hsm]:
    with Interposer(softhsm_token.module, tmp_path / "module") as interposer:
        monkeypatch.setenv("MESH_HSM_PKCS11_MODULE", str(interposer.path))
        hsm = Hsm(softhsm_token, interposer, tmp_path / "records")
        yield hsm
        interposer.reset()
        leftovers = list(hsm.leftovers())
        hsm.close()
        assert leftovers == []


@pytest.fixture
def token(hsm: Hsm) -> Pkcs11Token:
    return hsm.open()


@pytest.fixture
def tap(swtpm: Swtpm, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tap]:
    """A TPM, and a tap on its wire."""
    with swtpm.tapped() as tap:
        monkeypatch.setenv("MESH_HSM_TPM2_TCTI", swtpm.tap_tcti)
        yield tap


Counted = Callable[[Callable[[], object]], Sequence[str]]


@pytest.fixture
def counted(hsm: Hsm) -> Counted:
    """The calls that a job asks of the module."""

    def counted(job: Callable[[], object]) -> Sequence[str]:
        with hsm.interposer.counted() as calls:
            job()
        return calls

    return counted
