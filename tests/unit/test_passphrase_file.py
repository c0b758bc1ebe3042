"""Files under a passphrase: what opens, what is refused, and what a refusal says."""

from __future__ import annotations

import base64
import json
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh_hsm import passphrase_file
from mesh_hsm.errors import FormatError, MeshHsmError, WrongSecretError
from mesh_hsm.passphrase_file import (
    SealedFile,
    new_key,
    open_with_passphrase,
    seal_with_passphrase,
)

PASSPHRASE = b"correct horse battery staple"
KEY = new_key(PASSPHRASE)
FILE = KEY.seal(b"the plaintext", "backup", {"made": "today"})


def altered(**members: Any) -> bytes:
    return json.dumps(json.loads(FILE) | members).encode()


def altered_kdf(**members: Any) -> bytes:
    return altered(kdf=json.loads(FILE)["kdf"] | members)


def flipped(member: str) -> bytes:
    octets = bytearray(base64.b64decode(json.loads(FILE)[member]))
    octets[0] ^= 1
    return altered(**{member: base64.b64encode(octets).decode()})


def without(member: str) -> bytes:
    return json.dumps({k: v for k, v in json.loads(FILE).items() if k != member}).encode()


HOSTILE: dict[str, tuple[bytes, type[MeshHsmError]]] = {
    "empty": (b"", FormatError),
    "truncated": (FILE[: len(FILE) // 2], FormatError),
    "not UTF-8": (b"\xff" + FILE, FormatError),
    "not JSON": (b"hello", FormatError),
    "an array": (b"[]", FormatError),
    "too deep": (b"[" * 100_000, FormatError),
    "trailing": (FILE + b"x", FormatError),
    "too large": (b" " * (passphrase_file.SIZE_LIMIT + 1), FormatError),
    "a member twice": (
        FILE.replace(b"{", b'{"format": "mesh-hsm/1 passphrase file",', 1),
        FormatError,
    ),
    "another version": (altered(format="mesh-hsm/2 passphrase file"), FormatError),
    "another label": (altered(label="key store"), FormatError),
    "an unknown member": (altered(note="hello"), FormatError),
    **{
        f"no {name}": (without(name), FormatError)
        for name in ("format", "label", "public", "kdf", "nonce", "commit", "ciphertext")
    },
    "public is a list": (altered(public=[]), FormatError),
    "public altered": (altered(public={"made": "tomorrow"}), FormatError),
    "nonce altered": (flipped("nonce"), FormatError),
    "nonce too short": (altered(nonce="AAAA"), FormatError),
    "nonce is a number": (altered(nonce=5), FormatError),
    "nonce is not base64": (altered(nonce="é"), FormatError),
    "base64 not canonical": (altered(nonce=json.loads(FILE)["nonce"] + "\n"), FormatError),
    "ciphertext altered": (flipped("ciphertext"), FormatError),
    "ciphertext cut": (altered(ciphertext="AAAA"), FormatError),
    "commit altered": (flipped("commit"), WrongSecretError),
    "salt altered": (altered_kdf(salt=base64.b64encode(bytes(16)).decode()), WrongSecretError),
    "salt too short": (altered_kdf(salt="AAAA"), FormatError),
    "kdf is a list": (altered(kdf=[]), FormatError),
    "kdf unknown": (altered_kdf(name="pbkdf2"), FormatError),
    "kdf member unknown": (altered_kdf(pepper=1), FormatError),
    "iterations too few": (altered_kdf(iterations=2), FormatError),
    "iterations too many": (altered_kdf(iterations=17), FormatError),
    "iterations a boolean": (altered_kdf(iterations=True), FormatError),
    "iterations a fraction": (altered_kdf(iterations=3.0), FormatError),
    "memory too small": (altered_kdf(memory_kib=(1 << 16) - 1), FormatError),
    "memory too large": (altered_kdf(memory_kib=(1 << 20) + 1), FormatError),
    "several lanes": (altered_kdf(lanes=4), FormatError),
    "more iterations": (altered_kdf(iterations=4), WrongSecretError),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(name: str) -> None:
    data, error = HOSTILE[name]
    with pytest.raises(error) as caught:
        open_with_passphrase(data, PASSPHRASE, "backup")
    assert type(caught.value) is error
    assert "\n" not in str(caught.value)


def test_what_is_sealed_opens_again() -> None:
    data = seal_with_passphrase(b"secret", PASSPHRASE, "backup")
    assert open_with_passphrase(data, PASSPHRASE, "backup") == b"secret"
    assert b"secret" not in data
    assert PASSPHRASE not in data


def test_a_wrong_passphrase_is_told_from_damage() -> None:
    with pytest.raises(WrongSecretError) as caught:
        open_with_passphrase(FILE, PASSPHRASE + b"!", "backup")
    assert caught.value.attempts_remaining is None


def test_the_public_part_is_readable_by_all() -> None:
    assert SealedFile.parse(FILE, "backup").public == {"made": "today"}


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=300), st.dictionaries(st.text(max_size=5), st.text(max_size=5)))
def test_seal_and_open_are_inverse(plaintext: bytes, public: dict[str, str]) -> None:
    file = SealedFile.parse(KEY.seal(plaintext, "backup", public), "backup")
    assert file.open(KEY) == plaintext
    assert file.public == public


def test_two_seals_share_no_nonce() -> None:
    assert KEY.seal(b"", "x") != KEY.seal(b"", "x")


@pytest.mark.parametrize("short", [b"", b"1234567", "é".encode() * 7, b"\xff" * 7])
def test_short_passphrases_protect_nothing(short: bytes) -> None:
    with pytest.raises(WrongSecretError, match="at least 8"):
        seal_with_passphrase(b"", short, "backup")


def test_eight_characters_will_do() -> None:
    passphrase_file.check_new_passphrase(b"12345678")


def test_another_keyboard_composes_accents_otherwise() -> None:
    data = seal_with_passphrase(b"x", "passphrase é".encode(), "backup")
    assert open_with_passphrase(data, "passphrase e\u0301".encode(), "backup") == b"x"


def test_octets_that_are_no_text_are_taken_as_they_are() -> None:
    data = seal_with_passphrase(b"x", b"\xff" * 12, "backup")
    assert open_with_passphrase(data, b"\xff" * 12, "backup") == b"x"


def test_threads_derive_at_once() -> None:
    opened: list[bytes] = []
    file = SealedFile.parse(FILE, "backup")
    threads = [
        threading.Thread(target=lambda: opened.append(file.unlock(PASSPHRASE)[1]), daemon=True)
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)  # it once waited for ever
    assert opened == [b"the plaintext"] * 4


def test_no_repr_shows_the_key() -> None:
    assert repr(KEY._key)[2:-1] not in repr(KEY)
