"""A PC/SC client of the tests' own: sends what libpcsclite would send, and what it never would."""

from __future__ import annotations

from pathlib import Path
from socket import AF_UNIX, SOCK_STREAM, socket
from types import TracebackType
from typing import Self, TypeVar

from mesh_hsm.testing.virtual_yubikey import pcsc_wire as wire
from mesh_hsm.testing.virtual_yubikey.pcsc_wire import Command, Disposition, Share

SELECT_MANAGEMENT = bytes.fromhex("00A4040008A000000527471117")
SELECT_PIV = bytes.fromhex("00A4040005A000000308")
T1 = wire.PROTOCOL_T1
_S = TypeVar("_S", bound=wire.Structure)


class Client:
    """One connection with one context."""

    def __init__(self, path: Path) -> None:
        self._socket = socket(AF_UNIX, SOCK_STREAM)
        self._socket.settimeout(30)
        self._socket.connect(str(path))
        self.context = self.ask(Command.ESTABLISH_CONTEXT, wire.Establish(2, 0, 9)).context

    def ask(self, command: Command, request: _S) -> _S:
        """Send a request, return the answer."""
        self.send(command, request)
        return self.receive(type(request))

    def send(self, command: Command, request: wire.Structure = wire.Nothing(), /) -> None:  # noqa: B008  immutable
        """Send a request and wait for nothing."""
        body = request.pack()
        self.send_octets(wire.Header(len(body), command).pack() + body)

    def send_octets(self, octets: bytes) -> None:
        """Send anything."""
        self._socket.sendall(octets)

    def receive(self, structure: type[_S]) -> _S:
        """The next structure of this kind."""
        return structure.unpack(self._read(structure.layout.size))

    def states(self, command: Command = Command.GET_READERS_STATE) -> list[wire.ReaderState]:
        """The readers that are there."""
        self.send(command)
        found = [self.receive(wire.ReaderState) for _ in range(wire.READERS)]
        return [state for state in found if state.name.strip(b"\0")]

    def connect(
        self, name: str, share: int = Share.SHARED, protocols: int = T1, context: int | None = None
    ) -> wire.Connect:
        """The answer to CONNECT."""
        context = self.context if context is None else context
        request = wire.Connect(context, name.encode(), share, protocols, 0, 0, 9)
        return self.ask(Command.CONNECT, request)

    def reconnect(
        self,
        card: int,
        share: int = Share.SHARED,
        disposition: int = Disposition.LEAVE,
        protocols: int = T1,
    ) -> int:
        """The result of RECONNECT."""
        request = wire.Reconnect(card, share, protocols, disposition, 0, 9)
        return self.ask(Command.RECONNECT, request).rv

    def disconnect(self, card: int, disposition: int = Disposition.LEAVE) -> int:
        """The result of DISCONNECT."""
        return self.ask(Command.DISCONNECT, wire.Ending(card, disposition, 9)).rv

    def begin(self, card: int) -> int:
        """The result of BEGIN_TRANSACTION."""
        return self.ask(Command.BEGIN_TRANSACTION, wire.OfCard(card, 9)).rv

    def end_transaction(self, card: int, disposition: int = Disposition.LEAVE) -> int:
        """The result of END_TRANSACTION."""
        return self.ask(Command.END_TRANSACTION, wire.Ending(card, disposition, 9)).rv

    def status(self, card: int) -> int:
        """The result of STATUS."""
        return self.ask(Command.STATUS, wire.OfCard(card, 9)).rv

    def send_apdu(self, card: int, apdu: bytes, room: int = 258) -> None:
        """TRANSMIT without waiting for the answer."""
        request = wire.Transmit(card, T1, 16, len(apdu), T1, 16, room, 9)
        self.send(Command.TRANSMIT, request)
        self.send_octets(apdu)

    def response(self) -> tuple[int, bytes]:
        """The answer to TRANSMIT: result and response APDU."""
        answer = self.receive(wire.Transmit)
        return answer.rv, b"" if answer.rv else self._read(answer.receive_length)

    def transmit(self, card: int, apdu: bytes, room: int = 258) -> tuple[int, bytes]:
        """Result and response APDU."""
        self.send_apdu(card, apdu, room)
        return self.response()

    def was_hung_up_on(self) -> bool:
        """Whether the service has ended this connection: the next octet never comes."""
        try:
            return self._socket.recv(1) == b""
        except ConnectionResetError:  # what was sent has not been read
            return True

    def close(self) -> None:
        """Vanish."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _read(self, count: int) -> bytes:
        octets = b""
        while len(octets) < count:
            more = self._socket.recv(count - len(octets))
            assert more, "the service has hung up"
            octets += more
        return octets
