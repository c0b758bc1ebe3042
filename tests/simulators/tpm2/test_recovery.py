"""TPM reset, full slots, lost handles and a second program: told apart, and got over."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from tpm2_pytss import ESAPI, TPM2B_SENSITIVE_CREATE

from mesh_hsm.curves import P256
from mesh_hsm.custody import PinPolicy
from mesh_hsm.errors import (
    DeviceError,
    NotFoundError,
    ProviderUnavailableError,
    VerificationError,
)
from mesh_hsm.provider import DeviceKey, KeySpec, Use
from mesh_hsm.secret_source import SecretKind
from mesh_hsm.testing.conformance import Asked
from mesh_hsm.testing.swtpm import Swtpm
from mesh_hsm.testing.tpm_wire import Command, Tap
from mesh_hsm_tpm2.connection import Connection
from mesh_hsm_tpm2.token import Tpm2Token

from .conftest import PIN, Open

TPM_RC_INITIALIZE, TPM_RC_OBJECT_MEMORY, TPM_RC_REFERENCE_H0 = 0x100, 0x902, 0x910
KINDS = [(), (7,)]


def pinned(token: Tpm2Token, pcrs: tuple[int, ...] = (), label: str = "key") -> DeviceKey:
    return token.generate(KeySpec("P-256", Use.ENCRYPT, label, PinPolicy.ONCE, pcrs))


def asked() -> Asked:
    return Asked({SecretKind.PIN: PIN, SecretKind.NEW_PIN: PIN})


def attempts_used(rig: Swtpm) -> int:
    with ESAPI(rig.tcti) as esapi:
        _, answer = esapi.get_capability(6, 0x20E, 1)
        return int(answer.data.tpmProperties[0].value)


@pytest.mark.parametrize("pcrs", KINDS)
def test_a_reset_is_survived(swtpm: Swtpm, open_token: Open, pcrs: tuple[int, ...]) -> None:
    """The key is loaded again; the PIN is remembered, not asked again, and not called wrong."""
    secrets = asked()
    key = pinned(open_token(secrets), pcrs)
    assert key.agree(P256.base) == key.public
    requests = len(secrets.requests)
    for _ in range(3):
        swtpm.reset()
        assert key.agree(P256.base) == key.public
        swtpm.restart()
        assert key.agree(P256.base) == key.public
    assert len(secrets.requests) == requests


def test_a_tpm_that_was_not_started_is_started(swtpm: Swtpm, tap: Tap, open_token: Open) -> None:
    """Without a resource manager that falls to us."""
    key = pinned(open_token())
    key.agree(P256.base)
    answers = iter([TPM_RC_INITIALIZE])
    tap.verdict = lambda request: next(answers, None)
    tap.clear()
    assert key.agree(P256.base) == key.public
    assert Command.STARTUP in tap.commands


def test_power_loss_costs_a_try_and_closing_does_not(swtpm: Swtpm, open_token: Open) -> None:
    """hsm-1 §10: Shutdown(CLEAR) is sent where we own the TPM."""
    with open_token() as token:
        key = pinned(token)
        key.agree(P256.base)
    swtpm.restart(orderly=False)
    assert attempts_used(swtpm) == 0
    key = open_token().key(key.uri)
    key.agree(P256.base)
    swtpm.restart(orderly=False)
    assert attempts_used(swtpm) == 1


def test_a_way_that_breaks_is_opened_again(swtpm: Swtpm, open_token: Open) -> None:
    """While nothing answers, that is what is said; when it answers again, work goes on."""
    key = pinned(open_token())
    key.agree(P256.base)
    swtpm.stop()
    with pytest.raises(ProviderUnavailableError):
        key.agree(P256.base)
    swtpm.start()
    assert key.agree(P256.base) == key.public


def test_more_keys_than_slots(swtpm: Swtpm, open_token: Open) -> None:
    """Three slots are all that a raw TPM has; the key used longest ago makes room."""
    token = open_token()
    keys = [pinned(token, label=f"key {number}") for number in range(5)]
    for key in [*keys, *keys, *reversed(keys)]:
        assert key.agree(P256.base) == key.public


def test_strays_of_a_dead_process_are_flushed(
    swtpm: Swtpm, open_token: Open, records: Path
) -> None:
    """A process that was killed leaves key, storage root and session in a raw TPM."""
    with open_token() as token:
        uri = pinned(token).uri
    script = f"""
        import os, signal
        from pathlib import Path
        from mesh_hsm.curves import P256
        from mesh_hsm.secret_source import FixedSecrets, SecretKind
        from mesh_hsm.uri import Uri
        from mesh_hsm_tpm2.provider import Tpm2Provider
        token = Tpm2Provider(Path({str(records)!r})).open(
            Uri("tpm2"), FixedSecrets({{SecretKind.PIN: {PIN!r}}}))
        token.key(Uri.parse({str(uri)!r})).agree(P256.base)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False)
    assert len(swtpm.handles()) == 3
    for _ in range(2):
        key = open_token().key(uri)
        assert key.agree(P256.base) == key.public
    assert attempts_used(swtpm) == 0


def test_other_programs_objects_are_left_alone(swtpm: Swtpm, open_token: Open) -> None:
    """With the slots full of strangers, we fail and say so; theirs stay."""
    with open_token() as token:
        uri = pinned(token).uri
    with ESAPI(swtpm.tcti) as stranger:
        theirs = [stranger.create_primary(TPM2B_SENSITIVE_CREATE(), "ecc256")[0] for _ in range(3)]
        with pytest.raises(DeviceError, match="slots"):
            open_token().key(uri).agree(P256.base)
        for handle in theirs:
            stranger.flush_context(handle)
    key = open_token().key(uri)
    assert key.agree(P256.base) == key.public


def test_a_resource_managers_slots_are_its_own(
    tap: Tap, open_token: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind one, nothing is listed and nothing flushed to make room."""
    with open_token() as token:
        uri = pinned(token).uri
    monkeypatch.setattr(Connection, "is_raw", False)
    token = open_token()
    load = Command.LOAD.to_bytes(4, "big")
    tap.verdict = lambda request: TPM_RC_OBJECT_MEMORY if request[6:10] == load else None
    tap.clear()
    with pytest.raises(DeviceError, match="slots"):
        token.key(uri).agree(P256.base)
    assert Command.FLUSH_CONTEXT not in tap.commands
    assert tap.commands.count(Command.GET_CAPABILITY) == 1  # the tries that are left


def test_a_key_flushed_by_another_program_is_loaded_again(swtpm: Swtpm, open_token: Open) -> None:
    key = pinned(open_token())
    key.agree(P256.base)
    with ESAPI(swtpm.tcti) as stranger:
        for handle in swtpm.handles():
            stranger.flush_context(stranger.tr_from_tpmpublic(handle))
    assert key.agree(P256.base) == key.public


def test_two_programs_take_turns(swtpm: Swtpm, open_token: Open) -> None:
    """Neither's handles are taken for the other's, and no wrong PIN is ever counted."""
    one, other = open_token(), open_token()
    keys = [pinned(one, (), "a"), pinned(other, (7,), "b")]
    pairs = [(token, key.uri) for token in (one, other) for key in keys]
    for token, uri in pairs * 3:
        key = token.key(uri)
        assert key.agree(P256.base) == key.public
    assert attempts_used(swtpm) == 0


def test_a_tpm_that_fails_between_turns(swtpm: Swtpm, tap: Tap, open_token: Open) -> None:
    """Mapped like every other failure, and closing still works."""
    one, other = open_token(), open_token()
    key = pinned(one)
    key.agree(P256.base)
    other.capabilities()
    tap.verdict = lambda request: 0x101
    with pytest.raises(DeviceError, match="failure mode"):
        key.agree(P256.base)
    tap.verdict = lambda request: None
    assert key.agree(P256.base) == key.public


def test_a_damaged_record_does_not_stop_the_others(open_token: Open, records: Path) -> None:
    one, other = open_token(), open_token()
    keys = [pinned(token, label=label) for token, label in ((one, "a"), (other, "b"))]
    (records / "a.key.json").write_bytes(b"{")
    for key in keys:
        assert key.agree(P256.base) == key.public


def test_a_session_that_keeps_failing_ends(swtpm: Swtpm, tap: Tap, open_token: Open) -> None:
    """A TPM that forgets everything at once is given up on, not asked for ever."""
    key = pinned(open_token())
    key.agree(P256.base)
    code = Command.ECDH_ZGEN.to_bytes(4, "big")
    tap.verdict = lambda request: TPM_RC_REFERENCE_H0 if request[6:10] == code else None
    with pytest.raises(DeviceError, match="keeps forgetting"):
        key.agree(P256.base)
    tap.verdict = lambda request: None
    assert key.agree(P256.base) == key.public


def test_another_tpm_is_recognised(swtpm: Swtpm, open_token: Open) -> None:
    """Its storage root has another name: nothing of ours is sent to it, not even a PIN asked."""
    with open_token() as token:
        key = pinned(token)
        blob = token.seal("seed", b"secret")
        root = token.root_name
    swtpm.exchange_state()
    secrets = asked()
    token = open_token(secrets)
    with pytest.raises(VerificationError, match="not the TPM"):
        token.key(key.uri).custody()
    with pytest.raises(VerificationError):
        token.unseal(blob)
    with pytest.raises(VerificationError):
        token.generate(KeySpec("P-256", Use.SIGN, "new"))
    with pytest.raises(VerificationError):
        assert token.root_name != root
    assert secrets.requests == []
    swtpm.put_back()
    assert token.root_name == root
    assert token.key(key.uri).agree(P256.base) == key.public


def test_sealed_secrets_stay_with_their_tpm(swtpm: Swtpm, open_token: Open, tmp_path: Path) -> None:
    """Another TPM with records of its own loads the blob and refuses it."""
    with open_token() as token:
        blob = token.seal("seed", b"secret")
    swtpm.exchange_state()
    with pytest.raises(DeviceError, match="another TPM"):
        open_token(folder=tmp_path / "other").unseal(blob)


@pytest.mark.parametrize("pcrs", KINDS)
@pytest.mark.parametrize("command", [Command.ECDH_ZGEN, Command.LOAD, Command.START_AUTH_SESSION])
def test_a_failure_leaves_no_handle(
    swtpm: Swtpm, tap: Tap, open_token: Open, pcrs: tuple[int, ...], command: Command
) -> None:
    """Whatever fails, closing the token empties the TPM (looked at when the fixture ends)."""
    with open_token() as token:
        uri = pinned(token, pcrs).uri
    token = open_token()
    failing = command.to_bytes(4, "big")
    tap.verdict = lambda request: 0x101 if request[6:10] == failing else None
    with pytest.raises(DeviceError, match="failure mode"):
        token.key(uri).agree(P256.base)
    tap.verdict = lambda request: None
    key = token.key(uri)
    assert key.agree(P256.base) == key.public
    token.close()
    assert swtpm.handles() == []


def test_a_token_that_is_forgotten_flushes(swtpm: Swtpm, open_token: Open) -> None:
    """A process that just ends leaves nothing, even if it closes nothing."""
    script = f"""
        from pathlib import Path
        from mesh_hsm.curves import P384
        from mesh_hsm.provider import KeySpec, Use
        from mesh_hsm.secret_source import NoSecrets
        from mesh_hsm.uri import Uri
        from mesh_hsm_tpm2.provider import Tpm2Provider
        token = Tpm2Provider(Path({str(swtpm.folder / "records")!r})).open(Uri("tpm2"), NoSecrets())
        token.generate(KeySpec("P-384", Use.ENCRYPT, "key")).agree(P384.base)
        raise SystemExit(7)
    """
    ended = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False)
    assert ended.returncode == 7
    assert swtpm.handles() == []


def test_a_damaged_key_file_is_refused(open_token: Open, records: Path) -> None:
    """Truncated: ``FormatError``'s family; another key's: the TPM finds the integrity broken."""
    with open_token() as token:
        keys = [pinned(token, label=label) for label in ("a", "b")]
    (records / "a.tss2.pem").write_bytes((records / "b.tss2.pem").read_bytes())
    token = open_token()
    with pytest.raises(DeviceError, match="another TPM, or was altered"):
        token.key(keys[0].uri).agree(P256.base)
    (records / "a.tss2.pem").unlink()
    with pytest.raises(NotFoundError):
        token.key(keys[0].uri).agree(P256.base)
    assert token.key(keys[1].uri).agree(P256.base) == keys[1].public
