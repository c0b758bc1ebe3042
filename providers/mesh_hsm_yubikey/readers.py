"""PC/SC readers that are YubiKeys, and an exclusive connection to one.

Open this file for everything between us and libpcsclite. yubikit's own way in is not taken: it
kills GnuPG's scdaemon where it cannot connect, shares the card where somebody else does, and logs
every APDU, PINs included, for whoever asks for traffic.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
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
    SCARD_S_SUCCESS,
    SCARD_SHARE_EXCLUSIVE,
    SCARD_UNPOWER_CARD,
    SCardStatus,
)
from yubikit.core import TRANSPORT
from yubikit.core.smartcard import SmartCardConnection

from mesh_hsm.errors import DeviceError, ProviderUnavailableError
from mesh_hsm_yubikey.holders import other_processes

_NAME: Final = "yubico yubikey"


_ours: dict[str, ExclusiveConnection] = {}
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


class ExclusiveConnection(SmartCardConnection):
    """A card to ourselves. Closing it cuts the power, so that no PIN outlives us (hsm-1 §11).

    ``answered`` counts commands. Raises ``HeldError`` where somebody else has the card,
    ``DeviceError`` where there is none.
    """

    def __init__(self, reader: Any) -> None:
        self.reader = str(reader)
        self.answered = 0
        self._pid = os.getpid()
        self._busy = threading.Lock()
        try:
            self._card: Any = PCSCCardConnection(self.reader)
            self._connect()
        except NoCardException as error:
            raise DeviceError(f"there is no card in {reader}", hint="plug it in again") from error
        except SmartcardException as error:
            if error.hresult & 0xFFFFFFFF == SCARD_E_SHARING_VIOLATION & 0xFFFFFFFF:
                raise held(self.reader) from error
            raise DeviceError(
                f"{reader} cannot be reached", hint="plug it in again; mesh-hsm doctor"
            ) from error
        _ours[self.reader] = self

    def _connect(self) -> None:
        try:
            self._card.connect(mode=SCARD_SHARE_EXCLUSIVE, disposition=SCARD_UNPOWER_CARD)
        except SmartcardException:
            self._card.release()
            raise

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
        """Let go of the card and cut its power. Never raises: it may be gone."""
        self._forget()
        with suppress(SmartcardException):
            self._card.release()

    def abandon(self) -> None:
        """In a forked child: forget the parent's connection without ending it."""
        self._forget()
        self._card.hcard = self._card.hcontext = None

    def _forget(self) -> None:
        if _ours.get(self.reader) is self:  # or there is another card in it by now
            del _ours[self.reader]


def held(reader: str) -> HeldError:
    """The error for a card that somebody else has, naming who that may be."""
    others = other_processes()
    return HeldError(
        f"{reader} is held by another program",
        hint=f"end what uses it: {', '.join(others)}" if others else "end what uses it",
    )
