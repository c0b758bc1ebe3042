"""The software provider keeps the contract: keys in an encrypted file."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest

from mesh_hsm.custody import CustodyClass, Hardware
from mesh_hsm.provider import Provider
from mesh_hsm.secret_source import SecretKind
from mesh_hsm.testing.conformance import Bench, ProviderConformance
from mesh_hsm.uri import Uri
from mesh_hsm_software import SoftwareProvider

# What stands between a store and the disk; each can fail on a real one.
SYSTEM_CALLS = ("open", "write", "fsync", "replace", "fchmod", "fdopen")


class SoftwareBench(Bench):
    """A folder of key files."""

    uri = Uri.parse("soft:store=default")
    answers = {  # noqa: RUF012  the base class says Mapping
        SecretKind.PASSPHRASE: b"correct horse battery staple",
        SecretKind.NEW_PASSPHRASE: b"correct horse battery staple",
    }
    custody = CustodyClass.SOFTWARE
    hardware = Hardware.NONE
    asks = SecretKind.PASSPHRASE

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "records"

    def provider(self) -> Provider:
        return SoftwareProvider(self.folder)

    def leftovers(self) -> Collection[object]:
        """Temporary files: the store and its lock are the only ones that may stay."""
        if not self.folder.exists():
            return ()
        return sorted(
            {path.name for path in self.folder.iterdir()} - {"default.keys", "default.lock"}
        )

    @contextmanager
    def failing(self, step: int) -> Iterator[None]:
        """The ``step``-th system call on the disk fails as a full or broken one."""
        calls = 0

        def failing(real):
            def call(*arguments, **named):
                nonlocal calls
                calls += 1
                if calls == step + 1:
                    raise OSError(28, os.strerror(28))
                return real(*arguments, **named)

            return call

        with mock.patch.multiple(os, **{name: failing(getattr(os, name)) for name in SYSTEM_CALLS}):
            yield


class TestSoftware(ProviderConformance):
    @pytest.fixture
    def bench(self, tmp_path: Path) -> Bench:
        return SoftwareBench(tmp_path)
