"""Telling a person to touch the YubiKey: only once it really waits, and no longer than that.

Open this file for how that is found out. A card that waits says nothing at all; so whoever has a
key that wants a touch is told when the answer has not come within the time that a card computes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from mesh_hsm.secret_source import AwaitsTouch, SecretSource

DELAY: Final = 0.4
"""Seconds: longer than a YubiKey computes on any curve, shorter than anybody minds."""


@contextmanager
def awaited(secrets: SecretSource, subject: str) -> Iterator[None]:
    """Around one command that may wait for a touch."""
    if not isinstance(secrets, AwaitsTouch):
        yield
        return
    shown, over, turn = ExitStack(), False, threading.Lock()

    def show() -> None:
        with turn:
            if not over:
                shown.enter_context(secrets.awaiting_touch(subject))

    timer = threading.Timer(DELAY, show)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        with turn:
            over = True
        shown.close()
