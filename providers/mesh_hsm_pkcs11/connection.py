"""One opened token: its share of the sessions, its login, and the second attempt after a removal.

Open this file to see what surrounds every call to a token.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pkcs11.exceptions import PKCS11Error, UserNotLoggedIn

from mesh_hsm.errors import DeviceError
from mesh_hsm.secret_source import SecretSource
from mesh_hsm.uri import Uri
from mesh_hsm_pkcs11.errors import VANISHED, explain, is_gone
from mesh_hsm_pkcs11.login import Login
from mesh_hsm_pkcs11.sessions import Session, Sessions
from mesh_hsm_pkcs11.slots import Found

T = TypeVar("T")


class Connection:
    """What a token object holds until it is closed."""

    def __init__(self, found: Found, secrets: SecretSource, uri: Uri) -> None:
        self.uri = uri
        self.sessions = Sessions.of(found)
        self.login = Login(self.sessions, secrets, uri)
        self._closed = False

    @property
    def found(self) -> Found:
        """The token as it was found last."""
        return self.sessions.found

    def run(
        self, doing: str, job: Callable[[Session], T], *, private: bool = True, again: bool = True
    ) -> T:
        """Do a job in a session, logged in if it concerns private objects.

        ``doing`` completes "the token refused to …". Where the token or its sessions went away, or
        a handle died with a logout, the job is done once more on what is there now, unless it may
        not be repeated (``again``). Raises what ``errors.explain`` says.
        """
        for last in (not again, True):
            self.check_open()
            session: Session | None = None
            try:
                with self.sessions.lent() as session:
                    if private:
                        self.login.ensure(session)
                    return job(session)
            except PKCS11Error as error:
                vanished = isinstance(error, VANISHED) and bool(session and session.objects)
                if last or not (is_gone(error) or vanished):
                    raise explain(error, doing, str(self.uri)) from error
                if isinstance(error, UserNotLoggedIn):
                    private = True  # to some tokens nothing at all is public
                # A handle dies with its object, but also with a logout behind our back.
                shared = self.sessions
                failed = shared.generation if session is None else session.generation
                epoch = shared.module.epoch if session is None else session.epoch
                shared.start_over(failed, epoch, error)
        raise AssertionError("the second attempt returns or raises")

    def check_open(self) -> None:
        """Raise ``DeviceError`` once closed."""
        if self._closed:
            raise DeviceError("the token is closed", uri=str(self.uri))

    def close(self) -> None:
        """Forget the PIN; whoever closes a token last in this process ends login and sessions."""
        if not self._closed:
            self._closed = True
            self.login.forget()
            self.sessions.release()

    def abandon(self) -> None:
        """Close, when nobody has: the garbage collector found the token."""
        if not self._closed:
            self._closed = True
            self.login.forget()
            self.sessions.abandon()
