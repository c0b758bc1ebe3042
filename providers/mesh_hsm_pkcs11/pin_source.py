"""The PIN that a URI's ``pin-source`` points to (RFC 7512 §2.4): a file of the user's own.

Open this file when a PIN file is refused. Commands (``|…``) and other schemes are: a name must
not run a program or reach over a network.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from pathlib import Path
from urllib.parse import unquote

from mesh_hsm.errors import AccessError, FormatError, NotFoundError, UnsupportedError
from mesh_hsm.files import storage_errors
from mesh_hsm.uri import Uri
from mesh_hsm_pkcs11.naming import query_attribute

_LONGEST = 1024
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_INSTEAD = "write pin-source=file:/path, or leave it out and use --pin-fd"


def read(uri: Uri) -> bytes | None:
    """The first line of the PIN file, without its end; None if the URI names none.

    Raises ``FormatError`` for a path that is not absolute and for what is no file of at most 1,024
    octets that begins with a PIN; ``AccessError`` unless the file is ours and for us alone;
    ``NotFoundError``; ``UnsupportedError`` for anything but a file; ``StorageError``.
    """
    source = query_attribute(uri, "pin-source")
    if source is None:
        return None
    path = _path(source)
    pin = _first_line(path)
    if not pin:  # so this frame, which raises, never holds one
        raise FormatError(
            f"{path} does not begin with a PIN, or is longer than {_LONGEST} octets",
            hint="its first line is the PIN",
        )
    return pin


def _first_line(path: Path) -> bytes:
    """Empty, too, if the file is too long: a PIN that was cut off would cost a try."""
    descriptor = _opened(path)
    try:
        _refuse_unless_private(path, descriptor)
        with storage_errors("read", path):
            return _line(descriptor)
    finally:
        os.close(descriptor)


def _line(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb", closefd=False) as file:
        octets = file.read(_LONGEST + 1)
        return octets.split(b"\n")[0].removesuffix(b"\r") if len(octets) <= _LONGEST else b""


def _opened(path: Path) -> int:
    with storage_errors("read", path):
        try:
            return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise NotFoundError(f"the PIN file {path} is not there", hint=_INSTEAD) from error
        except PermissionError as error:
            raise AccessError(
                f"the PIN file {path} may not be read", hint="it must belong to you, mode 0600"
            ) from error


def _refuse_unless_private(path: Path, descriptor: int) -> None:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise FormatError(f"the PIN file {path} is not a regular file", hint=_INSTEAD)
    if status.st_uid != os.geteuid():
        raise AccessError(
            f"the PIN file {path} belongs to another user, who may change it", hint=_INSTEAD
        )
    if status.st_mode & 0o077:
        raise AccessError(
            f"the PIN file {path} is open to others",
            hint=f"chmod 600 {shlex.quote(str(path))}; change the PIN if others may have read it",
        )


def _path(source: str) -> Path:
    if source.startswith("|"):
        raise UnsupportedError("pin-source names a command, and a name runs none", hint=_INSTEAD)
    if scheme := _SCHEME.match(source):
        if scheme[0].lower() != "file:":
            raise UnsupportedError("pin-source names something else than a file", hint=_INSTEAD)
        source = _path_of_file_uri(source[scheme.end() :])
    if not source.startswith("/") or not source.isprintable():
        raise FormatError("pin-source is not an absolute path", hint=_INSTEAD)
    return Path(source)


def _path_of_file_uri(rest: str) -> str:
    """RFC 8089: ``/path``, ``///path`` or ``//localhost/path``, percent-encoded."""
    for authority in ("//localhost/", "///"):
        if rest.lower().startswith(authority):
            rest = rest[len(authority) - 1 :]
            break
    else:
        if rest.startswith("//"):
            raise UnsupportedError("pin-source names a file of another host", hint=_INSTEAD)
    try:
        return unquote(rest, errors="strict")
    except UnicodeDecodeError as error:
        raise FormatError("pin-source is not UTF-8", hint=_INSTEAD) from error
