"""Our records of a TPM's keys: a small JSON file each, beside the TPM key file.

Open this file for what is remembered besides the blob. Nothing here is secret, and nothing here is
believed where the TPM itself can be asked.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

from filelock import FileLock

from mesh_hsm.custody import PinPolicy
from mesh_hsm.errors import ConflictError, FormatError, NotFoundError
from mesh_hsm.files import read_limited, storage_errors, write_atomic
from mesh_hsm.provider import Use
from mesh_hsm_tpm2.blobs import KeyFile
from mesh_hsm_tpm2.policies import Policy
from mesh_hsm_tpm2.structures import PublicArea

_LIMIT = 64 * 1024
_LONGEST_NAME = 200
_SUFFIX, _BLOB_SUFFIX = ".key.json", ".tss2.pem"


@dataclass(frozen=True, slots=True)
class Creation:
    """What TPM2_CertifyCreation will want: data, its digest and the ticket, in hexadecimal."""

    data: str
    digest: str
    ticket: str


@dataclass(frozen=True, slots=True)
class Record:
    """One key. ``public`` is TPMT_PUBLIC in hexadecimal, ``pcr_digest`` too.

    ``persistent`` is its handle; such a key has no key file. ``known_by`` and ``notes`` go into
    its custody statement. ``storage_root`` is the name of the key it hangs under.
    """

    label: str
    use: Use
    pin: PinPolicy
    public: str
    storage_root: str
    pcrs: tuple[int, ...] = ()
    pcr_digest: str = ""
    persistent: int | None = None
    known_by: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    creation: Creation | None = None

    @property
    def identity(self) -> str:
        """What tells this key from every other one."""
        return f"key {self.label}"

    @property
    def area(self) -> PublicArea:
        """The public area as it was when the record was written."""
        return PublicArea.parse(bytes.fromhex(self.public))

    @property
    def policy(self) -> Policy:
        """The policy that the key was made with."""
        pin = self.pin is not PinPolicy.NONE
        return Policy(self.pcrs, bytes.fromhex(self.pcr_digest), pin)

    def at(self, place: int) -> Record:
        """The same key in a persistent place."""
        return replace(self, persistent=place)


class Records:
    """The records in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from changing the folder meanwhile."""
        lock = FileLock(self._folder / ".lock")
        with storage_errors("lock", self._folder):
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def labels(self) -> list[str]:
        """Every label, sorted."""
        paths = self._folder.glob(f"*{_SUFFIX}")
        return sorted(_read(path).label for path in paths)

    def names(self) -> set[bytes]:
        """The TPM's names of every key whose record can be read."""
        found = set()
        for path in self._folder.glob(f"*{_SUFFIX}"):
            with suppress(FormatError, NotFoundError):
                found.add(_read(path).area.name)
        return found

    def load(self, label: str) -> Record:
        """One record. Raises ``NotFoundError``, ``FormatError``."""
        path = self._path(label, _SUFFIX)
        try:
            record = _read(path)
        except NotFoundError as error:
            raise NotFoundError(f"no key {label} in this TPM's records") from error
        if record.label != label:
            raise FormatError(f"{path} is damaged")
        return record

    def check_free(self, label: str) -> None:
        """Refuse a label in use."""
        if self._path(label, _SUFFIX).exists():
            raise ConflictError(
                f"this TPM already has a key {label}",
                hint="choose another label, or delete that key first",
            )

    def save(self, record: Record) -> None:
        """Write a record, whole or not at all. This is when a key begins to exist."""
        octets = json.dumps(asdict(record), indent=1, ensure_ascii=False).encode() + b"\n"
        write_atomic(self._path(record.label, _SUFFIX), octets)

    def key_file(self, label: str) -> KeyFile:
        """The TPM key file beside the record."""
        return KeyFile.from_pem(read_limited(self._path(label, _BLOB_SUFFIX), _LIMIT))

    def save_key_file(self, label: str, blob: KeyFile) -> None:
        """Write the TPM key file, whole or not at all."""
        write_atomic(self._path(label, _BLOB_SUFFIX), blob.to_pem())

    def remove(self, label: str) -> None:
        """Remove record and key file, the record first: without it there is no key."""
        for suffix in (_SUFFIX, _BLOB_SUFFIX):
            path = self._path(label, suffix)
            with storage_errors("remove", path), suppress(FileNotFoundError):
                path.unlink()

    def _path(self, label: str, suffix: str) -> Path:
        # Percent-encoding keeps '/' out; the suffix keeps '.' and '..' from being folders. A label
        # of 64 characters can grow beyond what a file's name may be.
        name = quote(label, safe=" @+,=")
        if len(name) > _LONGEST_NAME:
            name = sha256(name.encode()).hexdigest()
        return self._folder / f"{name}{suffix}"


def _read(path: Path) -> Record:
    octets = read_limited(path, _LIMIT)
    try:
        value: dict[str, Any] = json.loads(octets)
        creation = value.pop("creation")
        record = Record(
            label=value.pop("label"),
            use=Use(value.pop("use")),
            pin=PinPolicy(value.pop("pin")),
            pcrs=tuple(value.pop("pcrs")),
            known_by=tuple(value.pop("known_by")),
            notes=tuple(value.pop("notes")),
            creation=Creation(**creation) if creation else None,
            **value,
        )
        bytes.fromhex(record.pcr_digest)
        _ = record.area
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(f"{path} is damaged") from error
    return record
