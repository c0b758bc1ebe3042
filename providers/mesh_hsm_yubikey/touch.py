"""Telling a person to touch the YubiKey: only once it really waits, and no longer than that.

Open this file for how that is found out. A card that waits says nothing at all; so whoever has a
key that wants a touch is told when the answer has not come within the time that a card computes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Final, TypeVar

from mesh_hsm.secret_source import AwaitsTouch, SecretSource

R = TypeVar("R")

DELAY: Final = 0.4
"""Seconds: longer than a YubiKey computes on any curve, shorter than anybody minds."""


def awaited(secrets: SecretSource, subject: str, ask: Callable[[], R]) -> R:
    """What ``ask`` returns or raises: one command, for which a touch may be waited for.

    It runs in a thread of its own, as nothing interrupts PC/SC: whoever presses Ctrl-C instead of
    the YubiKey is not made to wait until that gives up.
    """
    answer: Future[R] = Future()

    def work() -> None:
        try:
            answer.set_result(ask())
        except BaseException as error:  # raised again by result()
            answer.set_exception(error)

    threading.Thread(target=work, name="YubiKey that may want a touch", daemon=True).start()
    wait((answer,), DELAY)
    if answer.done() or not isinstance(secrets, AwaitsTouch):
        return _result(answer)
    with secrets.awaiting_touch(subject):
        return _result(answer)


def _result(answer: Future[R]) -> R:
    while not answer.done():  # a signal that comes just before a wait is seen just after it
        wait((answer,), DELAY)
    return answer.result()
