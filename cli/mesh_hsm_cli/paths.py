"""Files that a person named: opened, read and made so that nothing of theirs is overwritten."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from mesh_hsm.errors import ConflictError, UnsupportedError
from mesh_hsm.files import atomic_output, read_limited, storage_errors

OBJECT_LIMIT = 4 << 20
STANDARD = "-"


def refuse_existing(path: Path, *, force: bool = False) -> None:
    """Raise ``ConflictError`` for a file that is there, before anything is done."""
    if not force and (path.exists() or path.is_symlink()):
        raise ConflictError(f"{path} is there already", hint="choose another name, or move it away")


def read_object(path: Path) -> bytes:
    """A profile, request, response or connection: small, as a whole."""
    return read_limited(path, OBJECT_LIMIT)


@contextmanager
def input_stream(name: str) -> Iterator[BinaryIO]:
    """The file to read, or standard input for ``-``."""
    if name == STANDARD:
        yield sys.stdin.buffer
        return
    path = Path(name)
    with storage_errors("read", path):
        file = path.open("rb")
    with file:
        yield file


@contextmanager
def output_stream(name: str, *, force: bool, binary: bool) -> Iterator[BinaryIO]:
    """The file to make, whole or not at all, or standard output for ``-``.

    Binary output to a terminal is refused: it may hold sequences that steer it.
    """
    if name == STANDARD:
        if binary and sys.stdout.isatty():
            raise UnsupportedError(
                "this would write binary data to the terminal", hint="name a file with -o FILE"
            )
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(name)
    refuse_existing(path, force=force)
    with atomic_output(path) as file:
        yield file
