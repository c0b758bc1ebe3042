"""What this machine remembers of its Mesh and of itself: one JSON file for each, replaced whole.

Open this file for the members of ``device/record.json``, ``mesh/record.json``,
``mesh/devices/<UDF>.json``, ``keysets/<UDF>.json`` and ``seen/<UDF>.json``. None holds a secret in
the clear: blobs are sealed by the token. What is read is checked for its shape here and for its
truth (signatures, pins) where it is used.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, ClassVar, Self, get_args, get_origin, get_type_hints

from mesh_hsm.errors import FormatError
from mesh_hsm.files import ensure_private_dir, read_limited, write_atomic
from mesh_hsm_cli.state import State

LIMIT = 4 << 20
_KEYS = {"profile", "encryption", "signature", "authentication"}
_UDF = re.compile(r"[A-Z2-7]{4}(-[A-Z2-7]{4})+\Z")

Envelope = list[Any]


@dataclass(frozen=True, slots=True)
class _Record:
    FORMAT: ClassVar[str]

    def save(self, path: Path) -> None:
        """Replace the file as a whole."""
        ensure_private_dir(path.parent)
        write_atomic(path, self.to_octets(), 0o600)

    def to_octets(self) -> bytes:
        """The file's content."""
        return json.dumps({"format": self.FORMAT} | asdict(self), indent=1).encode() + b"\n"

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """Read a record; None if there is none. Raises ``FormatError``, ``StorageError``."""
        if not path.exists():
            return None
        damaged = FormatError(
            f"{path} is damaged", hint="restore it from a copy of the state folder"
        )
        try:
            value = json.loads(read_limited(path, LIMIT))
        except (ValueError, RecursionError) as error:
            raise damaged from error
        hints = get_type_hints(cls)
        names = [field.name for field in fields(cls)]
        if not isinstance(value, dict) or value.pop("format", None) != cls.FORMAT:
            raise damaged
        if sorted(value) != sorted(names):
            raise damaged
        if not all(_fits(value[name], hints[name]) for name in names):
            raise damaged
        record = cls(**{name: _made(value[name], hints[name]) for name in names})
        if not record._is_plausible():
            raise damaged
        return record

    def _is_plausible(self) -> bool:
        """What a member's type does not say. Override where there is more."""
        return True


def _is_base64(text: str) -> bool:
    try:
        b64decode(text, validate=True)
    except ValueError:
        return False
    return True


def _fits(value: Any, hint: Any) -> bool:
    if isinstance(hint, UnionType):
        return any(_fits(value, one) for one in get_args(hint))
    if get_origin(hint) is dict:
        return isinstance(value, dict) and all(isinstance(one, str) for one in value.values())
    if is_dataclass(hint):
        hints = get_type_hints(hint)
        shaped = isinstance(value, dict) and value.keys() == hints.keys()
        return shaped and all(_fits(value[name], hints[name]) for name in hints)
    if get_origin(hint) is list and get_args(hint) != (Any,):
        return isinstance(value, list) and all(_fits(one, *get_args(hint)) for one in value)
    if hint is int:
        return type(value) is int
    return isinstance(value, get_origin(hint) or hint)


def _made(value: Any, hint: Any) -> Any:
    """A value that fits, with the objects in its lists made."""
    if hint == list[Administrator]:
        return [Administrator(**one) for one in value]
    return value


@dataclass(frozen=True, slots=True)
class DeviceRecord(_Record):
    """This machine as a device: ``connection`` and what follows are None until it is activated.

    ``keys`` maps profile, encryption, signature and authentication to key URIs. ``once`` and
    ``seed`` are blobs sealed by the token, in base64.
    """

    FORMAT: ClassVar[str] = "mesh-hsm/1 device record"

    name: str
    udf: str
    token: str
    keys: dict[str, str]
    request: Envelope
    once: str | None
    connection: Envelope | None = None
    master: Envelope | None = None
    pins: Envelope | None = None
    seed: str | None = None

    def _is_plausible(self) -> bool:
        blobs = (blob for blob in (self.once, self.seed) if blob is not None)
        return self.keys.keys() == _KEYS and all(map(_is_base64, blobs))


@dataclass(frozen=True, slots=True)
class Administrator:
    """An administrator key: what it is called here, where it is, and the version that added it."""

    label: str
    uri: str
    udf: str
    since: int


@dataclass(frozen=True, slots=True)
class MeshRecord(_Record):
    """The administrator's Mesh. ``backup`` is where the backup was first written, if there is one.

    ``master`` is a key URI. ``removed`` has the UDFs of administrators who must not come back.
    """

    FORMAT: ClassVar[str] = "mesh-hsm/1 mesh record"

    name: str
    udf: str
    master: str
    administrators: list[Administrator]
    removed: list[str]
    profile: Envelope
    backup: str | None

    @property
    def uris(self) -> set[str]:
        """Where the Mesh's own keys are found, and nowhere else."""
        return {self.master, *(one.uri for one in self.administrators)}


@dataclass(frozen=True, slots=True)
class SeenProfile(_Record):
    """The newest ProfileMaster of a Mesh that was seen here, whoever showed it."""

    FORMAT: ClassVar[str] = "mesh-hsm/1 seen profile"

    udf: str
    profile: Envelope


@dataclass(frozen=True, slots=True)
class FiledDevice(_Record):
    """A device that the administrator vouched for; ``connection`` is None until it came back."""

    FORMAT: ClassVar[str] = "mesh-hsm/1 filed device"

    label: str
    udf: str
    request: Envelope
    issued: Envelope
    connection: Envelope | None = None


@dataclass(frozen=True, slots=True)
class FiledKeySet(_Record):
    """A 2-of-3 key set that is known here. Who vouches for it is looked at where that matters."""

    FORMAT: ClassVar[str] = "mesh-hsm/1 filed key set"

    name: str
    udf: str
    envelope: Envelope


def device_path(state: State) -> Path:
    """Where this machine's own record is."""
    return state.home / "device" / "record.json"


def mesh_path(state: State) -> Path:
    """Where the administrator's record is."""
    return state.home / "mesh" / "record.json"


def filed_path(state: State, udf: str) -> Path:
    """Where a device that was vouched for is filed. Raises ``FormatError`` for no UDF."""
    return state.home / "mesh" / "devices" / _file_name(udf)


def seen_path(state: State, udf: str) -> Path:
    """Where the newest ProfileMaster of a Mesh is kept. Raises ``FormatError`` for no UDF."""
    return state.home / "seen" / _file_name(udf)


def _file_name(udf: str) -> str:
    if not _UDF.match(udf):
        raise FormatError("not a UDF")
    return f"{udf}.json"


def key_set_path(state: State, udf: str) -> Path:
    """Where a key set is filed. Raises ``FormatError`` for no UDF."""
    return state.home / "keysets" / _file_name(udf)


def load_device(state: State) -> DeviceRecord | None:
    """This machine as a device, if it is one."""
    return DeviceRecord.load(device_path(state))


def load_mesh(state: State) -> MeshRecord | None:
    """The Mesh administered here, if there is one."""
    return MeshRecord.load(mesh_path(state))


def filed_devices(state: State) -> list[FiledDevice]:
    """Every device filed here, by label."""
    found = (FiledDevice.load(path) for path in (state.home / "mesh" / "devices").glob("*.json"))
    return sorted((one for one in found if one), key=lambda one: (one.label, one.udf))


def filed_key_sets(state: State) -> list[FiledKeySet]:
    """Every key set known here, by name."""
    found = (FiledKeySet.load(path) for path in (state.home / "keysets").glob("*.json"))
    return sorted((one for one in found if one), key=lambda one: (one.name, one.udf))
