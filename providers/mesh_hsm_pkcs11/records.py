"""Our records of a token's keys: a small JSON file each. Open this file for what is remembered.

The token is the truth; a record adds who else has known an imported key, and is written *before*
the key is made, so that a process killed in between leaves nothing on the token without a name.
Nothing here is secret.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from filelock import FileLock

from mesh_hsm.curves import Point, curve
from mesh_hsm.custody import PinPolicy
from mesh_hsm.errors import FormatError, NotFoundError, UnsupportedError
from mesh_hsm.files import ensure_private_dir, read_limited, storage_errors, write_atomic
from mesh_hsm.provider import Use

_LIMIT: Final = 64 * 1024
_SUFFIX: Final = ".key.json"


def this_boot() -> str:
    """What tells this run of this machine from every other; empty where the system has no name."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


class Stage(StrEnum):
    """How far a key is. Only a made one is used; the others were interrupted."""

    MAKING = "making"
    MADE = "made"
    DELETING = "deleting"


@dataclass(frozen=True, slots=True)
class Record:
    """One key. ``identifier`` is CKA_ID in hexadecimal; ``use`` None: the sealing key.

    ``origin`` is ``generated``, ``wrapped`` or ``created``; ``algorithm`` and ``public``
    (``Point.encode`` in hexadecimal) are empty until the public key is known: whoever can reach the
    token may replace what it shows of a key without a PIN, but not what stands here. ``statement``
    is the custody statement as it was read back when the key was made, in its JSON form. ``boot``
    names the run of the machine in which the record was begun.
    """

    label: str
    identifier: str
    use: Use | None
    stage: Stage = Stage.MAKING
    pin: PinPolicy = PinPolicy.ONCE
    origin: str = "generated"
    known_by: tuple[str, ...] = ()
    algorithm: str = ""
    public: str = ""
    boot: str = field(default_factory=this_boot)
    statement: dict[str, Any] | None = None

    @property
    def octets(self) -> bytes:
        """CKA_ID."""
        return bytes.fromhex(self.identifier)

    @property
    def point(self) -> Point | None:
        """The public key, with its sign, as it was when the key was made."""
        if not self.public:
            return None
        return curve(self.algorithm).decode(bytes.fromhex(self.public))

    def of(self, public: Point) -> Record:
        """The same record, with its public key."""
        return replace(self, algorithm=public.curve.name, public=public.encode().hex())


class Records:
    """The records of one token, in a folder of its own."""

    def __init__(self, folder: Path, token: str) -> None:
        self.folder = folder / f"token-{sha256(token.encode()).hexdigest()[:16]}"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other programs and threads from making or deleting keys meanwhile."""
        ensure_private_dir(self.folder)
        lock = FileLock(self.folder / ".lock", mode=0o600)
        with storage_errors("lock", self.folder):
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def all(self, *, strict: bool = False) -> list[Record]:
        """Every record, by label. A damaged one is for ``doctor`` to name.

        ``strict``: it raises ``FormatError``.
        """
        passed_over = (NotFoundError,) if strict else (NotFoundError, FormatError)
        found = []
        for path in self.folder.glob(f"*{_SUFFIX}"):
            with suppress(*passed_over):  # gone since, for another program makes and deletes keys
                found.append(_read(path))
        return sorted(found, key=lambda record: record.label)

    def tidy(self) -> None:
        """Remove what a killed process had begun to write. Within ``locked`` only."""
        for path in self.folder.glob(".*.tmp"):
            with storage_errors("remove", path):
                path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Forget every key: the token was erased."""
        for path in self.folder.glob(f"*{_SUFFIX}"):
            with storage_errors("remove", path):
                path.unlink(missing_ok=True)

    def save(self, record: Record) -> None:
        """Write a record, whole or not at all."""
        octets = json.dumps(asdict(record), indent=1, ensure_ascii=False).encode() + b"\n"
        write_atomic(self._path(record.identifier), octets)

    def remove(self, record: Record) -> None:
        """Forget a key. It is no error if it is forgotten already."""
        path = self._path(record.identifier)
        with storage_errors("remove", path):
            path.unlink(missing_ok=True)

    def _path(self, identifier: str) -> Path:
        return self.folder / f"{identifier}{_SUFFIX}"


def _read(path: Path) -> Record:
    octets = read_limited(path, _LIMIT)
    try:
        value: dict[str, Any] = json.loads(octets)
        use, statement = value.pop("use"), value.pop("statement")
        if statement is not None and not isinstance(statement, dict):
            raise TypeError
        record = Record(
            label=str(value.pop("label")),
            identifier=str(value.pop("identifier")),
            use=None if use is None else Use(use),
            stage=Stage(value.pop("stage")),
            pin=PinPolicy(value.pop("pin")),
            origin=str(value.pop("origin")),
            known_by=tuple(str(name) for name in value.pop("known_by")),
            algorithm=str(value.pop("algorithm")),
            public=str(value.pop("public")),
            boot=str(value.pop("boot")),
            statement=statement,
            **value,
        )
        _ = record.octets, record.point
    except (KeyError, UnsupportedError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(f"{path} is damaged") from error
    return record
