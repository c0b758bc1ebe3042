"""The backup: nothing depends on one that has not been opened."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from mesh_hsm import dare
from mesh_hsm.curves import P384, X448, SecretScalar
from mesh_hsm.errors import (
    DecryptionError,
    FormatError,
    NotFoundError,
    VerificationError,
    WrongSecretError,
)
from mesh_hsm.mesh import (
    Drilled,
    EscrowedKeySet,
    MeshPublics,
    NoBackup,
    backup,
    drill,
    drill_again,
    open_backup,
    release,
    seal_backup,
)
from mesh_hsm.passphrase_file import seal_with_passphrase
from mesh_hsm.udf import SeedUse, new_seed, present_seed

PASSPHRASE = b"correct horse battery staple"


@pytest.fixture(scope="module")
def keys() -> EscrowedKeySet:
    return EscrowedKeySet.draw()


@pytest.fixture(scope="module")
def data(keys: EscrowedKeySet) -> bytes:
    return seal_backup(keys, PASSPHRASE)


def test_a_backup_gives_the_same_keys_again(keys: EscrowedKeySet, data: bytes) -> None:
    again = open_backup(data, PASSPHRASE)
    assert again == keys
    assert again.publics == keys.publics


def test_seeds_give_the_keys_that_were_planned(keys: EscrowedKeySet) -> None:
    publics = keys.publics
    assert publics.master.curve is P384
    assert publics.administrator.curve is P384
    assert publics.escrow is not None
    assert publics.escrow.curve is X448
    assert len({publics.master, publics.administrator}) == 2
    assert EscrowedKeySet.draw().publics != publics


def test_the_drill_passes_on_a_good_backup(keys: EscrowedKeySet, data: bytes) -> None:
    drilled = drill(data, PASSPHRASE, keys.publics)
    assert drilled.publics == keys.publics


def test_the_escrow_key_of_a_backup_opens_files(keys: EscrowedKeySet, data: bytes) -> None:
    publics = keys.publics
    assert publics.escrow is not None
    sealed = dare.seal(b"a file", recipients=[dare.Recipient(publics.escrow)])
    assert (
        dare.unseal(sealed, keys=[open_backup(data, PASSPHRASE).escrow_key()]).payload == b"a file"
    )


def test_the_drill_fails_on_other_keys(keys: EscrowedKeySet, data: bytes) -> None:
    for other in (EscrowedKeySet.draw().publics, replace(keys.publics, escrow=None)):
        with pytest.raises(VerificationError, match="other keys"):
            drill(data, PASSPHRASE, other)


def test_a_backup_is_drilled_again_whoever_administers_now(
    keys: EscrowedKeySet, data: bytes
) -> None:
    publics = keys.publics
    assert publics.escrow is not None
    again, drilled = drill_again(data, PASSPHRASE, publics.master, [X448.base, publics.escrow])
    assert (again, drilled.publics) == (keys, publics)
    assert release(again, drilled)[0].public == publics.master
    for master, escrow in (
        (publics.administrator, [publics.escrow]),
        (publics.master, []),
        (publics.master, [X448.base]),
    ):
        with pytest.raises(VerificationError, match="other keys"):
            drill_again(data, PASSPHRASE, master, escrow)
    bare = replace(keys, escrow_seed=None)
    without = seal_backup(bare, PASSPHRASE)
    assert drill_again(without, PASSPHRASE, publics.master, [])[0] == bare
    with pytest.raises(VerificationError, match="other keys"):
        drill_again(without, PASSPHRASE, publics.master, [publics.escrow])


def test_the_drill_fails_on_another_passphrase(keys: EscrowedKeySet, data: bytes) -> None:
    with pytest.raises(WrongSecretError):
        drill(data, PASSPHRASE + b"!", keys.publics)


def test_the_drill_fails_on_a_damaged_file(keys: EscrowedKeySet, data: bytes) -> None:
    damaged = json.loads(data)
    first = damaged["ciphertext"][0]
    damaged["ciphertext"] = ("B" if first == "A" else "A") + damaged["ciphertext"][1:]
    for octets in (data[:-20], b"", json.dumps(damaged).encode()):
        with pytest.raises(FormatError):
            drill(octets, PASSPHRASE, keys.publics)


def test_the_drill_notices_an_escrow_key_that_does_not_decrypt(
    keys: EscrowedKeySet, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = EscrowedKeySet.draw().escrow_key()
    monkeypatch.setattr(EscrowedKeySet, "escrow_key", lambda _: _Claims(keys, stranger))
    with pytest.raises(DecryptionError):
        drill(data, PASSPHRASE, keys.publics)


class _Claims:
    """The right public key with the wrong secret behind it: a fault no simulator makes."""

    def __init__(self, keys: EscrowedKeySet, behind: Any) -> None:
        self.public = backup._scalar(keys.escrow_seed or b"", "CompleteMasterEscrow", X448).public()
        self._behind = behind

    def agreements(self, S: Any) -> Any:
        return self._behind.agreements(S)


def test_keys_are_released_only_against_their_own_drill(keys: EscrowedKeySet, data: bytes) -> None:
    drilled = drill(data, PASSPHRASE, keys.publics)
    master, administrator = release(keys, drilled)
    for key, public in ((master, keys.publics.master), (administrator, keys.publics.administrator)):
        assert key.algorithm == "P-384"
        assert key.public == public == SecretScalar(P384, key.scalar).public()
        assert str(key.scalar) not in repr(key)
    with pytest.raises(VerificationError, match="not one of these keys"):
        release(EscrowedKeySet.draw(), drilled)
    with pytest.raises(VerificationError, match="not one of these keys"):
        release(keys, Drilled(replace(keys.publics, escrow=None), bytes(64)))


def test_going_without_a_backup_is_said_in_words() -> None:
    keys = EscrowedKeySet.draw(escrow=False)
    assert keys.publics.escrow is None
    master, _ = release(keys, NoBackup())
    assert master.public == keys.publics.master
    with pytest.raises(NotFoundError, match="no escrow key"):
        keys.escrow_key()


def test_a_backup_without_escrow_key(keys: EscrowedKeySet) -> None:
    bare = replace(keys, escrow_seed=None)
    data = seal_backup(bare, PASSPHRASE)
    assert open_backup(data, PASSPHRASE) == bare
    assert drill(data, PASSPHRASE, bare.publics).publics == MeshPublics(
        keys.publics.master, keys.publics.administrator, None
    )


def test_a_short_passphrase_is_refused(keys: EscrowedKeySet) -> None:
    with pytest.raises(WrongSecretError):
        seal_backup(keys, b"short")


def seed(use: SeedUse = SeedUse.PROFILE_ACCOUNT) -> str:
    return present_seed(new_seed(use))


CONTENTS: dict[str, Any] = {
    "another object": {"ProfileMaster": {}},
    "no master seed": {"EscrowedKeySet": {"MasterEscrowKeys": []}},
    "no list": {"EscrowedKeySet": {"MasterSignatureKey": seed()}},
    "not a seed": {"EscrowedKeySet": {"MasterSignatureKey": "MAAA", "MasterEscrowKeys": []}},
    "a seed for another use": {
        "EscrowedKeySet": {
            "MasterSignatureKey": seed(SeedUse.PROFILE_DEVICE),
            "MasterEscrowKeys": [],
        }
    },
    "a short seed": {
        "EscrowedKeySet": {
            "MasterSignatureKey": present_seed(new_seed(SeedUse.PROFILE_ACCOUNT)[:20]),
            "MasterEscrowKeys": [],
        }
    },
    "two escrow keys": {
        "EscrowedKeySet": {"MasterSignatureKey": seed(), "MasterEscrowKeys": [seed(), seed()]}
    },
    "an escrow key that is no text": {
        "EscrowedKeySet": {"MasterSignatureKey": seed(), "MasterEscrowKeys": [1]}
    },
}


@pytest.mark.parametrize("name", CONTENTS)
def test_bad_contents(name: str) -> None:
    content = json.dumps(CONTENTS[name]).encode()
    with pytest.raises(FormatError):
        open_backup(seal_with_passphrase(content, PASSPHRASE, backup.LABEL), PASSPHRASE)


def test_another_passphrase_file_is_not_a_backup(keys: EscrowedKeySet) -> None:
    with pytest.raises(FormatError):
        open_backup(seal_with_passphrase(b"{}", PASSPHRASE, "key store"), PASSPHRASE)
