"""Steps that are undone when a later one fails: open this before writing a command with several.

    with Rollback(say) as undo:
        undo.write_new(path, data)
        undo.new_file(other)
        write_atomic(other, data)

A step is announced before it is taken, since a signal may arrive between the two. Undoing runs for
every exception, newest step first.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from mesh_hsm.errors import ConflictError, MeshHsmError
from mesh_hsm.files import storage_errors, write_atomic
from mesh_hsm.provider import DeviceKey, Token


class Rollback:
    """A context manager that remembers how to undo. ``say`` reports what could not be undone."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._steps: list[tuple[str, Callable[[], None]]] = []
        self._notes: list[Path] = []
        self._left = False

    def on_failure(self, what: str, undo: Callable[[], None]) -> None:
        """Remember a step. ``what`` names it if undoing fails."""
        self._steps.append((what, undo))

    def new_file(self, path: Path) -> None:
        """Announce a file that is not there yet."""
        self.on_failure(f"remove {path}", partial(path.unlink, missing_ok=True))

    def new_note(self, path: Path) -> None:
        """Announce a file that says what there is to undo: it goes once all is done, or undone.

        If we are killed it stays, and if undoing fails: a device that was pulled out keeps what was
        made in it until it is plugged in again.
        """
        self._notes.append(path)

        def remove() -> None:
            if self._left:
                self._say("what is left is deleted when the command is run again")
            else:
                path.unlink(missing_ok=True)

        self.on_failure(f"remove {path}", remove)

    def write_new(self, path: Path, data: bytes) -> None:
        """Write a file, unless there is one: ``ConflictError``. That one is left alone."""
        self.new_file(path)
        try:
            write_atomic(path, data, exclusive=True)
        except ConflictError:
            self._steps.pop()
            raise

    def new_key(self, token: Token, label: str) -> None:
        """Announce a key that is not there yet. Raises ``ConflictError`` if it is."""
        if _labelled(token, label):
            raise ConflictError(
                f"{token.info.label} has a key {label} already",
                hint="choose another name, or see mesh-hsm key list",
                uri=str(token.info.uri),
            )

        def delete() -> None:
            for key in _labelled(token, label):
                token.delete(key.uri)

        self.on_failure(f"delete the key {label}", delete)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            for note in self._notes:
                with storage_errors("remove", note):
                    note.unlink(missing_ok=True)
            return
        for what, undo in reversed(self._steps):
            try:
                undo()
            except (MeshHsmError, OSError) as failure:
                self._left = True
                self._say(f"could not {what}: {failure}")


def _labelled(token: Token, label: str) -> list[DeviceKey]:
    listed = token.keys()
    return [key for key in listed if key.label == label]
