"""Secrets in a file under a passphrase: the key store of the software provider and the backup.

Open this file to see how a passphrase becomes a key, and what a file says without it. The file is
one JSON object. Everything in it is authenticated: members other than ``ciphertext`` are the AEAD's
associated data. Argon2id (RFC 9106 §4: memory and passes of the second recommended option, or more)
gives 64 octets: an AES-256-GCM key and a commitment, which tells a wrong passphrase from a damaged
file.
"""

from __future__ import annotations

import binascii
import hmac
import json
import os
import unicodedata
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from mesh_hsm.errors import FormatError, WrongSecretError

FORMAT: Final = "mesh-hsm/1 passphrase file"
MINIMUM_PASSPHRASE: Final = 8  # SP 800-63B §5.1.1.2
SIZE_LIMIT: Final = 1 << 24

_MEMBERS: Final = {"format", "label", "public", "kdf", "nonce", "commit", "ciphertext"}
# What we write is the floor; the ceiling keeps a hostile file from exhausting the machine. One
# lane: with more, two derivations at once wait for each other for ever in OpenSSL's thread pool.
_BOUNDS: Final = {"memory_kib": (1 << 16, 1 << 20), "iterations": (3, 16), "lanes": (1, 1)}


@dataclass(frozen=True, slots=True)
class Kdf:
    """How a passphrase is stretched. ``salt`` is 16 octets, fresh for every passphrase."""

    salt: bytes
    memory_kib: int = 1 << 16
    iterations: int = 3
    lanes: int = 1

    def key(self, passphrase: bytes) -> FileKey:
        """Stretch a passphrase: a tenth of a second or more and 64 MiB, on purpose."""
        octets = Argon2id(
            salt=self.salt,
            length=64,
            iterations=self.iterations,
            lanes=self.lanes,
            memory_cost=self.memory_kib,
        ).derive(_normalised(passphrase))
        return FileKey(self, octets[32:], octets[:32])

    def to_json(self) -> dict[str, Any]:
        """The ``kdf`` member."""
        numbers = {name: getattr(self, name) for name in _BOUNDS}
        return {"name": "argon2id", "salt": _text(self.salt), **numbers}

    @classmethod
    def from_json(cls, value: Any) -> Kdf:
        """Read and bound the ``kdf`` member. Raises ``FormatError``."""
        if not isinstance(value, dict) or value.keys() != {"name", "salt", *_BOUNDS}:
            raise FormatError("passphrase file: malformed kdf")
        if value["name"] != "argon2id":
            raise FormatError("passphrase file: the kdf is not argon2id")
        for name, (low, high) in _BOUNDS.items():
            if type(value[name]) is not int or not low <= value[name] <= high:
                raise FormatError(f"passphrase file: {name} is not within {low}..{high}")
        return cls(_octets(value["salt"], 16), **{name: value[name] for name in _BOUNDS})


@dataclass(frozen=True, slots=True)
class FileKey:
    """A stretched passphrase. Kept instead of the passphrase while a file is in use."""

    kdf: Kdf
    commit: bytes
    _key: bytes = field(repr=False)

    def seal(self, plaintext: bytes, label: str, public: Mapping[str, Any] | None = None) -> bytes:
        """The file's octets. ``public`` is readable by all, and cannot be altered unnoticed."""
        nonce = os.urandom(12)
        header = {
            "format": FORMAT,
            "label": label,
            "public": dict(public or {}),
            "kdf": self.kdf.to_json(),
            "nonce": _text(nonce),
            "commit": _text(self.commit),
        }
        ciphertext = AESGCM(self._key).encrypt(nonce, plaintext, _canonical(header))
        return json.dumps(header | {"ciphertext": _text(ciphertext)}, indent=1).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class SealedFile:
    """A file as read, before anybody has proved a passphrase: ``public`` is a claim till then."""

    kdf: Kdf
    label: str
    public: dict[str, Any]
    header: dict[str, Any]
    ciphertext: bytes

    @classmethod
    def parse(cls, data: bytes, label: str) -> SealedFile:
        """Read the file made for ``label``. Raises ``FormatError``; nothing costly is done."""
        value = _object(data)
        if value.get("format") != FORMAT or value.keys() != _MEMBERS:
            raise FormatError("not a passphrase file of a version known here")
        if value["label"] != label:
            raise FormatError(f"this passphrase file does not hold a {label}")
        if not isinstance(value["public"], dict):
            raise FormatError("passphrase file: malformed public part")
        _octets(value["nonce"], 12)
        _octets(value["commit"], 32)
        ciphertext = _octets(value.pop("ciphertext"))
        return cls(Kdf.from_json(value["kdf"]), label, value["public"], value, ciphertext)

    def unlock(self, passphrase: bytes) -> tuple[FileKey, bytes]:
        """The key and the plaintext. Raises ``WrongSecretError`` or ``FormatError``."""
        key = self.kdf.key(passphrase)
        del passphrase  # so that no traceback of a refusal shows it
        return key, self.open(key)

    def open(self, key: FileKey) -> bytes:
        """The plaintext. ``WrongSecretError``: another passphrase; ``FormatError``: altered."""
        if not hmac.compare_digest(_octets(self.header["commit"], 32), key.commit):
            raise WrongSecretError(f"wrong passphrase for this {self.label}")
        try:
            nonce = _octets(self.header["nonce"], 12)
            return AESGCM(key._key).decrypt(nonce, self.ciphertext, _canonical(self.header))
        except InvalidTag as error:
            raise FormatError(
                f"the passphrase is right, but this {self.label} was altered or damaged",
                hint="restore the file from a copy",
            ) from error


def check_new_passphrase(passphrase: bytes) -> None:
    """Refuse an empty or short passphrase before it protects anything."""
    if len(_normalised(passphrase).decode("utf-8", "replace")) < MINIMUM_PASSPHRASE:
        raise WrongSecretError(
            f"a new passphrase needs at least {MINIMUM_PASSPHRASE} characters",
            hint="several random words are easy to type and hard to guess",
        )


def new_key(passphrase: bytes) -> FileKey:
    """Check and stretch a new passphrase under a fresh salt."""
    check_new_passphrase(passphrase)
    return Kdf(os.urandom(16)).key(passphrase)


def seal_with_passphrase(plaintext: bytes, passphrase: bytes, label: str) -> bytes:
    """Encrypt once. ``label`` says what the file is, and is needed to open it.

    Raises ``WrongSecretError`` for a passphrase too short to protect anything.
    """
    return new_key(passphrase).seal(plaintext, label)


def open_with_passphrase(data: bytes, passphrase: bytes, label: str) -> bytes:
    """Decrypt. ``FormatError``: not such a file, or altered; ``WrongSecretError``: passphrase."""
    file = SealedFile.parse(data, label)
    key = file.kdf.key(passphrase)
    del passphrase  # so that no traceback of a refusal shows it
    return file.open(key)


def _normalised(passphrase: bytes) -> bytes:
    """NFC (RFC 8265 §4.2.2), so that a backup opens on another keyboard; else the octets."""
    try:
        return unicodedata.normalize("NFC", passphrase.decode("utf-8")).encode("utf-8")
    except UnicodeDecodeError:
        return passphrase


def _canonical(header: Mapping[str, Any]) -> bytes:
    return json.dumps(header, sort_keys=True, separators=(",", ":")).encode("ascii")


def _object(data: bytes) -> dict[str, Any]:
    if len(data) > SIZE_LIMIT:
        raise FormatError(f"a passphrase file is at most {SIZE_LIMIT} octets long")
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise FormatError("not a passphrase file: truncated or not JSON") from error
    if not isinstance(value, dict):
        raise FormatError("not a passphrase file: no JSON object")
    return value


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise FormatError("passphrase file: a member stands twice")
    return value


def _text(octets: bytes) -> str:
    return b64encode(octets).decode("ascii")


def _octets(text: Any, size: int | None = None) -> bytes:
    try:
        octets = b64decode(text.encode("ascii"), validate=True)
    except (AttributeError, UnicodeEncodeError, binascii.Error) as error:
        raise FormatError("passphrase file: malformed base64") from error
    if _text(octets) != text or size not in (None, len(octets)):
        raise FormatError("passphrase file: octets of the wrong length")
    return octets
