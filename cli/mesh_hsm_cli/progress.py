"""A progress bar on stderr for long work, where somebody is looking."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

import click

WORTH_SHOWING = 64 << 20


class _Watched:
    """A file that reports how far it has been read, everything else as before."""

    def __init__(self, file: BinaryIO, moved: Callable[[], None]) -> None:
        self._file = file
        self._moved = moved

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._moved()
        return data

    def readinto(self, buffer: Any) -> int:
        count: int = self._file.readinto(buffer)  # type: ignore[attr-defined]  # typeshed's BinaryIO lacks it
        self._moved()
        return count

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@contextmanager
def watched(file: BinaryIO, quiet: bool) -> Iterator[BinaryIO]:
    """The file, with a bar while it is read if it is large and stderr is a terminal."""
    status = os.fstat(file.fileno())
    large = stat.S_ISREG(status.st_mode) and status.st_size >= WORTH_SHOWING
    if quiet or not large or not sys.stderr.isatty():
        yield file
        return
    with click.progressbar(length=status.st_size, file=sys.stderr) as bar:

        def moved() -> None:
            bar.update(file.tell() - bar.pos)

        yield cast("BinaryIO", _Watched(file, moved))
