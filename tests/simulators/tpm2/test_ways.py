"""Every way to a TPM: device file, resource manager daemon, simulator; and when there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from unittest import mock

import pytest

from mesh_hsm.curves import P256
from mesh_hsm.custody import Hardware, PinPolicy
from mesh_hsm.errors import (
    DeviceError,
    LockedOutError,
    NotFoundError,
    ProviderUnavailableError,
    WrongSecretError,
)
from mesh_hsm.provider import KeySpec, Severity, Use
from mesh_hsm.secret_source import NoSecrets
from mesh_hsm.testing.swtpm import Swtpm
from mesh_hsm.testing.tpm_wire import Command, Tap
from mesh_hsm.uri import Uri
from mesh_hsm_tpm2.connection import Connection
from mesh_hsm_tpm2.provider import Tpm2Provider
from mesh_hsm_tpm2.token import Tpm2Token

from .conftest import PIN, Open, answers

SPEC = KeySpec("P-256", Use.ENCRYPT, "key")
PINNED = KeySpec("P-256", Use.ENCRYPT, "pinned", PinPolicy.ONCE, (7,))


def findings(records: Path) -> dict[str, Severity]:
    return {found.code: found.severity for found in Tpm2Provider(records).diagnose()}


# -- nothing there --------------------------------------------------------------------------------

ABSENT = {
    "no device": ("device:/nowhere/tpmrm0", "shows no TPM", "firmware settings", "TPM001"),
    "no swtpm": ("swtpm:path=/nowhere/tpm", "no TPM answers", "start swtpm", "TPM003"),
    "no daemon": ("tabrmd:bus_type=session,bus_name=net.none", "no TPM", "tpm2-abrmd", "TPM003"),
    "no library": ("nonesuch:conf", "no TPM answers", "library for nonesuch", "TPM003"),
}


@pytest.mark.parametrize("case", ABSENT)
def test_an_absent_tpm(records: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    """What is missing and what to do, for listing, opening and ``doctor`` alike."""
    tcti, problem, hint, finding = ABSENT[case]
    monkeypatch.setenv("MESH_HSM_TPM2_TCTI", tcti)
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere/bus")
    provider = Tpm2Provider(records)
    for attempt in (provider.tokens, lambda: provider.open(Uri("tpm2"), NoSecrets())):
        with pytest.raises(ProviderUnavailableError, match=problem) as absent:
            attempt()
        assert hint in (absent.value.hint or "")
    assert list(findings(records)) == [finding]
    assert not records.exists()


def test_the_kernels_resource_manager_is_the_default(
    records: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MESH_HSM_TPM2_TCTI", raising=False)
    with (
        mock.patch.object(os, "open", side_effect=FileNotFoundError(2, "none")) as opened,
        pytest.raises(ProviderUnavailableError, match="/dev/tpmrm0 is not there"),
    ):
        Tpm2Provider(records).tokens()
    assert opened.call_args.args[0] == "/dev/tpmrm0"


DEVICES = {
    "permission": (PermissionError(13, "x"), "usermod -aG tss", "TPM002"),
    "busy": (OSError(16, "x"), "device:/dev/tpmrm0", "TPM003"),
    "input/output": (OSError(5, "x"), None, "TPM003"),
}


@pytest.mark.parametrize("case", DEVICES)
def test_a_device_that_cannot_be_opened(
    records: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    error, hint, finding = DEVICES[case]
    monkeypatch.setenv("MESH_HSM_TPM2_TCTI", "device:/dev/tpm0")
    with mock.patch.object(os, "open", side_effect=error):
        with pytest.raises(ProviderUnavailableError) as absent:
            Tpm2Provider(records).tokens()
        assert findings(records) == {finding: Severity.ERROR}
    assert hint is None or hint in (absent.value.hint or "")


def test_a_device_that_is_no_tpm(records: Path) -> None:
    """It opens, and then does not speak as a TPM does."""
    with pytest.raises((ProviderUnavailableError, DeviceError)):
        Tpm2Provider(records).open(Uri.parse("tpm2:tcti=device:/dev/null"), NoSecrets())


@pytest.mark.parametrize("uri", ["soft:", "tpm2:store=x", "tpm2:?module=/tmp/evil.so"])
def test_names_that_are_no_tpms(records: Path, uri: str) -> None:
    with pytest.raises(NotFoundError):
        Tpm2Provider(records).open(Uri.parse(uri), NoSecrets())


# -- several ways ---------------------------------------------------------------------------------


def test_a_tpm_named_in_the_uri(swtpm: Swtpm, records: Path) -> None:
    """It has records of its own, and its keys' URIs name it."""
    uri = Uri("tpm2", (("tcti", swtpm.tcti),))
    provider = Tpm2Provider(records)
    with provider.open(uri, NoSecrets()) as token:
        key = token.generate(SPEC)
        assert Uri.parse(str(key.uri)) == key.uri
        assert key.uri.get("tcti") == swtpm.tcti
    with provider.open(key.uri, NoSecrets()) as token:
        assert token.key(key.uri).agree(P256.base) == key.public
        with pytest.raises(NotFoundError):
            token.key(Uri.parse("tpm2:key=key"))
    assert [path.name[:5] for path in records.iterdir()] == ["tcti-"]


def test_through_the_resource_manager_daemon(swtpm: Swtpm, records: Path) -> None:
    """tpm2-abrmd on a private bus: nothing is flushed that is not ours, keys share slots."""
    for program in ("tpm2-abrmd", "dbus-run-session"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    script = f"""
        import subprocess, sys
        from pathlib import Path
        from mesh_hsm.curves import P384
        from mesh_hsm.custody import PinPolicy
        from mesh_hsm.errors import ProviderUnavailableError
        from mesh_hsm.provider import KeySpec, Use
        from mesh_hsm.secret_source import FixedSecrets, SecretKind
        from mesh_hsm.uri import Uri
        from mesh_hsm_tpm2.provider import Tpm2Provider
        daemon = subprocess.Popen(
            ["tpm2-abrmd", "--session", "--allow-root", "--tcti={swtpm.tcti}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        provider = Tpm2Provider(Path({str(records)!r}))
        secrets = FixedSecrets({{SecretKind.PIN: {PIN!r}, SecretKind.NEW_PIN: {PIN!r}}})
        def opened():
            while daemon.poll() is None:
                try:
                    return provider.open(Uri("tpm2"), secrets)
                except ProviderUnavailableError:
                    pass
            sys.exit("tpm2-abrmd ended")
        try:
            with opened() as one, opened() as other:
                keys = [one.generate(KeySpec("P-384", Use.ENCRYPT, str(n), PinPolicy.ONCE, (7,)))
                        for n in range(4)]
                keys += [other.key(key.uri) for key in keys]
                for key in keys * 2:
                    assert key.agree(P384.base) == key.public
                assert not one._tpm.connection.is_raw
                assert other.unseal(one.seal("seed", b"secret")) == b"secret"
            print("done", end="")
        finally:
            daemon.terminate()
            daemon.wait()
    """
    environment = {**os.environ, "MESH_HSM_TPM2_TCTI": "tabrmd:bus_type=session"}
    done = subprocess.run(
        ["dbus-run-session", "--", sys.executable, "-c", textwrap.dedent(script)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout == "done", done.stderr


# -- one context, one thread, one process ---------------------------------------------------------


def test_a_forked_child_opens_its_own(open_token: Open) -> None:
    """The copy refuses, and closing it in the child does not disturb the parent."""
    token = open_token()
    key = token.generate(SPEC)
    key.agree(P256.base)
    child = os.fork()
    if child == 0:
        refused = 0
        for call in (lambda: key.agree(P256.base), token.capabilities, token.keys):
            try:
                call()
            except DeviceError:
                refused += 1
        token.close()
        os._exit(refused)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    assert key.agree(P256.base) == key.public


def test_closing_while_others_work(open_token: Open) -> None:
    """They are told; nothing crashes."""
    token = open_token()
    key = token.generate(SPEC)
    ended: list[type[BaseException]] = []

    def work() -> None:
        while True:
            try:
                key.agree(P256.base)
            except DeviceError as error:
                ended.append(type(error))
                return

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    token.close()
    for thread in threads:
        thread.join()
    assert ended == [DeviceError] * 4


# -- doctor ---------------------------------------------------------------------------------------


def test_what_doctor_says_of_a_simulator(swtpm: Swtpm, tap: Tap, records: Path) -> None:
    assert findings(records) == {"TPM005": Severity.WARNING, "TPM008": Severity.NOTE}
    assert not records.exists()
    swtpm.set_lockout_password(b"long and random")
    assert findings(records) == {"TPM008": Severity.NOTE}
    assert set(tap.commands) == {Command.GET_CAPABILITY, Command.SHUTDOWN}


def test_what_doctor_says_of_keys_and_tries(swtpm: Swtpm, open_token: Open, records: Path) -> None:
    with open_token() as token:
        uri = token.generate(PINNED).uri
    assert findings(records)["TPM006"] is Severity.NOTE
    with open_token(answers(b"wrong", last_try=True)) as token:
        for number in range(5):
            with pytest.raises(WrongSecretError):
                token.key(uri).agree(P256.base)
            expected = {0: Severity.NOTE, 3: Severity.WARNING}
            if number in expected:
                assert findings(records)["TPM007"] is expected[number]
        with pytest.raises(LockedOutError):
            token.key(uri).agree(P256.base)
    found = findings(records)
    assert found["TPM004"] is Severity.ERROR
    assert "TPM007" not in found
    swtpm.end_lockout()
    assert "TPM004" not in findings(records)


def test_what_doctor_says_of_a_damaged_record(open_token: Open, records: Path) -> None:
    with open_token() as token:
        token.generate(SPEC)
    (records / "key.key.json").write_bytes(b"{")
    assert findings(records)["STATE003"] is Severity.ERROR


def test_what_doctor_says_of_a_broken_tpm(tap: Tap, records: Path) -> None:
    """A finding, not an exception."""
    tap.verdict = lambda request: 0x101
    assert findings(records) == {"TPM003": Severity.ERROR}


def test_what_doctor_says_of_hardware(
    open_token: Open, records: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A TPM that is no known simulator, met without certificate, with firmware that leaks."""
    from mesh_hsm_tpm2 import identity

    with open_token() as token:
        key = token.generate(SPEC)
    fake = identity.Identity("STM", "ST33", "73.0.0.0", (73, 0, 0, 0))
    monkeypatch.setattr(identity, "read", lambda esapi: fake)
    found = findings(records)
    assert {"TPM009", "TPM010"} <= found.keys()
    assert "TPM008" not in found
    token = open_token()
    assert isinstance(token, Tpm2Token)
    assert token.info.hardware is Hardware.CLAIMED
    statement = token.key(key.uri).custody()
    assert any("TPM-FAIL" in note for note in statement.notes)
    assert statement.firmware == "73.0.0.0"


def test_a_closed_connection_stays_closed(swtpm: Swtpm) -> None:
    connection = Connection(swtpm.tcti)
    connection.close()
    connection.close()
    with pytest.raises(DeviceError, match="closed"), connection.held():
        pass
