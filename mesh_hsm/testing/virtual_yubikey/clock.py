"""The simulator's clock: touch timeouts run on it, and tests move it."""

from __future__ import annotations

import threading


class Clock:
    """Seconds since the device was made. Stands still unless somebody moves it. Thread safe."""

    def __init__(self) -> None:
        self._now = 0.0
        self._lock = threading.Lock()

    @property
    def now(self) -> float:
        """Seconds."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        with self._lock:
            self._now += seconds
