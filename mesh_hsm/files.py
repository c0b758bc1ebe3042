"""Files that are whole or not there: open this to write state, keys or output to disk.

What was there before stays until the new file is complete and on the disk, whatever interrupts:
a full disk, a signal, an exception of the caller. Every failure of ours is ``StorageError``; an
``OSError`` of the caller's, such as of what it reads meanwhile, stays what it is.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedWriter, FileIO
from pathlib import Path
from tempfile import mkstemp
from typing import TYPE_CHECKING, BinaryIO

from mesh_hsm.errors import ConflictError, FormatError, NotFoundError, StorageError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_HINTS = {
    errno.ENOSPC: "free some space and run it again",
    errno.EDQUOT: "free some space and run it again",
    errno.EFBIG: "the file system or a limit of this process (ulimit -f) refuses so large a file",
    errno.ENOENT: "make its folder first",
    errno.EACCES: "check the permissions of the folder",
    errno.EPERM: "check the permissions of the folder",
    errno.EROFS: "the file system is mounted read-only",
}
_WRITE_BACK = 32 << 20  # octets; a GiB was on the disk after 0.46 s instead of 0.71 s
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP}  # what file systems without hard links say


@contextmanager
def atomic_output(path: Path, mode: int = 0o600, *, exclusive: bool = False) -> Iterator[BinaryIO]:
    """A binary file that appears at ``path`` only when the block ends without an exception.

    Written beside the target, flushed to the disk, then renamed over it, or with ``exclusive`` put
    where nothing is. ``mode`` is exact, whatever the umask. After any exception nothing is left
    and an old file is whole; but if the folder cannot be flushed to the disk, the new file is in
    place, and the error says so. Raises ``ConflictError`` if ``exclusive`` and there is something;
    ``StorageError``, also for a target that is there and no regular file: a device, a folder, a
    symbolic link.
    """
    with storage_errors("write", path):
        if not exclusive:
            _refuse_irregular(path)
        descriptor, temporary = mkstemp(prefix=".mesh-hsm-", suffix=".tmp", dir=path.parent)
    try:
        with BufferedWriter(_Output(descriptor, path)) as file:
            with storage_errors("write", path):
                os.fchmod(descriptor, mode)
            yield file
            file.flush()
            with storage_errors("write", path):
                os.fsync(descriptor)
        with storage_errors("write", path):
            _put(temporary, path) if exclusive else os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(path)


def write_atomic(path: Path, data: bytes, mode: int = 0o600, *, exclusive: bool = False) -> None:
    """Put ``data`` at ``path``, whole or not at all. Raises as ``atomic_output``."""
    with atomic_output(path, mode, exclusive=exclusive) as file:
        file.write(data)


def read_limited(path: Path, limit: int) -> bytes:
    """The octets of a regular file of at most ``limit`` octets.

    Raises ``NotFoundError``, ``FormatError`` for a larger file or something that is no file,
    ``StorageError``. Never blocks on a named pipe.
    """
    with storage_errors("read", path):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise NotFoundError(f"{path} is not there") from error
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise FormatError(f"{path} is not a regular file")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                data = file.read(limit + 1)
        finally:
            os.close(descriptor)
    if len(data) > limit:
        raise FormatError(f"{path} is larger than {limit} octets")
    return data


def ensure_private_dir(path: Path) -> None:
    """A folder that only we can enter (0700), made with its parents if need be.

    Raises ``StorageError`` for a symbolic link, something else than a folder, or another owner.
    """
    with storage_errors("open", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except NotADirectoryError as error:
            raise StorageError(
                f"{path} is a symbolic link or not a folder",
                hint="private state is kept in a folder of its own; move it aside",
            ) from error
        try:
            if os.fstat(descriptor).st_uid != os.geteuid():
                raise StorageError(f"{path} belongs to another user")
            os.fchmod(descriptor, 0o700)
        finally:
            os.close(descriptor)


@contextmanager
def storage_errors(verb: str, path: Path) -> Iterator[None]:
    """Turn an ``OSError`` into the one-line ``StorageError`` that says what could not be done."""
    try:
        yield
    except OSError as error:
        code = error.errno or 0
        raise StorageError(
            f"cannot {verb} {path}: {os.strerror(code)}", hint=_HINTS.get(code)
        ) from error


class _Output(FileIO):
    """A file whose own failures are told apart from those of what the caller reads meanwhile."""

    def __init__(self, descriptor: int, path: Path) -> None:
        super().__init__(descriptor, "wb")
        self._path = path
        self._written = self._asked = 0

    def write(self, octets: ReadableBuffer, /) -> int:
        with storage_errors("write", self._path):
            count = super().write(octets)
        self._written += count
        if self._written - self._asked >= _WRITE_BACK:
            _begin_write_back(self.fileno(), self._asked, self._written - self._asked)
            self._asked = self._written
        return count


def _begin_write_back(descriptor: int, offset: int, length: int) -> None:
    """Have Linux begin to write to the disk, so that the fsync at the end waits less."""
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError):  # advice only: a file system need not take it
            os.posix_fadvise(descriptor, offset, length, os.POSIX_FADV_DONTNEED)


def _refuse_irregular(path: Path) -> None:
    # A rename over /dev/null or /dev/stdout would replace the device itself.
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(path.lstat().st_mode):
            raise StorageError(
                f"{path} is there and is not a regular file", hint="name a new file as the output"
            )


def _put(temporary: str, path: Path) -> None:
    try:
        try:
            os.link(temporary, path)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # The name is taken first, empty, since a rename asks nobody.
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            os.replace(temporary, path)
        else:
            os.unlink(temporary)
    except FileExistsError as error:
        raise ConflictError(
            f"{path} is there already", hint="choose another name, or move it away"
        ) from error


def _sync_folder(path: Path) -> None:
    try:
        try:
            descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        except PermissionError:
            return  # a folder that we may write and not read: the file is whole, its name unsynced
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StorageError(
            f"{path} is written, but may not survive a power loss: {error.strerror}",
            hint="check the disk, then run it again",
        ) from error
