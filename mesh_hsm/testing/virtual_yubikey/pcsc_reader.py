"""One reader of the private PC/SC service: who may talk to its card, and who is told of what.

Open this file when two connections to one virtual YubiKey get in each other's way. The rules are
those of pcscd 1.9 (winscard.c); a connection that ends unpowers the card where its owner says so.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from mesh_hsm.testing.virtual_yubikey.device import Removed
from mesh_hsm.testing.virtual_yubikey.pcsc_wire import (
    EXCLUSIVE_SHARING,
    PROTOCOL_T1,
    Disposition,
    ReaderState,
    Result,
    Share,
    State,
)

if TYPE_CHECKING:
    from mesh_hsm.testing.virtual_yubikey.device import VirtualYubiKey

_OCCUPIED = State.PRESENT | State.POWERED | State.NEGOTIABLE


class RefusedError(Exception):
    """A request that got ``result`` instead of success."""

    def __init__(self, result: Result) -> None:
        super().__init__(result.name)
        self.result = result


class Connection:
    """One open card handle. ``event`` is what has happened to the card since it was connected."""

    def __init__(self, reader: Reader, share: Share) -> None:
        self.reader = reader
        self.share = share
        self.event: Result | None = None


class Reader:
    """A reader with one slot, in which ``device`` is or is not.

    ``changed`` is called, without any lock, after everything that a waiting client would see.
    """

    def __init__(self, name: str, device: VirtualYubiKey, changed: Callable[[], None]) -> None:
        self.name = name
        self.device = device
        self._changed = changed
        self._atr = device.atr
        self._present = device.present
        self._events = 0
        self._gone = False
        self._connections: list[Connection] = []
        self._holder: Connection | None = None  # of the transaction
        self._depth = 0
        # Whoever talks to the card holds the line, for as long as a touch may take; the condition
        # guards the fields above, and is never held while the device is called.
        self._line = threading.Lock()
        self._condition = threading.Condition()
        device.on_change(self._card_changed)

    def state(self) -> ReaderState:
        """What every client may see of it."""
        with self._condition:
            exclusive = any(each.share is Share.EXCLUSIVE for each in self._connections)
            return ReaderState(
                name=self.name.encode(),
                events=self._events,
                state=_OCCUPIED if self._present else State.ABSENT,
                sharing=EXCLUSIVE_SHARING if exclusive else len(self._connections),
                atr=self._atr if self._present else b"",
                atr_length=len(self._atr) if self._present else 0,
                protocol=PROTOCOL_T1 if self._present else 0,
            )

    def unplug(self) -> None:
        """The reader is no more: every connection to it says so from now on."""
        with self._condition:
            self._gone = True
            self._condition.notify_all()

    # -- connections -----------------------------------------------------------------------------

    def connect(self, share: int, protocols: int) -> Connection:
        """Open a connection, after a transaction that is under way."""
        with self._condition:
            mode = self._mode(share, protocols)
            self._refuse_second(mode, self._connections)
            self._condition.wait_for(lambda: self._holder is None or self._gone)
            self._check_there(mode)
            self._refuse_second(mode, self._connections)
            connection = Connection(self, mode)
            self._connections.append(connection)
            return connection

    def reconnect(
        self, connection: Connection, share: int, protocols: int, disposition: int
    ) -> None:
        """Share it otherwise, reset it if asked, and take note of what had happened to it."""
        mode = self._mode(share, protocols)
        then = _disposition(disposition)
        with self._condition:
            self._check_there(mode)
            self._check_lock(connection)
            others = [each for each in self._connections if each is not connection]
            if mode is Share.EXCLUSIVE:
                self._refuse_second(mode, others)
        if then is not Disposition.LEAVE:
            self._reset(connection)
        with self._condition:
            self._check_there(mode)
            connection.share = mode
            connection.event = None

    def disconnect(self, connection: Connection, disposition: int) -> None:
        """Close it; whatever is not LEAVE resets the card, after a transaction of somebody else."""
        then = _disposition(disposition)
        with self._condition:
            self._release(connection)
            self._condition.wait_for(lambda: self._holder is None or self._gone)
        try:
            if then is not Disposition.LEAVE:
                self._reset(connection)
        finally:
            with self._condition:
                self._connections.remove(connection)

    def check(self, connection: Connection) -> None:
        """Whether the connection is good for anything at this moment."""
        with self._condition:
            self._check(connection)

    # -- the card --------------------------------------------------------------------------------

    def transmit(self, connection: Connection, command: bytes) -> bytes:
        """Send a command APDU and return the response APDU."""
        with self._line:
            self.check(connection)
            try:
                return self.device.transmit(command)
            except Removed:
                raise RefusedError(Result.REMOVED_CARD) from None

    def begin(self, connection: Connection) -> None:
        """Keep others from the card. Transactions nest."""
        with self._condition:
            self._check(connection)
            self._holder = connection
            self._depth += 1

    def end(self, connection: Connection, disposition: int) -> None:
        """End one transaction, with a reset if asked."""
        then = _disposition(disposition)
        with self._condition:
            if self._holder is not connection:
                raise RefusedError(Result.NOT_TRANSACTED)
        if then is not Disposition.LEAVE:
            self._reset(connection)
        with self._condition:
            self._depth -= 1
            if not self._depth:
                self._release(connection)
            if connection.event:
                raise RefusedError(connection.event)

    # -- inside ----------------------------------------------------------------------------------

    def _card_changed(self) -> None:
        present = self.device.present
        with self._condition:
            for connection in self._connections:
                connection.event = Result.REMOVED_CARD  # a new card is not the one connected to
            self._present = present
            self._events += 1
        self._changed()

    def _reset(self, by: Connection) -> None:
        with self._line, suppress(Removed):
            if not self._gone:  # or it may be in another reader by now
                self.device.reset()
        with self._condition:
            for connection in self._connections:
                if connection is not by and connection.event is None:
                    connection.event = Result.RESET_CARD

    def _mode(self, share: int, protocols: int) -> Share:
        if share not in set(Share):
            raise RefusedError(Result.INVALID_VALUE)
        mode = Share(share)
        if mode is not Share.DIRECT and not protocols & PROTOCOL_T1:
            raise RefusedError(Result.PROTO_MISMATCH)
        return mode

    def _refuse_second(self, mode: Share, others: list[Connection]) -> None:
        if others and Share.EXCLUSIVE in {mode, *(each.share for each in others)}:
            raise RefusedError(Result.SHARING_VIOLATION)

    def _check_there(self, mode: Share) -> None:
        if self._gone:
            raise RefusedError(Result.READER_UNAVAILABLE)
        if not self._present and mode is not Share.DIRECT:
            raise RefusedError(Result.NO_SMARTCARD)

    def _check_lock(self, connection: Connection) -> None:
        if self._holder not in (None, connection):
            raise RefusedError(Result.SHARING_VIOLATION)

    def _check(self, connection: Connection) -> None:
        if self._gone:
            raise RefusedError(Result.READER_UNAVAILABLE)
        self._check_lock(connection)
        if connection.event:
            raise RefusedError(connection.event)
        self._check_there(Share.SHARED)

    def _release(self, connection: Connection) -> None:
        if self._holder is connection:
            self._holder, self._depth = None, 0
            self._condition.notify_all()


def _disposition(number: int) -> Disposition:
    if number not in set(Disposition):
        raise RefusedError(Result.INVALID_VALUE)
    return Disposition(number)
