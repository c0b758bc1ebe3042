"""Files that are whole or not there: open this to write state, keys or output to disk.

What was there before stays until the new file is complete and on the disk, whatever interrupts:
a full disk, a signal, an exception of the caller. Every failure of the system is ``StorageError``.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkstemp
from typing import BinaryIO

from mesh_hsm.errors import FormatError, NotFoundError, StorageError

_HINTS = {
    errno.ENOSPC: "free some space and run it again",
    errno.EDQUOT: "free some space and run it again",
    errno.EFBIG: "the file system or a limit of this process (ulimit -f) refuses so large a file",
    errno.ENOENT: "make its folder first",
    errno.EACCES: "check the permissions of the folder",
    errno.EPERM: "check the permissions of the folder",
    errno.EROFS: "the file system is mounted read-only",
}


@contextmanager
def atomic_output(path: Path, mode: int = 0o600) -> Iterator[BinaryIO]:
    """A binary file that appears at ``path`` only when the block ends without an exception.

    Written beside the target, flushed to the disk, then renamed over it. ``mode`` is exact,
    whatever the umask. After any exception nothing is left and an old file is whole. Raises
    ``StorageError``, also for a target that is there and no regular file: a device, a folder, a
    symbolic link.
    """
    with storage_errors("write", path):
        _refuse_irregular(path)
        descriptor, temporary = mkstemp(prefix=".mesh-hsm-", suffix=".tmp", dir=path.parent)
    try:
        with storage_errors("write", path):
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(descriptor, mode)
                yield file
                file.flush()
                os.fsync(descriptor)
            os.replace(temporary, path)
            _sync_folder(path.parent)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def write_atomic(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Put ``data`` at ``path``, whole or not at all. Raises ``StorageError``."""
    with atomic_output(path, mode) as file:
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
    except BrokenPipeError:
        raise  # never a regular file's: whoever reads the caller's other output has gone
    except OSError as error:
        code = error.errno or 0
        raise StorageError(
            f"cannot {verb} {path}: {os.strerror(code)}", hint=_HINTS.get(code)
        ) from error


def _refuse_irregular(path: Path) -> None:
    # A rename over /dev/null or /dev/stdout would replace the device itself.
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(path.lstat().st_mode):
            raise StorageError(
                f"{path} is there and is not a regular file", hint="name a new file as the output"
            )


def _sync_folder(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        return  # a folder that we may write and not read: the file is whole, its name unsynced
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
