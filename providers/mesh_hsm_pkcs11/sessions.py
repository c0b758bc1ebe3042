"""The sessions of this process with one token: a small pool. Open this file when a token goes away.

PKCS #11 knows one login per token and process (v3.0 §5.6.8), and it ends with the last session. So
everybody here who opened a token shares its sessions, and whoever closes it last ends them.

What may have stopped being valid, and how that is known: the module was initialised anew (its
``epoch``); the token or the login went away (``generation``); a key was destroyed (``deletions``);
a single session was left with something in it (``sound``).
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pkcs11
from pkcs11.exceptions import PKCS11Error, SessionCount, TokenWriteProtected

from mesh_hsm.errors import DeviceError, MeshHsmError
from mesh_hsm_pkcs11.binding import MAPPER
from mesh_hsm_pkcs11.cryptoki import Cryptoki
from mesh_hsm_pkcs11.errors import is_uninitialised
from mesh_hsm_pkcs11.module import Module
from mesh_hsm_pkcs11.slots import Found, find_again

if TYPE_CHECKING:
    from mesh_hsm_pkcs11.dialect import Dialect

LIMIT = 8
"""Sessions at most: more threads than this wait for one another."""

_KEPT_IDLE = 2
_IDLE_SECONDS = 60.0
_PATIENCE = 300.0  # somebody may be looking for a PIN


@dataclass(slots=True, eq=False)
class Session:
    """One session, lent to one thread. ``objects`` are private keys' handles, by CKA_ID.

    Whoever leaves an operation or a secret behind in it says so: ``sound`` is then False, and the
    session is closed instead of lent again.
    """

    raw: pkcs11.Session
    cryptoki: Cryptoki
    generation: int
    epoch: int
    idle_since: float = 0.0
    deletions: int = 0
    sound: bool = True
    objects: dict[bytes, int] = field(default_factory=dict)

    def at_risk(self, *harmless: type[PKCS11Error]) -> _Risk:
        """Around calls that may leave something behind: unless they succeed, it is not sound.

        ``harmless`` errors leave nothing, by what they say.
        """
        return _Risk(self, harmless)

    @property
    def handle(self) -> int:
        """CK_SESSION_HANDLE."""
        return int(self.raw.handle)  # type: ignore[attr-defined]  # the binding's stubs lack it


class _Risk:
    # A class, since a generator's context manager would cost more than some calls that it guards.

    __slots__ = ("_harmless", "_session", "_was")

    def __init__(self, session: Session, harmless: tuple[type[PKCS11Error], ...]) -> None:
        self._session, self._harmless, self._was = session, harmless, session.sound

    def __enter__(self) -> None:
        self._session.sound = False

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        if kind is None or issubclass(kind, self._harmless):
            self._session.sound = self._was


class Sessions:
    """What this process has open with one token. Made by ``Sessions.of`` and shared."""

    _open: ClassVar[dict[tuple[Path, str], Sessions]] = {}
    _abandoned: ClassVar[deque[Sessions]] = deque()
    _refused: ClassVar[dict[tuple[Path, str, int], set[bytes]]] = {}
    # Re-entrant: the collector may close a forgotten token while one is being opened.
    _opening: ClassVar[threading.RLock] = threading.RLock()

    def __init__(self, found: Found) -> None:
        self.module: Module = found.module
        self.found = found
        self.generation = 0
        self.deletions = 0
        self.login_generation: int | None = None
        self.login_mark: bytes | None = None
        self.login_lock = threading.RLock()
        self.dialect: Dialect | None = None
        self._holders = 0
        self._token: pkcs11.Token | None = None
        self._idle: list[Session] = []
        self._lent = 0
        self._alive = 0
        self._changed = threading.Condition()
        self._epoch = found.module.epoch

    # -- life ------------------------------------------------------------------------------------

    @classmethod
    def of(cls, found: Found) -> Sessions:
        """The shared sessions with a token; every caller ends with ``release``."""
        key = (found.module.path, found.name)
        with cls._opening:
            cls._release_abandoned()
            new = cls(found)
            shared = cls._open.setdefault(key, new)
            shared._holders += 1
            return shared

    def abandon(self) -> None:
        """As ``release``, from the garbage collector, which may run within any of our locks.

        So it waits for none: whoever opens or closes a token next does the work.
        """
        self._abandoned.append(self)

    @classmethod
    def _release_abandoned(cls) -> None:
        while cls._abandoned:
            cls._abandoned.popleft().release()

    def release(self) -> None:
        """One holder less. The last one ends the login and every session."""
        with self._opening:
            self._release_abandoned()
            self._holders -= 1
            if self._holders > 0:
                return
            self._open.pop((self.module.path, self.found.name), None)
            # Still in here: whoever opens the token next must not log in before we log out.
            with self.module.turn(), self._changed:
                if self.login_generation == self.generation and self._fresh:
                    with suppress(PKCS11Error):
                        if not self._idle:  # other threads are still at it: they are cut off
                            self._idle.append(self._open_one())
                        self.module.cryptoki.logout(self._idle[-1].handle)
                self._forget()

    @property
    def refused(self) -> set[bytes]:
        """Marks of PINs that the token has refused in this process."""
        return self.refused_by(self.found)

    # -- lending ---------------------------------------------------------------------------------

    @contextmanager
    def lent(self) -> Iterator[Session]:
        """A session for this thread alone. The module's own errors pass through."""
        with self.module.turn():
            session = self._take()
            try:
                yield session
            except (PKCS11Error, MeshHsmError):
                raise  # refused, but no operation of ours is left half way
            except BaseException:
                session.sound = False
                raise
            finally:
                self._give_back(session)

    def start_over(self, failed: int, epoch: int, error: PKCS11Error) -> None:
        """Drop everything after ``error`` in a session of generation ``failed``, unless done."""
        if is_uninitialised(error):
            self.module.lost(epoch)
        with self.module.turn(), self._changed:
            if failed == self.generation:
                self._forget()

    def forget_objects(self) -> None:
        """An object was destroyed: its handle, kept anywhere, may soon be another one's."""
        self.deletions += 1

    def token(self) -> pkcs11.Token:
        """The token as it describes itself now: its flags are fresh."""
        with self.module.turn(), self._changed:
            return self._present().slot.get_token()

    # -- inside ----------------------------------------------------------------------------------

    @classmethod
    def refused_by(cls, found: Found) -> set[bytes]:
        """Marks of PINs that the token has refused; kept after the last holder, for the next.

        Until the module is initialised anew: then the token may be another one.
        """
        key = (found.module.path, found.name, found.module.epoch)
        return cls._refused.setdefault(key, set())

    @property
    def _fresh(self) -> bool:
        return self._epoch == self.module.epoch

    def _take(self) -> Session:
        with self._changed:
            while True:
                if not self._fresh:
                    self._forget()
                if self._idle:
                    break
                if self._lent < LIMIT:
                    try:
                        self._idle.append(self._open_one())
                        break
                    except SessionCount:
                        if not self._lent:
                            raise
                if not self._changed.wait(_PATIENCE):
                    raise DeviceError(f"no session with the token came free in {_PATIENCE:.0f} s")
            self._lent += 1
            session = self._idle.pop()
            if session.deletions != self.deletions:
                session.objects.clear()
                session.deletions = self.deletions
            return session

    def _give_back(self, session: Session) -> None:
        with self._changed:
            self._lent -= 1
            if session.epoch != self.module.epoch:
                pass  # its handle means nothing any more
            elif (
                not session.sound
                or session.generation != self.generation
                or len(self._idle) >= _KEPT_IDLE
            ):
                self._close(session)
            else:
                session.idle_since = time.monotonic()
                self._idle.append(session)
                while self._idle[0].idle_since < session.idle_since - _IDLE_SECONDS:
                    self._close(self._idle.pop(0))
            self._changed.notify()

    def _open_one(self) -> Session:
        token = self._present()
        try:
            raw = token.open(rw=True, attribute_mapper=MAPPER)
        except TokenWriteProtected:
            raw = token.open(attribute_mapper=MAPPER)
        self._alive += 1
        return Session(raw, self.module.cryptoki, self.generation, self.module.epoch)

    def _present(self) -> pkcs11.Token:
        """The token in its slot; looked for in every slot once it has been away."""
        if self._token is None:
            if self.generation:
                self.found = find_again(self.found)
            self._token = self.found.slot.get_token()
        return self._token

    def _close(self, session: Session) -> None:
        with suppress(PKCS11Error):
            session.raw.close()
        if session.generation == self.generation:
            self._alive -= 1
            if not self._alive:  # the login ends with the last session
                self.login_generation = self.login_mark = None

    def _forget(self) -> None:
        """Nothing of what was open counts any more. Sessions that still live are closed."""
        if self._fresh:
            for session in self._idle:
                self._close(session)
        self._idle.clear()
        self._alive = 0
        self._token = None
        self._epoch = self.module.epoch
        self.generation += 1
        self.login_generation = self.login_mark = None
        self._changed.notify_all()


def _after_fork() -> None:
    # The parent's threads are not here to let go of their locks or to give their sessions back.
    Sessions._opening = threading.RLock()
    for sessions in Sessions._open.values():
        if sessions._lent:
            sessions.module.cut_off()
        sessions.login_lock = threading.RLock()
        sessions._changed = threading.Condition()
        sessions._lent = 0


os.register_at_fork(after_in_child=_after_fork)
