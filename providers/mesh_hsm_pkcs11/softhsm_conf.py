"""What keeps SoftHSM from its tokens. Open this file when it fails without a word of the reason.

It answers CKR_GENERAL_ERROR to every mistake in its set-up and passes over tokens that it may not
read, so that nobody could guess. Looked at for explanation alone: nothing here decides anything.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

VARIABLE: Final = "SOFTHSM2_CONF"
_TOKENS: Final = re.compile(r"^\s*directories\.tokendir\s*=[ \t]*([^#\n]+?)[ \t]*(?:#.*)?$", re.M)
_SYSTEM: Final = ("/etc/softhsm/softhsm2.conf", "/etc/softhsm2.conf")
_LIMIT: Final = 1 << 16
_OWN: Final = (
    f"name a configuration of your own with {VARIABLE}, which says directories.tokendir = /FOLDER"
)


def is_softhsm(path: Path) -> bool:
    """Whether a module is SoftHSM 2, by the name of its file."""
    return Path(os.path.realpath(path)).name.startswith("libsofthsm2")


def trouble(environment: Mapping[str, str] = os.environ) -> tuple[str, str] | None:
    """Why it cannot start, and what to do, a line each. None: its files show no reason."""
    conf = _conf(environment)
    if conf is None:
        return "it has no configuration", _OWN
    place, subject, remedy = conf, f"its configuration {conf}", _OWN
    try:
        folder = _folder(conf)
        if folder is not None:
            place, subject = folder, f"its token folder {folder}, named in {conf},"
            remedy = f"mkdir -m 700 {shlex.quote(str(folder))}"
            list(place.iterdir())
    except FileNotFoundError:
        return f"{subject} is not there", remedy
    except PermissionError:
        return f"{subject} is closed to you", f"join the group that owns it; or {_OWN}"
    except OSError as error:
        return f"{subject} cannot be read ({os.strerror(error.errno or 0)})", _OWN
    return None


def closed_tokens(environment: Mapping[str, str] = os.environ) -> list[Path]:
    """Tokens that are there and that this user may not read: SoftHSM does not show them."""
    conf = _conf(environment)
    try:
        folder = None if conf is None else _folder(conf)
        tokens = [] if folder is None else sorted(folder.iterdir())
    except OSError:
        return []
    return [one for one in tokens if one.is_dir() and not os.access(one, os.R_OK | os.X_OK)]


def _conf(environment: Mapping[str, str]) -> Path | None:
    """The file that it reads: the variable's, else the user's own, else the system's."""
    if VARIABLE in environment:
        return Path(environment[VARIABLE])
    return next((place for place in _places(environment) if not _is_absent(place)), None)


def _places(environment: Mapping[str, str]) -> Iterator[Path]:
    own = Path(environment.get("HOME") or Path.home()) / ".config/softhsm2/softhsm2.conf"
    if os.access(own, os.R_OK):
        yield own
    yield from map(Path, _SYSTEM)


def _is_absent(place: Path) -> bool:
    try:
        place.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _folder(conf: Path) -> Path | None:
    """``directories.tokendir``; None where it is not said. Raises ``OSError``."""
    with conf.open("rb") as file:
        text = file.read(_LIMIT).decode("utf-8", "replace")
    said = _TOKENS.findall(text)
    return Path(said[-1]) if said else None
