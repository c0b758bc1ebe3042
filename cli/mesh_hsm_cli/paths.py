"""Files that a person named: opened, read and made so that nothing of theirs is overwritten."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from mesh_hsm.errors import ConflictError, NotFoundError, UnsupportedError
from mesh_hsm.files import atomic_output, read_limited, storage_errors

OBJECT_LIMIT = 4 << 20
_STEERS = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\xc2[\x80-\x9f]")  # C0 and C1
STANDARD = "-"


def refuse_existing(path: Path, *, force: bool = False) -> None:
    """Raise ``ConflictError`` for a file that is there, before anything is done."""
    if not force and (path.exists() or path.is_symlink()):
        raise ConflictError(f"{path} is there already", hint="choose another name, or move it away")


def read_object(path: Path) -> bytes:
    """A profile, request, response or connection: small, as a whole."""
    return read_limited(path, OBJECT_LIMIT)


class _Screen:
    """A terminal as a place for other people's text: control characters never reach it."""

    def __init__(self) -> None:
        self._last = b""

    def write(self, data: bytes) -> int:
        if _STEERS.search(self._last + data):  # one in C1 has two octets, in two pieces perhaps
            raise _not_for_terminals()
        self._last = bytes(data[-1:])
        return sys.stdout.buffer.write(data)


def _not_for_terminals() -> UnsupportedError:
    return UnsupportedError(
        "this is binary data, or text that would steer the terminal",
        hint="name a file with -o FILE",
    )


@contextmanager
def input_stream(name: str) -> Iterator[BinaryIO]:
    """The file to read, or standard input for ``-``."""
    if name == STANDARD:
        yield sys.stdin.buffer
        return
    path = Path(name)
    if not path.exists():
        raise NotFoundError(f"{path} is not there")
    with storage_errors("read", path):
        file = path.open("rb")
    with file:
        yield file


@contextmanager
def output_stream(name: str, *, force: bool, binary: bool) -> Iterator[BinaryIO]:
    """The file to make, whole or not at all, or standard output for ``-``.

    ``binary`` output to a terminal is refused, and so is text with characters that steer it.
    """
    if name == STANDARD:
        screen = sys.stdout.isatty()
        if binary and screen:
            raise _not_for_terminals()
        yield cast("BinaryIO", _Screen()) if screen else sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(name)
    refuse_existing(path, force=force)
    with atomic_output(path, exclusive=not force) as file:
        yield file
