"""The TPM provider keeps the contract, on a software TPM."""

from __future__ import annotations

import os
import weakref
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest

from mesh_hsm.custody import PinPolicy
from mesh_hsm.provider import Provider
from mesh_hsm.secret_source import SecretKind
from mesh_hsm.testing.conformance import Bench, CountedPin, ProviderConformance
from mesh_hsm.testing.swtpm import Swtpm
from mesh_hsm.testing.tpm_wire import Command, Tap
from mesh_hsm.uri import Uri
from mesh_hsm_tpm2.provider import Tpm2Provider
from mesh_hsm_tpm2.tpm import Tpm

TRIES, RECOVERY = 5, 1000
TPM_RC_FAILURE = 0x101
FLUSH = Command.FLUSH_CONTEXT.to_bytes(4, "big")
# What stands between a record and the disk; each can fail on a real one.
SYSTEM_CALLS = ("write", "fsync", "replace", "fchmod", "fdopen")


class TpmBench(Bench):
    """One software TPM behind a tap, and a folder of records."""

    answers = {  # noqa: RUF012  the base class says Mapping
        SecretKind.PIN: b"right PIN 4711",
        SecretKind.NEW_PIN: b"right PIN 4711",
    }
    counted_pin = CountedPin(PinPolicy.ONCE, TRIES, RECOVERY)

    def __init__(self, rig: Swtpm, tap: Tap, folder: Path) -> None:
        self.rig, self.tap, self.folder = rig, tap, folder
        self.uri = Uri("tpm2")
        self._opened: weakref.WeakSet[Tpm] = weakref.WeakSet()

    def provider(self) -> Provider:
        provider = Tpm2Provider(self.folder)
        opened, open_token = self._opened, provider.open

        def remembering(uri, secrets):
            token = open_token(uri, secrets)
            opened.add(token._tpm)
            return token

        provider.open = remembering
        return provider

    def leftovers(self) -> Collection[object]:
        """Handles that no open token holds, and files that belong to no key."""
        held = {
            int(tpm.connection._esapi.tr_get_tpm_handle(handle))
            for tpm in self._opened
            if tpm.connection._esapi is not None
            for handle in tpm._held()
        }
        strays = [hex(handle) for handle in self.rig.handles() if handle not in held]
        names = {path.name for path in self.folder.glob("*")}
        keys = {name.removesuffix(".key.json") for name in names if name.endswith(".key.json")}
        ours = {f"{key}{suffix}" for key in keys for suffix in (".key.json", ".tss2.pem")}
        return strays + sorted(names - ours - {".lock", ".turns", "storage-root.json"})

    def restart(self) -> bool:
        self.rig.restart()
        return True

    def end_lockout(self) -> None:
        self.rig.end_lockout()

    @contextmanager
    def failing(self, step: int) -> Iterator[None]:
        """The ``step``-th of TPM commands and system calls on the disk, counted together, fails.

        Flushing is not counted: it may fail without harm, and that would end the series early.
        """
        calls = 0

        def is_next() -> bool:
            nonlocal calls
            calls += 1
            return calls == step + 1

        def failing(real):
            def call(*arguments, **named):
                if is_next():
                    raise OSError(28, os.strerror(28))
                return real(*arguments, **named)

            return call

        def verdict(request: bytes) -> int | None:
            return TPM_RC_FAILURE if request[6:10] != FLUSH and is_next() else None

        self.tap.verdict = verdict
        disk = {name: failing(getattr(os, name)) for name in SYSTEM_CALLS}
        try:
            with mock.patch.multiple(os, **disk):
                yield
        finally:
            self.tap.verdict = lambda request: None


class TestTpm2(ProviderConformance):
    @pytest.fixture
    def bench(
        self, swtpm: Swtpm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[Bench]:
        with swtpm.tapped() as tap:
            monkeypatch.setenv("MESH_HSM_TPM2_TCTI", swtpm.tap_tcti)
            yield TpmBench(swtpm, tap, tmp_path / "records")
