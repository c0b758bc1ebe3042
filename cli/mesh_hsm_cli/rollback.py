"""Steps that are undone when a later one fails: open this before writing a command with several.

    with Rollback(say) as undo:
        key = token.generate(spec)
        undo.on_failure(f"delete {key.uri}", partial(token.delete, key.uri))

Undoing runs for every exception, a signal's among them, newest step first.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from mesh_hsm.errors import MeshHsmError


class Rollback:
    """A context manager that remembers how to undo. ``say`` reports what could not be undone."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._steps: list[tuple[str, Callable[[], None]]] = []

    def on_failure(self, what: str, undo: Callable[[], None]) -> None:
        """Remember a step. ``what`` names it if undoing fails."""
        self._steps.append((what, undo))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            return
        for what, undo in reversed(self._steps):
            try:
                undo()
            except (MeshHsmError, OSError) as failure:
                self._say(f"could not {what}: {failure}")
