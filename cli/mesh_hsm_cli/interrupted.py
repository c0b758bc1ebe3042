"""A ``device init`` that was killed: which keys it had made, so that the next one removes them.

Open this file to see what is noted before each key, and when it is forgotten. An error is undone at
once (``rollback``); only the death of the process leaves this note behind.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from mesh_hsm.errors import FormatError
from mesh_hsm.files import ensure_private_dir, read_limited, storage_errors, write_atomic
from mesh_hsm.provider import Token
from mesh_hsm_cli.session import Session
from mesh_hsm_cli.state import State

_LIMIT = 64 * 1024


@dataclass(frozen=True, slots=True)
class Interrupted:
    """What was under way: the token's URI, and the labels of keys that are there or about to be."""

    token: str
    labels: tuple[str, ...] = ()

    def announce(self, state: State, label: str) -> Interrupted:
        """Note one more key, before it is made. No key has this label yet."""
        noted = Interrupted(self.token, (*self.labels, label))
        ensure_private_dir(note_path(state).parent)
        write_atomic(note_path(state), json.dumps(asdict(noted)).encode())
        return noted


def note_path(state: State) -> Path:
    """Where the note is."""
    return state.home / "device" / "interrupted.json"


def load(state: State) -> Interrupted | None:
    """The note that a killed ``device init`` left. Raises ``FormatError`` for a damaged one."""
    path = note_path(state)
    if not path.exists():
        return None
    try:
        value = json.loads(read_limited(path, _LIMIT))
        return Interrupted(str(value["token"]), tuple(map(str, value["labels"])))
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{path} is damaged") from error


def forget(state: State) -> None:
    """Remove the note."""
    path = note_path(state)
    with storage_errors("remove", path):
        path.unlink(missing_ok=True)


def clear(session: Session, token: Token) -> None:
    """Delete the keys that the note names, if they are on this token, and then the note."""
    left = load(session.state)
    if left is None or left.token != str(token.info.uri):
        return
    listed = token.keys()
    for key in [key for key in listed if key.label in left.labels]:
        token.delete(key.uri)
        session.output.notice(f"deleted {key.label}, left by a device init that was interrupted")
    forget(session.state)
