"""The software provider keeps the contract: keys in an encrypted file."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

import pytest

from mesh_hsm.custody import CustodyClass, CustodyStatement, Hardware
from mesh_hsm.errors import UnsupportedError
from mesh_hsm.provider import Capability, Imports, KeySpec, Provider, Seals, Use
from mesh_hsm.secret_source import SecretKind
from mesh_hsm.testing.conformance import Bench, ProviderConformance
from mesh_hsm.uri import Uri
from mesh_hsm_software import SoftwareProvider
from mesh_hsm_software.key import SoftwareKey
from mesh_hsm_software.token import SoftwareToken

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


# -- the kit itself: no token of a simulator breaks these promises, so one is made to --------------


def refuse(*arguments: object, **named: object) -> NoReturn:
    raise UnsupportedError("no")


def with_consent(call: Callable[..., Any]) -> Callable[..., Any]:
    """The same call, refused without consent to a key that may leave."""

    def asking(token: SoftwareToken, spec: KeySpec, *rest: object) -> object:
        return call(token, spec, *rest) if spec.allow_exportable else refuse()

    return asking


def may_leave(key: SoftwareKey) -> CustodyStatement:
    return replace(CUSTODY(key), custody=CustodyClass.UNKNOWN)


def unsure(token: SoftwareToken) -> frozenset[Capability]:
    return frozenset(replace(one, custody=CustodyClass.UNKNOWN) for one in OFFERED(token))


CUSTODY, OFFERED = SoftwareKey.custody, SoftwareToken.capabilities
ASKS_TO_IMPORT = ("import_scalar", with_consent(SoftwareToken.import_scalar))
ASKS_TO_GENERATE = ("generate", with_consent(SoftwareToken.generate))
MAY_LEAVE, UNSURE = ("custody", may_leave), ("capabilities", unsure)
# What the token does otherwise, what its bench says that it lacks, and the promise that is broken.
BROKEN = {
    "imports nothing": ([("import_scalar", refuse)], (), "imports"),
    "imports what it is said not to": ([], (Imports,), "imports"),
    "asks consent to import what stays": ([ASKS_TO_IMPORT], (), "imports"),
    "imports without consent what may leave": ([MAY_LEAVE], (), "imports"),
    "seals nothing": ([("seal", refuse)], (), "seals"),
    "seals what it is said not to": ([], (Seals,), "seals"),
    "makes without consent what may leave": ([MAY_LEAVE, UNSURE], (), "claims"),
    "claims too much": ([("generate", refuse)], (), "claims"),
}
KEPT = {
    "imports with consent what may leave": ([ASKS_TO_IMPORT, MAY_LEAVE], (), "imports"),
    "imports nothing, as is said": ([("import_scalar", refuse)], (Imports,), "imports"),
    "seals nothing, as is said": ([("seal", refuse)], (Seals,), "seals"),
    "makes with consent what may leave": ([ASKS_TO_GENERATE, MAY_LEAVE, UNSURE], (), "claims"),
}
Case = tuple[list[tuple[str, Callable[..., object]]], tuple[type, ...], str]


def judge(case: Case, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the kit check one promise on a token like that. To skip it is to find nothing."""
    otherwise, lacks, promise = case
    for name, does in otherwise:
        monkeypatch.setattr(SoftwareKey if name == "custody" else SoftwareToken, name, does)
    bench = SoftwareBench(folder)
    bench.lacks = frozenset(lacks)
    if MAY_LEAVE in otherwise:
        bench.custody = CustodyClass.UNKNOWN
    with bench.open() as token, suppress(pytest.skip.Exception):
        if promise == "imports":
            ProviderConformance().test_imports(bench, token, "P-256", Use.SIGN)
        elif promise == "seals":
            ProviderConformance().test_sealed_secrets_come_back(bench, token, 32)
        else:
            ProviderConformance().test_claims_are_true(bench, token, "P-256", Use.SIGN)


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_promise_is_found(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises((AssertionError, UnsupportedError, pytest.fail.Exception)):
        judge(BROKEN[name], tmp_path, monkeypatch)


@pytest.mark.parametrize("name", KEPT)
def test_an_unusual_token_is_not_blamed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge(KEPT[name], tmp_path, monkeypatch)
