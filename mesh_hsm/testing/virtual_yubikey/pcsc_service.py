"""A private PC/SC service: what libpcsclite takes for pcscd, with virtual YubiKeys in its readers.

Open this file when a program does not see a virtual YubiKey. The service is a Unix socket in a
folder of its own that only its owner can enter, and a thread for each client; no root, no daemon.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from socket import AF_UNIX, MSG_DONTWAIT, SHUT_RDWR, SOCK_STREAM, socket
from types import TracebackType
from typing import TYPE_CHECKING, Self

from mesh_hsm.errors import ConflictError, FormatError, NotFoundError, StorageError
from mesh_hsm.testing.virtual_yubikey import pcsc_wire as wire
from mesh_hsm.testing.virtual_yubikey.pcsc_reader import Connection, Reader, RefusedError
from mesh_hsm.testing.virtual_yubikey.pcsc_wire import Command, Disposition, Result

if TYPE_CHECKING:
    from mesh_hsm.testing.virtual_yubikey.device import VirtualYubiKey

SOCKET_VARIABLE = "PCSCLITE_CSOCK_NAME"
_PATIENCE = 1.0  # seconds for a client's thread to end; one that waits for a touch is left alone


class PcscService:
    """A running service. A context manager; ``environment`` is what leads a process to it.

    ``path`` is where its socket is to be, in a folder that is there; else it makes one.
    libpcsclite looks at the environment once in the life of a process. Raises ``StorageError``
    where no socket can be, as beyond the 107 octets that a path of one may have.
    """

    def __init__(self, devices: Iterable[VirtualYubiKey] = (), path: Path | None = None) -> None:
        self._folder = None if path else Path(tempfile.mkdtemp(prefix="mesh-hsm-pcsc-"))
        self.path = path or Path(f"{self._folder}/socket")
        self._lock = threading.Lock()
        self._readers: list[Reader | None] = [None] * wire.READERS
        self._clients: set[_Client] = set()
        self._numbers = itertools.count(1)
        self._listener = socket(AF_UNIX, SOCK_STREAM)
        try:
            for device in devices:
                self.add(device)
            self._listener.bind(str(self.path))
            self._listener.listen()
        except OSError as error:
            self._remove()
            raise StorageError(
                f"no socket can be at {self.path}: {error}", hint="set TMPDIR to a shorter path"
            ) from error
        except BaseException:
            self._remove()
            raise
        self._thread = threading.Thread(target=self._accept, name="PC/SC service", daemon=True)
        self._thread.start()

    @property
    def environment(self) -> dict[str, str]:
        """The variable by which libpcsclite finds this service and no other."""
        return {SOCKET_VARIABLE: str(self.path)}

    @property
    def clients(self) -> int:
        """How many there are at this moment: one for each PC/SC context."""
        with self._lock:
            return len(self._clients)

    def __repr__(self) -> str:
        return f"PcscService({str(self.path)!r})"

    # -- what is in it ---------------------------------------------------------------------------

    def add(self, device: VirtualYubiKey) -> str:
        """Plug it in, in a reader of its own; return the reader's name as clients see it.

        Raises ``ConflictError`` for a device that is here, or a 17th one.
        """
        with self._lock:
            if any(reader and reader.device is device for reader in self._readers):
                raise ConflictError("this device is plugged in already")
            if None not in self._readers:
                raise ConflictError(f"there are {wire.READERS} readers")
            index = self._readers.index(None)
            # PC/SC names the reader's index and its slot.
            name = f"{device.reader_name} {index:02X} 00"
            self._readers[index] = Reader(name, device, self.changed)
        self.changed()
        return name

    def remove(self, device: VirtualYubiKey) -> None:
        """Unplug it: its reader is no more. Raises ``NotFoundError`` for one that is not here."""
        with self._lock:
            for index, reader in enumerate(self._readers):
                if reader and reader.device is device:
                    self._readers[index] = None
                    break
            else:
                raise NotFoundError("this device is not plugged in")
        reader.unplug()
        self.changed()

    def changed(self) -> None:
        """Tell every waiting client that something has changed."""
        for client in self._waiting():
            client.tell(Result.SUCCESS)

    def close(self) -> None:
        """End it and every client's connection. The devices are left as they are."""
        with suppress(OSError):
            self._listener.shutdown(SHUT_RDWR)  # which ends accept()
        self._thread.join()
        with self._lock:
            clients, readers = list(self._clients), list(filter(None, self._readers))
        for reader in readers:
            reader.unplug()
        for client in clients:
            client.end()
        for client in clients:
            client.thread.join(_PATIENCE)
        self._remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- for its clients -------------------------------------------------------------------------

    def number(self) -> int:
        """A context or card handle that none had before."""
        return next(self._numbers)

    def reader(self, name: str) -> Reader:
        """The reader of this name; ``RefusedError`` if there is none."""
        with self._lock:
            for reader in self._readers:
                if reader and reader.name == name:
                    return reader
        raise RefusedError(Result.UNKNOWN_READER)

    def states(self) -> bytes:
        """All readers, as they go over the wire."""
        with self._lock:
            readers = list(self._readers)
        return b"".join((r.state() if r else wire.ReaderState()).pack() for r in readers)

    def cancel(self, context: int) -> bool:
        """End the wait of the client who has this context, if it waits."""
        waiting = self._waiting(context)
        for client in waiting:
            client.tell(Result.CANCELLED)
        return bool(waiting)

    def wait(self, client: _Client) -> None:
        """This client is told of the next change."""
        with self._lock:
            client.waiting = True

    def stop_waiting(self, client: _Client) -> bool:
        """Whether it was still waiting: else what it waited for is on its way."""
        with self._lock:
            waited, client.waiting = client.waiting, False
            return waited

    def forget(self, client: _Client) -> None:
        """It has gone."""
        with self._lock:
            self._clients.discard(client)

    # -- inside ----------------------------------------------------------------------------------

    def _waiting(self, context: int | None = None) -> list[_Client]:
        """Those who wait, of this context if one is named; they wait no longer."""
        with self._lock:
            found = [
                client
                for client in self._clients
                if client.waiting and (context is None or context in client.contexts)
            ]
            for client in found:
                client.waiting = False
            return found

    def _accept(self) -> None:
        with suppress(OSError):  # the listener was shut down
            while True:
                connection, _ = self._listener.accept()
                client = _Client(self, connection)
                with self._lock:
                    self._clients.add(client)
                client.thread.start()

    def _remove(self) -> None:
        self._listener.close()
        self.path.unlink(missing_ok=True)
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)


class _Client:
    """One connection to the socket: its contexts, its card handles, its thread."""

    def __init__(self, service: PcscService, connection: socket) -> None:
        self.contexts: set[int] = set()
        self.waiting = False
        self._service = service
        self._socket = connection
        self._sending = threading.Lock()
        self._cards: dict[int, tuple[int, Connection]] = {}  # handle: its context, and what it is
        self.thread = threading.Thread(target=self._serve, name="PC/SC client", daemon=True)

    def tell(self, result: Result) -> None:
        """That it need wait no longer. Whoever does not listen is not waited for."""
        with self._sending, suppress(OSError):
            self._socket.send(wire.Change(0, result).pack(), MSG_DONTWAIT)

    def end(self) -> None:
        """Hang up."""
        with suppress(OSError):
            self._socket.shutdown(SHUT_RDWR)

    def _serve(self) -> None:
        try:
            while True:
                header = wire.Header.unpack(self._read(wire.Header.layout.size))
                command, structure = header.asks()
                request = structure.unpack(self._read(header.size))
                body = self._read(wire.following(request))
                self._answer(command, request, body)
        except (OSError, EOFError, FormatError):
            pass  # it has gone, or cannot be understood: nobody else is to suffer
        finally:
            self._close_cards()
            self._service.forget(self)
            self._socket.close()

    def _read(self, count: int) -> bytes:
        octets = b""
        while len(octets) < count:
            more = self._socket.recv(count - len(octets))
            if not more:
                raise EOFError
            octets += more
        return octets

    def _send(self, octets: bytes) -> None:
        with self._sending:
            self._socket.sendall(octets)

    def _answer(self, command: Command, request: wire.Structure, body: bytes) -> None:
        match request:
            case wire.Nothing():
                self._answer_about_readers(command)
            case wire.Transmit():
                self._send(self._transmit(request, body))
            case _:
                self._send(self._do(command, request).pack())

    def _answer_about_readers(self, command: Command) -> None:
        if command is Command.STOP_WAITING_READER_STATE_CHANGE:
            if self._service.stop_waiting(self):
                self._send(wire.Change(0, Result.SUCCESS).pack())
            return
        with self._sending:  # so that no change is told before the states that it changes
            if command is Command.WAIT_READER_STATE_CHANGE:
                self._service.wait(self)
            self._socket.sendall(self._service.states())

    def _do(self, command: Command, request: wire.Structure) -> wire.Structure:
        try:
            match request:
                case wire.Version():
                    # pcsc-lite 2 comes with a higher minor number, and speaks ours then.
                    agreed = request.major == wire.MAJOR and request.minor >= wire.MINOR
                    rv = Result.SUCCESS if agreed else Result.SERVICE_STOPPED
                    return wire.Version(wire.MAJOR, wire.MINOR, rv)
                case wire.Establish():
                    context = self._service.number()
                    self.contexts.add(context)
                    return replace(request, context=context, rv=Result.SUCCESS)
                case wire.Connect():
                    return self._connect(request)
                case wire.Reconnect(card, share, protocols, disposition):
                    connection = self._card(card)
                    connection.reader.reconnect(connection, share, protocols, disposition)
                    return replace(request, protocol=wire.PROTOCOL_T1, rv=Result.SUCCESS)
                case wire.OfContext(context):
                    self._of_context(command, context)
                case wire.Ending(card, disposition):
                    self._end(command, card, disposition)
                case wire.OfCard(card):
                    connection = self._card(card)
                    if command is Command.BEGIN_TRANSACTION:
                        connection.reader.begin(connection)
                    else:
                        connection.reader.check(connection)
                case _:
                    raise RefusedError(Result.UNSUPPORTED_FEATURE)
        except RefusedError as refused:
            return replace(request, rv=refused.result)  # type: ignore[call-arg]  # all have it
        return replace(request, rv=Result.SUCCESS)

    def _connect(self, request: wire.Connect) -> wire.Connect:
        if request.context not in self.contexts:
            raise RefusedError(Result.INVALID_HANDLE)
        connection = self._service.reader(request.name).connect(request.share, request.protocols)
        card = self._service.number()
        self._cards[card] = request.context, connection
        return replace(request, card=card, protocol=wire.PROTOCOL_T1, rv=Result.SUCCESS)

    def _of_context(self, command: Command, context: int) -> None:
        if command is Command.CANCEL:  # comes on another socket than the wait
            if not self._service.cancel(context):
                raise RefusedError(Result.INVALID_HANDLE)
            return
        if context not in self.contexts:
            raise RefusedError(Result.INVALID_HANDLE)
        self._close_cards(context)
        self.contexts.remove(context)

    def _end(self, command: Command, card: int, disposition: int) -> None:
        connection = self._card(card)
        if command is Command.END_TRANSACTION:
            connection.reader.end(connection, disposition)
        else:
            connection.reader.disconnect(connection, disposition)
            del self._cards[card]

    def _transmit(self, request: wire.Transmit, command: bytes) -> bytes:
        try:
            connection = self._card(request.card)
            response = connection.reader.transmit(connection, command)
        except RefusedError as refused:
            return replace(request, receive_length=0, rv=refused.result).pack()
        answer = replace(request, receive_length=len(response), rv=Result.SUCCESS)
        if len(response) > request.receive_length:
            return replace(answer, rv=Result.INSUFFICIENT_BUFFER).pack()
        return answer.pack() + response

    def _card(self, card: int) -> Connection:
        try:
            return self._cards[card][1]
        except KeyError:
            raise RefusedError(Result.INVALID_HANDLE) from None

    def _close_cards(self, context: int | None = None) -> None:
        """Of one context, or all: as if it had said so, and unpowered."""
        for card, (owner, connection) in list(self._cards.items()):
            if context in (None, owner):
                connection.reader.disconnect(connection, Disposition.UNPOWER)
                del self._cards[card]
