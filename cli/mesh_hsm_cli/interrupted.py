"""A command that was killed amid its keys: which it had made, so that the next one removes them.

Open this file to see what is noted before each key, and when it is forgotten. An error is undone at
once (``rollback``); only the death of the process leaves this note behind. A ``device init`` has a
note of its own; keys of the Mesh and parts of key sets have one for each token.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from mesh_hsm.curves import Point
from mesh_hsm.errors import ConflictError, FormatError
from mesh_hsm.files import ensure_private_dir, read_limited, storage_errors, write_atomic
from mesh_hsm.provider import Token
from mesh_hsm.uri import Uri
from mesh_hsm_cli.session import Session
from mesh_hsm_cli.state import State

_LIMIT = 64 * 1024


@dataclass(frozen=True, slots=True)
class Interrupted:
    """What was under way: the token's URI, and the labels of keys that are there or about to be."""

    token: str
    labels: tuple[str, ...] = ()

    def announce(self, path: Path, label: str) -> Interrupted:
        """Note one more key, before it is made. No key has this label yet."""
        noted = Interrupted(self.token, (*self.labels, label))
        ensure_private_dir(path.parent)
        write_atomic(path, json.dumps(asdict(noted)).encode())
        return noted


def device_note(state: State) -> Path:
    """Where ``device init`` notes its keys."""
    return state.home / "device" / "interrupted.json"


def mesh_note(state: State, token: Uri) -> Path:
    """Where ``mesh`` and ``admin`` note the Mesh's own keys on one token."""
    return _note(state.home / "mesh", token)


def key_set_note(state: State, token: Uri) -> Path:
    """Where ``keyset create`` notes the parts that it puts on one token."""
    return _note(state.home / "keysets", token)


def mesh_notes(state: State) -> list[Interrupted]:
    """Every note that a killed ``mesh`` or ``admin`` left."""
    return _notes(state.home / "mesh")


def key_set_notes(state: State) -> list[Interrupted]:
    """Every note that a killed ``keyset create`` left."""
    return _notes(state.home / "keysets")


def _note(folder: Path, token: Uri) -> Path:
    name = sha256(str(token).encode()).hexdigest()[:16]
    return folder / "interrupted" / f"{name}.json"


def _notes(folder: Path) -> list[Interrupted]:
    found = map(load, sorted((folder / "interrupted").glob("*.json")))
    return [left for left in found if left is not None]


def refuse_label(state: State, token: Token, label: str) -> None:
    """Raise ``ConflictError`` for a label that a note names: ``clear`` would delete its key."""
    notes = (load(device_note(state)), *mesh_notes(state), *key_set_notes(state))
    for left in notes:
        if left is not None and left.token == str(token.info.uri) and label in left.labels:
            raise ConflictError(
                f"a command that was interrupted was making a key {label} on this token",
                hint="choose another label, or run that command again: it tidies up first",
                uri=left.token,
            )


def load(path: Path) -> Interrupted | None:
    """The note that a killed command left. Raises ``FormatError`` for a damaged one."""
    if not path.exists():
        return None
    try:
        value = json.loads(read_limited(path, _LIMIT))
        return Interrupted(str(value["token"]), tuple(map(str, value["labels"])))
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{path} is damaged") from error


def forget(path: Path) -> None:
    """Remove the note."""
    with storage_errors("remove", path):
        path.unlink(missing_ok=True)


def clear(session: Session, token: Token, path: Path, needed: Collection[Point] = ()) -> None:
    """Delete the keys that the note names, if they are on this token, and then the note.

    One that is ``needed`` was not left: the command died after it had filed it.
    """
    left = load(path)
    if left is None:
        return
    if left.token != str(token.info.uri):
        session.output.notice(
            f"a command that was interrupted left {', '.join(left.labels)} on {left.token}: "
            "delete it there with mesh-hsm key delete",
            loud=True,
        )
        return
    listed = token.keys()
    for key in [key for key in listed if key.label in left.labels and key.public not in needed]:
        token.delete(key.uri)
        session.output.notice(f"deleted {key.label}, left by a command that was interrupted")
    forget(path)
