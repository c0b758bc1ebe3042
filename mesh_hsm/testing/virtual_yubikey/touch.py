"""The touch sensor, and who touches it.

Open this to write a test in which a key wants a touch. No time passes for real unless the test
itself makes somebody wait, with a callback or an event.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from mesh_hsm.testing.virtual_yubikey.clock import Clock

_GLANCE: Final = 0.005  # seconds between two looks at an event, the clock and the plug
_CACHE: Final = 15.0  # seconds for which touch policy "cached" needs no other touch


@dataclass(frozen=True)
class After:
    """A finger that comes so many seconds of the simulator's clock after it is wanted."""

    seconds: float


after = After

Finger: TypeAlias = Literal["automatic", "never"] | After | threading.Event | Callable[[], bool]
"""Who touches: at once; nobody; ``after(seconds)``; whoever sets the event (it is cleared by
that, and really waited for, until the clock passes the timeout or the device is unplugged); or a
callback that returns, however late, whether it has touched."""


class TouchSensor:
    """Asks the finger for a touch. ``timeout`` and the cache count on the simulator's clock."""

    def __init__(self, clock: Clock, finger: Finger = "automatic", timeout: float = 15.0) -> None:
        self.clock = clock
        self.finger = finger
        self.timeout = timeout
        self.wanted = threading.Event()
        """Set while the card is waiting."""
        self._interrupted = threading.Event()
        self._last: float | None = None

    def touched(self, *, cached: bool = False) -> bool:
        """Wait for a touch; False if none came in time. ``cached`` lets a recent one count."""
        if cached and self._last is not None and self.clock.now - self._last < _CACHE:
            return True
        deadline = self.clock.now + self.timeout
        self.wanted.set()
        try:
            came = self._wait(deadline)
        finally:
            self.wanted.clear()
        if came:
            self._last = self.clock.now
        return came

    def interrupt(self) -> None:
        """End a wait without a touch, and every later one until ``resume``."""
        self._interrupted.set()

    def resume(self) -> None:
        """Touches count again."""
        self._interrupted.clear()

    def forget(self) -> None:
        """Power loss: no touch is remembered."""
        self._last = None

    def _wait(self, deadline: float) -> bool:
        match self.finger:
            case "automatic":
                return not self._interrupted.is_set()
            case "never":
                return self._comes(self.timeout)
            case After(seconds=seconds):
                return self._comes(seconds)
            case threading.Event() as event:
                return self._wait_for(event, deadline)
            case finger:
                # The callback may have moved the clock, or pulled the plug.
                return finger() and self.clock.now < deadline and not self._interrupted.is_set()

    def _comes(self, seconds: float) -> bool:
        self.clock.advance(min(seconds, self.timeout))
        return seconds < self.timeout and not self._interrupted.is_set()

    def _wait_for(self, event: threading.Event, deadline: float) -> bool:
        while not self._interrupted.is_set() and self.clock.now < deadline:
            if event.wait(_GLANCE):
                event.clear()
                return True
        return False
