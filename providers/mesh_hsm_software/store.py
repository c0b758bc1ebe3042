"""The encrypted key file: read without a passphrase, changed under a lock, replaced as a whole.

Open this file for what stands in a store and when the passphrase is asked. Public keys are legible
to anyone who can read the file and are authenticated with the private ones; until a passphrase has
been given they are a claim. Nothing is kept in memory but the stretched passphrase.
"""

from __future__ import annotations

import json
import os
import threading
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from filelock import FileLock, Timeout

from mesh_hsm.curves import Point, curve
from mesh_hsm.errors import FormatError, NotFoundError, StorageError, UnsupportedError
from mesh_hsm.files import ensure_private_dir, read_limited, write_atomic
from mesh_hsm.passphrase_file import SIZE_LIMIT, FileKey, SealedFile, new_key
from mesh_hsm.provider import Use
from mesh_hsm.secret_source import SecretKind, SecretRequest, SecretSource

LABEL: Final = "key store"
_LOCK_SECONDS: Final = 30.0
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Entry:
    """What a store says of one key without a passphrase. ``known_by``: see ``CustodyStatement``."""

    public: Point
    use: Use
    known_by: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """One member of the file's public part."""
        return {
            "algorithm": self.public.curve.name,
            "use": self.use,
            "public": b64encode(self.public.encode()).decode("ascii"),
            "known_by": list(self.known_by),
        }

    @classmethod
    def from_json(cls, value: Any) -> Entry:
        """Read one member. Raises ``FormatError``."""
        try:
            octets = b64decode(value["public"], validate=True)
            public = curve(value["algorithm"]).decode(octets)
            known_by = tuple(_printable(name) for name in value["known_by"])
            return cls(public, Use(value["use"]), known_by)
        except (KeyError, TypeError, ValueError, UnsupportedError) as error:
            raise FormatError("the key store's public part is damaged") from error


@dataclass(frozen=True, slots=True)
class Contents:
    """An open store. ``private`` has the labels of ``entries``; ``seal_key`` is 32 octets."""

    entries: dict[str, Entry]
    private: dict[str, bytes]
    seal_key: bytes

    def __repr__(self) -> str:
        return f"Contents({sorted(self.entries)})"

    def plaintext(self) -> bytes:
        """The encrypted part: JSON, octets as hexadecimal digits."""
        private = {label: octets.hex() for label, octets in self.private.items()}
        return json.dumps({"seal_key": self.seal_key.hex(), "private": private}).encode("ascii")

    @classmethod
    def read(cls, file: SealedFile, key: FileKey) -> Contents:
        """Decrypt. Raises ``WrongSecretError``, ``FormatError``."""
        entries = _entries(file)
        plaintext = file.open(key)
        try:
            secret = json.loads(plaintext)
            private = {label: bytes.fromhex(secret["private"][label]) for label in entries}
            return cls(entries, private, bytes.fromhex(secret["seal_key"]))
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(f"this {LABEL} was written by another program") from error


class Store:
    """One file of keys. Threads and processes may share it: each write starts from what is there.

    It holds no descriptor between calls, so a forked child goes on with it as the parent does.
    """

    def __init__(self, path: Path, name: str, secrets: SecretSource) -> None:
        self._path = path
        self._name = name
        self._secrets = secrets
        self._key: FileKey | None = None
        self._pid = os.getpid()
        self._turn = threading.RLock()

    def entries(self) -> dict[str, Entry]:
        """Public keys by label, as the file is now. Raises ``FormatError``, ``StorageError``."""
        file = self._read()
        return _entries(file) if file else {}

    def contents(self) -> Contents | None:
        """The open store, or None where there is no file yet. May ask for the passphrase."""
        with self._one_thread():
            file = self._read()
            return Contents.read(file, self._unlocked(file)) if file else None

    def change(self, edit: Callable[[Contents], Answer]) -> Answer:
        """Let ``edit`` change the contents; then replace the file, or leave it as it was.

        The passphrase is asked, and a new store's chosen, before the lock is taken: nobody waits
        for a person. Raises ``StorageError``, ``AccessError`` and whatever ``edit`` raises.
        """
        with self._one_thread():
            while True:
                key = self._unlocked(self._read())
                with self._one_process():
                    file = self._read()
                    if file and file.kdf != key.kdf:
                        continue  # another process made the store, or changed its passphrase
                    now = Contents.read(file, key) if file else Contents({}, {}, os.urandom(32))
                    answer = edit(now)
                    self._write(now, key)
                    return answer

    def change_passphrase(self) -> None:
        """Ask for the old and the new passphrase, and encrypt the store anew.

        Copies of the file made before still open with the old passphrase.
        """
        with self._one_thread():
            old, _ = self._present().unlock(self._ask(SecretKind.PASSPHRASE))
            new = new_key(self._ask(SecretKind.NEW_PASSPHRASE))
            with self._one_process():
                self._write(Contents.read(self._present(), old), new)
            self._key = new

    def forget(self) -> None:
        """Drop the stretched passphrase."""
        self._key = None

    def _octets(self) -> bytes | None:
        try:
            return read_limited(self._path, SIZE_LIMIT)
        except NotFoundError:
            return None

    def _read(self) -> SealedFile | None:
        octets = self._octets()
        return None if octets is None else SealedFile.parse(octets, LABEL)

    def _present(self) -> SealedFile:
        file = self._read()
        if file is None:
            raise NotFoundError(f"there is no {LABEL} {self._name}")
        return file

    def _write(self, contents: Contents, key: FileKey) -> None:
        public = {label: entry.to_json() for label, entry in contents.entries.items()}
        data = key.seal(contents.plaintext(), LABEL, {"keys": public})
        before = self._octets()
        try:
            write_atomic(self._path, data, 0o600)
        except StorageError:
            # The last step may have failed after the rename: who is told "failed" finds the old.
            with suppress(StorageError, OSError):
                if before is None:
                    self._path.unlink(missing_ok=True)
                elif self._octets() != before:
                    write_atomic(self._path, before, 0o600)
            raise

    def _unlocked(self, file: SealedFile | None) -> FileKey:
        """The key of the file as it is now, or of the file to be made."""
        if self._key is None or (file and file.kdf != self._key.kdf):
            if file is None:
                self._key = new_key(self._ask(SecretKind.NEW_PASSPHRASE))
            else:
                self._key, _ = file.unlock(self._ask(SecretKind.PASSPHRASE))
        return self._key

    def _ask(self, kind: SecretKind) -> bytes:
        return self._secrets.secret(SecretRequest(kind, f"{LABEL} {self._name}"))

    @contextmanager
    def _one_thread(self) -> Iterator[None]:
        if self._pid != os.getpid():  # a lock that another thread held at the fork stays held
            self._pid, self._turn = os.getpid(), threading.RLock()
        with self._turn:
            yield

    @contextmanager
    def _one_process(self) -> Iterator[None]:
        ensure_private_dir(self._path.parent)
        lock = FileLock(self._path.with_suffix(".lock"), timeout=_LOCK_SECONDS, mode=0o600)
        try:
            lock.acquire()
        except Timeout as error:
            raise StorageError(f"another process keeps the {LABEL} {self._name} locked") from error
        except OSError as error:
            raise StorageError(f"cannot lock the {LABEL} {self._name}: {error.strerror}") from error
        try:
            yield
        finally:
            lock.release()


def _entries(file: SealedFile) -> dict[str, Entry]:
    keys = file.public.get("keys")
    if not isinstance(keys, dict):
        raise FormatError("the key store's public part is damaged")
    return {_printable(label): Entry.from_json(keys[label]) for label in sorted(keys)}


def _printable(text: str) -> str:
    if not text.isprintable():  # the public part is a claim, and ends up on a terminal
        raise FormatError("the key store's public part is damaged")
    return text
