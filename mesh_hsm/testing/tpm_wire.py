"""A TPM's wire, for rigs: a few plain commands, and a tap that counts and keeps what passes.

Open this file to count a provider's TPM commands or to look for a secret on the bus. No TPM
library is needed: the commands that a rig sends itself are a dozen octets each (TPM 2.0 Part 3).
"""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import Self

from mesh_hsm.errors import DeviceError

_HEADER = struct.Struct(">HII")  # tag, size, command or response code
_NO_SESSIONS, _SESSIONS = 0x8001, 0x8002
_PASSWORD = struct.pack(">IIHBH", 9, 0x40000009, 0, 0, 0)  # one empty password authorisation


class Command(IntEnum):
    """TPM_CC, as far as rigs send or name them (TPM 2.0 Part 2 §6.5.2)."""

    EVICT_CONTROL = 0x120
    CREATE_PRIMARY = 0x131
    HIERARCHY_CHANGE_AUTH = 0x129
    DICTIONARY_ATTACK_LOCK_RESET = 0x139
    DICTIONARY_ATTACK_PARAMETERS = 0x13A
    STARTUP = 0x144
    SHUTDOWN = 0x145
    CREATE = 0x153
    ECDH_ZGEN = 0x154
    LOAD = 0x157
    SIGN = 0x15D
    UNSEAL = 0x15E
    FLUSH_CONTEXT = 0x165
    POLICY_AUTH_VALUE = 0x16B
    READ_PUBLIC = 0x173
    START_AUTH_SESSION = 0x176
    GET_CAPABILITY = 0x17A
    POLICY_PCR = 0x17F
    PCR_EXTEND = 0x182


def command(
    code: Command, handles: tuple[int, ...] = (), body: bytes = b"", auth: bool = False
) -> bytes:
    """One command's octets; ``auth`` adds one authorisation by the empty password."""
    area = b"".join(handle.to_bytes(4, "big") for handle in handles)
    area += (_PASSWORD if auth else b"") + body
    return _HEADER.pack(_SESSIONS if auth else _NO_SESSIONS, _HEADER.size + len(area), code) + area


def exchange(path: Path, request: bytes) -> bytes:
    """Send one command to the data socket at ``path`` and read the whole response."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(str(path))
        connection.sendall(request)
        return _read_message(connection)


def send(path: Path, request: bytes, also: tuple[int, ...] = ()) -> bytes:
    """Like ``exchange``; the response's body. ``DeviceError`` unless rc is 0 or in ``also``."""
    response = exchange(path, request)
    code: int = _HEADER.unpack_from(response)[2]
    if code and code not in also:
        raise DeviceError(f"the TPM answered {code:#x} to command {request[6:10].hex()}")
    return response[_HEADER.size :]


def _read_message(connection: socket.socket) -> bytes:
    header = _read_exactly(connection, _HEADER.size)
    size: int = _HEADER.unpack(header)[1]
    return header + _read_exactly(connection, size - _HEADER.size)


def _read_exactly(connection: socket.socket, size: int) -> bytes:
    octets = b""
    while len(octets) < size:
        part = connection.recv(size - len(octets))
        if not part:
            raise EOFError
        octets += part
    return octets


@dataclass
class Tap:
    """A socket at ``path`` that passes commands on to ``upstream`` and keeps both sides' octets.

    A context manager. ``requests`` and ``responses`` grow while it runs; ``clear`` forgets them.
    """

    path: Path
    upstream: Path
    requests: list[bytes] = field(default_factory=list)
    responses: list[bytes] = field(default_factory=list)
    verdict: Callable[[bytes], int | None] = lambda request: None
    """Asked before each command: a response code to answer in the TPM's place, or None."""

    def clear(self) -> None:
        """Forget what has passed so far."""
        self.requests.clear()
        self.responses.clear()

    @property
    def commands(self) -> list[int]:
        """The command codes that have passed, in order; compare with ``Command``."""
        return [_HEADER.unpack_from(request)[2] for request in self.requests]

    @property
    def octets(self) -> bytes:
        """All that has passed, both ways."""
        return b"".join(self.requests) + b"".join(self.responses)

    def __enter__(self) -> Self:
        tap, one_at_a_time = self, threading.Lock()

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                while True:
                    try:
                        request = _read_message(self.request)
                    except EOFError:
                        return
                    with one_at_a_time:
                        code = tap.verdict(request)
                        tap.requests.append(request)
                        if code is None:
                            try:
                                response = exchange(tap.upstream, request)
                            except (OSError, EOFError):
                                return  # nobody there: hang up, as a dead socket does
                        else:
                            response = _HEADER.pack(_NO_SESSIONS, _HEADER.size, code)
                        tap.responses.append(response)
                    self.request.sendall(response)

        self._server = socketserver.ThreadingUnixStreamServer(str(self.path), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self.path.unlink(missing_ok=True)
