"""Who else has a card in hand. Open this file for how "somebody holds the reader" gets a name."""

from __future__ import annotations

import os
from pathlib import Path

_DAEMONS = frozenset({"scdaemon", "yubikey-agent", "yubikey-touch-detector"})


def other_processes() -> list[str]:
    """Processes that may hold a card, as ``name (PID 1234)``: as far as /proc lets us look.

    GnuPG's scdaemon reaches USB by itself; whoever else speaks PC/SC has its library loaded.
    """
    found: list[str] = []
    for folder in sorted(Path("/proc").glob("[0-9]*")):
        if folder.name == str(os.getpid()):
            continue
        try:
            name = _text(folder / "comm").strip()
            if name in _DAEMONS or "libpcsclite" in _text(folder / "maps"):
                found.append(f"{name} (PID {folder.name})")
        except OSError:  # gone already, or somebody else's
            continue
    return [one for one in found if not one.startswith("pcscd ")]


def _text(path: Path) -> str:
    """Names are whatever octets a process gave itself, or its files."""
    return path.read_text(encoding="utf-8", errors="backslashreplace")
