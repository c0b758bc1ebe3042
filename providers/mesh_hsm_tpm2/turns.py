"""Turns on a TPM without a resource manager. Open this file when two programs share a raw TPM.

Handles there are bare numbers: a session or key that another program flushed may come back as
somebody else's, and an authorisation meant for ours then counts as a wrong PIN. So our programs
take turns, and one that finds another was there in between starts clean.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from mesh_hsm.files import storage_errors

_CLEAN = b"-" * 32


class Turns:
    """A lock file that tells who used the TPM last. Not for threads: lock those out first."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._me = uuid4().hex.encode()
        self._file: int | None = None
        self._depth = 0

    @contextmanager
    def taken(self) -> Iterator[bool]:
        """A turn. True if somebody else's handles may be in the TPM, and ours may be gone."""
        if not self._path.parent.is_dir():
            yield False  # no records, so no program of ours has used the TPM through them
            return
        if self._depth == 0:
            with storage_errors("lock", self._path):
                if self._file is None:
                    self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                fcntl.flock(self._file, fcntl.LOCK_EX)
        self._depth += 1
        try:
            yield self._note(self._me)
        finally:
            self._depth -= 1
            if self._depth == 0 and self._file is not None:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def end(self) -> None:
        """Within the last turn: nothing of ours is in the TPM any more."""
        if self._file is not None:
            os.pwrite(self._file, _CLEAN, 0)

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _note(self, who: bytes) -> bool:
        if self._file is None:
            return False
        last = os.pread(self._file, len(_CLEAN), 0)
        if last == who:
            return False
        os.pwrite(self._file, who, 0)
        return last not in (b"", _CLEAN)
