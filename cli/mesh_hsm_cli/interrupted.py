"""A command that was killed amid its keys: which it had made, so that the next one removes them.

Open this file to see what is noted before each key, and when it is forgotten. An error is undone at
once (``rollback``); only the death of the process leaves this note behind. A ``device init`` has a
note of its own; the commands that make keys of the Mesh share one.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from mesh_hsm.curves import Point
from mesh_hsm.errors import FormatError
from mesh_hsm.files import ensure_private_dir, read_limited, storage_errors, write_atomic
from mesh_hsm.provider import Token
from mesh_hsm_cli.session import Session
from mesh_hsm_cli.state import State

_LIMIT = 64 * 1024


class Of(StrEnum):
    """Whose keys: the state folder's subfolder that has the note."""

    DEVICE = "device"
    MESH = "mesh"

    @property
    def command(self) -> str:
        """What was interrupted, as it is said."""
        return "device init" if self is Of.DEVICE else "command"


@dataclass(frozen=True, slots=True)
class Interrupted:
    """What was under way: the token's URI, and the labels of keys that are there or about to be."""

    token: str
    labels: tuple[str, ...] = ()

    def announce(self, state: State, label: str, of: Of = Of.DEVICE) -> Interrupted:
        """Note one more key, before it is made. No key has this label yet."""
        noted = Interrupted(self.token, (*self.labels, label))
        ensure_private_dir(note_path(state, of).parent)
        write_atomic(note_path(state, of), json.dumps(asdict(noted)).encode())
        return noted


def note_path(state: State, of: Of = Of.DEVICE) -> Path:
    """Where the note is."""
    return state.home / of / "interrupted.json"


def load(state: State, of: Of = Of.DEVICE) -> Interrupted | None:
    """The note that a killed command left. Raises ``FormatError`` for a damaged one."""
    path = note_path(state, of)
    if not path.exists():
        return None
    try:
        value = json.loads(read_limited(path, _LIMIT))
        return Interrupted(str(value["token"]), tuple(map(str, value["labels"])))
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{path} is damaged") from error


def forget(state: State, of: Of = Of.DEVICE) -> None:
    """Remove the note."""
    path = note_path(state, of)
    with storage_errors("remove", path):
        path.unlink(missing_ok=True)


def clear(
    session: Session, token: Token, of: Of = Of.DEVICE, needed: Collection[Point] = ()
) -> None:
    """Delete the keys that the note names, if they are on this token, and then the note.

    One that is ``needed`` was not left: the command died after it had filed it.
    """
    left = load(session.state, of)
    if left is None:
        return
    if left.token != str(token.info.uri):
        if of is Of.MESH:
            session.output.notice(
                f"a command that was interrupted left {', '.join(left.labels)} on {left.token}: "
                "delete it there with mesh-hsm key delete",
                loud=True,
            )
        return
    listed = token.keys()
    for key in [key for key in listed if key.label in left.labels and key.public not in needed]:
        token.delete(key.uri)
        session.output.notice(f"deleted {key.label}, left by a {of.command} that was interrupted")
    forget(session.state, of)
