"""Our hold on one YubiKey: taken when it is needed, given up soon after, one user at a time.

Open this file to see when the reader is held. yubikit locks nothing and the card has one security
state, so a whole operation, its PIN included, runs under one lock that all of this process share.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Hashable
from typing import Final, TypeVar

from yubikit.piv import PivSession

from mesh_hsm.errors import MeshHsmError
from mesh_hsm_yubikey import finding
from mesh_hsm_yubikey.errors import CardGoneError, explained
from mesh_hsm_yubikey.finding import Reached

R = TypeVar("R")

LINGER: Final = 1.0
"""Seconds for which the reader stays ours after an operation, in case another one follows."""


class Hold:
    """One uninterrupted connection, the PIV application selected.

    ``verified_by`` and ``managed_by`` are who has proved the PIN and the management key since it
    began, None for nobody; ``seen`` are entries whose slot was found to hold their key. The card
    forgets both proofs when the hold ends.
    """

    def __init__(self, reached: Reached) -> None:
        self.connection = reached.connection
        self.device = reached.device
        self.piv = PivSession(reached.connection)
        self.verified_by: object = None
        self.managed_by: object = None
        self.seen: set[Hashable] = set()


class Card:
    """A YubiKey by its serial number, in whichever port it is. Get one from ``card_of``."""

    def __init__(self, serial: int) -> None:
        self.serial = serial
        self._hold: Hold | None = None
        self.uri = f"yubikey:serial={serial}"
        self.subject = f"YubiKey {serial}"
        self._start_over()

    def run(self, doing: str, work: Callable[[Hold], R]) -> R:
        """Do ``work`` with the card to ourselves. ``doing`` completes "was asked to …".

        A hold that ended unseen since the last operation is taken anew, once. Raises
        ``CardGoneError`` where it ends during ``work``, ``NotFoundError`` where the YubiKey is not
        plugged in, ``HeldError`` where somebody else has it.
        """
        if self._pid != os.getpid():  # a forked child needs a lock and a connection of its own
            self._abandon()
        with self._lock:
            hold = self._hold
            before = hold.connection.answered if hold else 0
            try:
                return self._run(doing, work)
            except CardGoneError:
                if hold is None or hold.connection.answered > before:
                    raise
            return self._run(doing, work)

    def release(self) -> None:
        """Give the reader up now; the next operation takes it again."""
        if self._pid != os.getpid():
            return
        with self._lock:
            hold, self._hold = self._hold, None
            if hold is not None:
                hold.connection.close()

    def _run(self, doing: str, work: Callable[[Hold], R]) -> R:
        try:
            with explained(doing, self.uri):
                return work(self._hold or self._take())
        except MeshHsmError as error:
            if isinstance(error, CardGoneError):
                self.release()
            raise
        except BaseException:  # interrupted: the card may be waiting still, for a touch say
            self.release()
            raise
        finally:
            self._last_used = time.monotonic()

    def _take(self) -> Hold:
        reached = finding.reach(self.serial, self.uri)
        try:
            hold = Hold(reached)
        except BaseException:
            reached.connection.close()
            raise
        self._hold = hold
        threading.Thread(target=self._give_up_when_idle, args=(hold,), daemon=True).start()
        return hold

    def _give_up_when_idle(self, hold: Hold) -> None:
        while self._hold is hold:
            time.sleep(LINGER)
            with self._lock:
                if self._hold is hold and time.monotonic() - self._last_used >= LINGER:
                    self.release()

    def _start_over(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._hold = None
        self._last_used = 0.0

    def _abandon(self) -> None:
        if self._hold is not None:
            self._hold.connection.abandon()
        self._start_over()


def release_all() -> None:
    """Give up every reader that this process holds, so that all can be listed."""
    for card in list(_cards.values()):
        card.release()


_cards: dict[int, Card] = {}


def card_of(serial: int) -> Card:
    """The one ``Card`` of this process for a YubiKey, so that no two parts of it compete."""
    return _cards.setdefault(serial, Card(serial))
