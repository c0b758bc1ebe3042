"""Wrong PINs, lockout and its parameters, beyond what the conformance kit asks of any device."""

from __future__ import annotations

import pytest

from mesh_hsm.curves import P256
from mesh_hsm.custody import PinPolicy
from mesh_hsm.errors import FormatError, LastTryError, LockedOutError, WrongSecretError
from mesh_hsm.provider import KeySpec, Use
from mesh_hsm.secret_source import SecretKind
from mesh_hsm.testing.conformance import Asked
from mesh_hsm.testing.swtpm import Swtpm
from mesh_hsm.testing.tpm_wire import Command, Tap

from .conftest import NEW_PIN, PIN, Open, answers

KINDS = {"PIN": (), "PIN and PCR": (7,)}
EMPTY_LOCKOUT_AUTH = "the TPM's lockout password is empty"


def spec(kind: str, policy: PinPolicy = PinPolicy.ONCE) -> KeySpec:
    return KeySpec("P-256", Use.ENCRYPT, "key", policy, KINDS[kind])


def asked(pin: bytes = PIN, *, last_try: bool = False) -> Asked:
    return Asked({SecretKind.PIN: pin, SecretKind.NEW_PIN: PIN}, last_try=last_try)


@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_way_down(swtpm: Swtpm, tap: Tap, open_token: Open, kind: str) -> None:
    """Five tries, the last one on consent only, lockout with its time, and back."""
    with open_token() as token:
        uri = token.generate(spec(kind)).uri
    secrets = asked(b"wrong")
    key = open_token(secrets).key(uri)
    for left in (5, 4, 3, 2):
        with pytest.raises(WrongSecretError, match=f"{left - 1} tr(y|ies) left") as wrong:
            key.agree(P256.base)
        assert secrets.requests[-1].attempts_remaining == left
        assert wrong.value.attempts_remaining == left - 1
        assert wrong.value.uri == str(uri)
    tap.clear()
    with pytest.raises(LastTryError):
        key.agree(P256.base)
    assert tap.commands == [Command.GET_CAPABILITY]
    secrets.last_try = True
    with pytest.raises(WrongSecretError) as wrong:
        key.agree(P256.base)
    assert wrong.value.attempts_remaining == 0
    assert "1000 seconds" in (wrong.value.hint or "")
    with pytest.raises(LockedOutError) as locked:
        key.agree(P256.base)
    assert locked.value.recovery_seconds == 1000
    assert len(secrets.requests) == 5  # a locked TPM is not even asked about
    swtpm.end_lockout()
    key = open_token().key(uri)
    assert key.agree(P256.base) == key.public


@pytest.mark.parametrize("kind", KINDS)
def test_a_lockout_stops_a_remembered_pin_too(swtpm: Swtpm, open_token: Open, kind: str) -> None:
    """The TPM refuses right PINs; that is a lockout, not a wrong PIN."""
    key = open_token().generate(spec(kind))
    key.agree(P256.base)
    stranger = open_token(answers(b"wrong", last_try=True)).key(key.uri)
    for _ in range(5):
        with pytest.raises(WrongSecretError):
            stranger.agree(P256.base)
    with pytest.raises(LockedOutError) as locked:
        key.agree(P256.base)
    assert (locked.value.recovery_seconds, locked.value.uri) == (1000, str(key.uri))
    swtpm.end_lockout()
    assert key.agree(P256.base) == key.public


def test_a_key_without_pin_shares_the_lockout(open_token: Open) -> None:
    """noDA is clear on every key of ours; the error says what it is."""
    token = open_token()
    free = token.generate(KeySpec("P-256", Use.ENCRYPT, "free"))
    token.generate(spec("PIN"))
    token.close()
    stranger = open_token(answers(b"wrong", last_try=True))
    for _ in range(5):
        with pytest.raises(WrongSecretError):
            stranger.key(stranger.info.uri.with_attribute("key", "key")).agree(P256.base)
    with pytest.raises(LockedOutError):
        open_token().key(free.uri).agree(P256.base)


def test_a_pin_that_is_always_asked_for(open_token: Open) -> None:
    secrets = asked()
    key = open_token(secrets).generate(spec("PIN", PinPolicy.ALWAYS))
    for number in range(3):
        assert key.agree(P256.base) == key.public
        assert len(secrets.requests) == number + 2
    assert key.custody().pin is PinPolicy.ALWAYS


def test_a_wrong_pin_is_not_remembered(open_token: Open) -> None:
    with open_token() as token:
        uri = token.generate(spec("PIN")).uri
    secrets = asked(b"wrong")
    key = open_token(secrets).key(uri)
    with pytest.raises(WrongSecretError):
        key.agree(P256.base)
    secrets._answers[SecretKind.PIN] = PIN
    assert key.agree(P256.base) == key.public


def test_a_tpm_that_counts_nothing(swtpm: Swtpm, open_token: Open) -> None:
    """Recovery time 0 switches the protection off: said in the statement, no number invented."""
    with open_token() as token:
        uri = token.generate(spec("PIN")).uri
    swtpm.set_dictionary_attack(5, 0, 0)
    secrets = asked(b"wrong")
    key = open_token(secrets).key(uri)
    for _ in range(7):
        with pytest.raises(WrongSecretError) as wrong:
            key.agree(P256.base)
        assert wrong.value.attempts_remaining is None
        assert secrets.requests[-1].attempts_remaining is None
    statement = key.custody()
    assert statement.dictionary_attack is not None
    assert not statement.dictionary_attack.protected
    assert any("counts no wrong PINs" in note for note in statement.notes)


def test_an_empty_lockout_password_is_reported(swtpm: Swtpm, open_token: Open) -> None:
    key = open_token().generate(spec("PIN"))
    statement = key.custody()
    assert statement.dictionary_attack is not None
    assert not statement.dictionary_attack.lockout_auth_set
    assert any(note.startswith(EMPTY_LOCKOUT_AUTH) for note in statement.notes)
    assert statement.dictionary_attack.max_tries == 5
    swtpm.set_lockout_password(b"long and random")
    statement = key.custody()
    assert statement.dictionary_attack is not None
    assert statement.dictionary_attack.lockout_auth_set
    assert not any(note.startswith(EMPTY_LOCKOUT_AUTH) for note in statement.notes)


@pytest.mark.parametrize("bad", [b"", b"x" * 33, b"a\0b", b"end\0"])
def test_pins_that_a_tpm_would_cut_are_refused(open_token: Open, bad: bytes) -> None:
    token = open_token(answers(bad))
    with pytest.raises(FormatError):
        token.generate(spec("PIN"))
    assert list(token.keys()) == []


@pytest.mark.parametrize("pin", [b"1", b"x" * 32, "Schlüssel".encode(), b" spaces "])
def test_pins_at_the_limits_work(open_token: Open, pin: bytes) -> None:
    with open_token(answers(pin)) as token:
        key = token.generate(spec("PIN"))
    assert open_token(answers(pin)).key(key.uri).agree(P256.base) == key.public


# -- changing a PIN -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("persistent", [False, True])
def test_a_changed_pin(swtpm: Swtpm, open_token: Open, kind: str, persistent: bool) -> None:
    made = KeySpec("P-256", Use.ENCRYPT, "key", PinPolicy.ONCE, KINDS[kind], persistent)
    token = open_token(answers(PIN, PIN))
    key = token.generate(made)
    uri = key.uri
    token.close()
    token = open_token(answers(PIN, NEW_PIN))
    token.change_pin(uri)
    assert token.key(uri).agree(P256.base) == key.public  # remembered
    with pytest.raises(WrongSecretError):
        open_token(answers(PIN)).key(uri).agree(P256.base)
    assert open_token(answers(NEW_PIN)).key(uri).agree(P256.base) == key.public


def test_the_old_blob_still_works(open_token: Open, records) -> None:
    """hsm-1 §10: key blobs are for ever, and the statement says so."""
    with open_token() as token:
        key = token.generate(spec("PIN"))
    old = (records / "key.tss2.pem").read_bytes()
    with open_token(answers(PIN, NEW_PIN)) as token:
        token.change_pin(key.uri)
    assert (records / "key.tss2.pem").read_bytes() != old
    (records / "key.tss2.pem").write_bytes(old)
    again = open_token().key(key.uri)
    assert again.agree(P256.base) == key.public
    assert any("revokes no copy" in note for note in again.custody().notes)


def test_a_pcr_change_does_not_stop_a_change_of_pin(swtpm: Swtpm, open_token: Open) -> None:
    """The ADMIN role goes by PIN alone, since adminWithPolicy is clear."""
    with open_token() as token:
        key = token.generate(spec("PIN and PCR"))
    swtpm.extend_pcr(7)
    open_token(answers(PIN, NEW_PIN)).change_pin(key.uri)
