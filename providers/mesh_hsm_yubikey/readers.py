"""PC/SC readers that are YubiKeys, and a connection to one that nobody disturbs.

Open this file for everything between us and libpcsclite. yubikit's own way in is not taken: it
kills GnuPG's scdaemon where it cannot connect, shares the card where somebody else does, and logs
every APDU, PINs included, for whoever asks for traffic.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Final

from smartcard import System
from smartcard.Exceptions import (
    NoCardException,
    SmartcardException,
)
from smartcard.pcsc.PCSCCardConnection import PCSCCardConnection
from smartcard.pcsc.PCSCExceptions import BaseSCardException
from smartcard.scard import (
    SCARD_E_SHARING_VIOLATION,
    SCARD_LEAVE_CARD,
    SCARD_RESET_CARD,
    SCARD_S_SUCCESS,
    SCARD_SHARE_EXCLUSIVE,
    SCARD_SHARE_SHARED,
    SCARD_UNPOWER_CARD,
    SCardBeginTransaction,
    SCardEndTransaction,
    SCardStatus,
)
from yubikit.core import TRANSPORT
from yubikit.core.smartcard import SmartCardConnection

from mesh_hsm.errors import DeviceError, MeshHsmError, ProviderUnavailableError
from mesh_hsm_yubikey.holders import other_processes

PATIENCE: Final = 3.0
"""Seconds for which a card that somebody else uses is waited for."""

_NAME: Final = "yubico yubikey"

LETTING_GO: Final = "letting go of a YubiKey"
"""Name of the thread that does so where somebody was interrupted."""

_ours: dict[str, CardConnection] = {}
"""Readers that we are connected to."""


class HeldError(DeviceError):
    """Somebody else is connected to the card."""


def is_ours(reader: str) -> bool:
    """Whether this very process holds the card in it: not one that was there before."""
    connection = _ours.get(reader)
    return connection is not None and connection.is_ours()


def yubikeys() -> Sequence[Any]:
    """Readers, by name, that a YubiKey plugged in by USB shows.

    Raises ``ProviderUnavailableError`` where no PC/SC service answers.
    """
    try:
        readers = System.readers()
    except (SmartcardException, BaseSCardException) as error:
        raise ProviderUnavailableError(
            "no PC/SC service answers, and a YubiKey is reached through one",
            hint="apt install pcscd, and systemctl start pcscd.socket",
        ) from error
    return [reader for reader in readers if _NAME in str(reader).lower()]


class CardConnection(SmartCardConnection):
    """A card to ourselves for as long as it is open, and reset when it is closed (hsm-1 §11).

    Exclusively; or where somebody else is connected, within a transaction, so that he has to wait:
    OpenSC stays connected wherever it is loaded, be it by a PKCS #11 module of this very process.
    ``answered`` counts commands. Raises ``HeldError`` where somebody does not let go of the card,
    ``DeviceError`` where there is none.
    """

    def __init__(self, reader: Any) -> None:
        self.reader = str(reader)
        self.answered = 0
        self._pid = os.getpid()
        self._busy = threading.Lock()
        try:
            self._card, self._in_transaction = _exclusively(reader), False
        except HeldError:
            self._card, self._in_transaction = _in_turn(reader), True
        _ours[self.reader] = self

    @property
    def transport(self) -> TRANSPORT:
        """USB: others are refused by their reader's name."""
        return TRANSPORT.USB

    def is_ours(self) -> bool:
        """Whether the card is there still, and this process is the one that connected to it."""
        if self._pid != os.getpid():
            return False
        if not self._busy.acquire(blocking=False):
            return True  # it is being asked something just now
        try:
            hcard = self._card.hcard
            return hcard is not None and SCardStatus(hcard)[0] == SCARD_S_SUCCESS
        finally:
            self._busy.release()

    def send_and_receive(self, apdu: bytes) -> tuple[bytes, int]:
        """One command and its answer, neither of them logged."""
        with self._busy:
            data, sw1, sw2 = self._card.transmit(list(apdu))
        self.answered += 1
        return bytes(data), sw1 << 8 | sw2

    def close(self) -> None:
        """Reset the card and let go of it. Never raises: it may be gone.

        One that has not answered yet, and whose user was interrupted, is let go of once it has.
        """
        self._forget()
        if self._busy.locked():
            threading.Thread(target=self._let_go, name=LETTING_GO, daemon=True).start()
        else:
            self._let_go()

    def _let_go(self) -> None:
        with self._busy:
            if self._in_transaction:
                SCardEndTransaction(self._card.hcard, SCARD_RESET_CARD)
            with suppress(SmartcardException):
                self._card.release()

    def abandon(self) -> None:
        """In a forked child: forget the parent's connection without ending it."""
        self._forget()
        self._card.hcard = self._card.hcontext = None

    def _forget(self) -> None:
        if _ours.get(self.reader) is self:  # or there is another card in it by now
            del _ours[self.reader]


def _exclusively(reader: Any) -> Any:
    return _connected(reader, SCARD_SHARE_EXCLUSIVE, SCARD_UNPOWER_CARD)


def _in_turn(reader: Any) -> Any:
    """A shared connection within a transaction, once whoever has one now has ended it.

    PC/SC waits for that without end, and so in a thread of its own.
    """
    found: Future[Any] = Future()

    def wait() -> None:
        card, error = None, None
        try:
            card = _connected(reader, SCARD_SHARE_SHARED, SCARD_LEAVE_CARD)
            if SCardBeginTransaction(card.hcard) != SCARD_S_SUCCESS:
                raise held(str(reader))
        except MeshHsmError as caught:
            error = caught
        if not found.set_running_or_notify_cancel():  # nobody waits any more
            if card is not None:
                card.release()
        elif error is not None:
            found.set_exception(error)
        else:
            found.set_result(card)

    threading.Thread(target=wait, daemon=True).start()
    try:
        return found.result(PATIENCE)
    except TimeoutError:
        if found.cancel():
            raise held(str(reader)) from None
        return found.result()


def _connected(reader: Any, mode: int, disposition: int) -> Any:
    try:
        card = PCSCCardConnection(str(reader))  # without the decorator that hides its handles
        try:
            card.connect(mode=mode, disposition=disposition)
        except SmartcardException:
            card.release()
            raise
    except NoCardException as error:
        raise DeviceError(f"there is no card in {reader}", hint="plug it in again") from error
    except SmartcardException as error:
        if error.hresult & 0xFFFFFFFF == SCARD_E_SHARING_VIOLATION & 0xFFFFFFFF:
            raise held(str(reader)) from error
        raise DeviceError(
            f"{reader} cannot be reached", hint="plug it in again; mesh-hsm doctor"
        ) from error
    return card


def held(reader: str) -> HeldError:
    """The error for a card that somebody else has, naming who that may be."""
    others = other_processes()
    return HeldError(
        f"{reader} is held by another program",
        hint=f"end what uses it: {', '.join(others)}" if others else "end what uses it",
    )
