"""What libpcsclite and its daemon say to each other on their Unix socket, protocol 4:4.

Open this file when a PC/SC client misunderstands the private service. Structures only: every field
is an integer or octets in the machine's own byte order, with no padding but what is named. The
answer to a request is the same structure with its results filled in. Nothing here does I/O.
Source: ``winscard_msg.h`` and ``pcsclite.h`` of pcsc-lite 1.9.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import astuple, dataclass
from typing import ClassVar, Self

from mesh_hsm.errors import FormatError

MAJOR, MINOR = 4, 4
READERS = 16
LARGEST_APDU = 65_548
"""Octets of the longest command or response (MAX_BUFFER_SIZE_EXTENDED)."""
_NAME, _ATR, _ATTRIBUTE = 128, 33, 264


class Command(enum.IntEnum):
    """What a client asks for."""

    ESTABLISH_CONTEXT = 0x01
    RELEASE_CONTEXT = 0x02
    CONNECT = 0x04
    RECONNECT = 0x05
    DISCONNECT = 0x06
    BEGIN_TRANSACTION = 0x07
    END_TRANSACTION = 0x08
    TRANSMIT = 0x09
    CONTROL = 0x0A
    STATUS = 0x0B
    CANCEL = 0x0D
    GET_ATTRIB = 0x0F
    SET_ATTRIB = 0x10
    VERSION = 0x11
    GET_READERS_STATE = 0x12
    WAIT_READER_STATE_CHANGE = 0x13
    STOP_WAITING_READER_STATE_CHANGE = 0x14


class Result(enum.IntEnum):
    """``rv``: how it went."""

    SUCCESS = 0
    CANCELLED = 0x80100002
    INVALID_HANDLE = 0x80100003
    INVALID_VALUE = 0x80100011
    INSUFFICIENT_BUFFER = 0x80100008
    UNKNOWN_READER = 0x80100009
    SHARING_VIOLATION = 0x8010000B
    NO_SMARTCARD = 0x8010000C
    PROTO_MISMATCH = 0x8010000F
    NOT_TRANSACTED = 0x80100016
    READER_UNAVAILABLE = 0x80100017
    SERVICE_STOPPED = 0x8010001E
    UNSUPPORTED_FEATURE = 0x8010001F
    RESET_CARD = 0x80100068
    REMOVED_CARD = 0x80100069


class Share(enum.IntEnum):
    """Whom a connection tolerates beside it."""

    EXCLUSIVE = 1
    SHARED = 2
    DIRECT = 3


class Disposition(enum.IntEnum):
    """What becomes of the card."""

    LEAVE = 0
    RESET = 1
    UNPOWER = 2
    EJECT = 3


class State(enum.IntFlag):
    """What a reader holds."""

    ABSENT = 0x02
    PRESENT = 0x04
    POWERED = 0x10
    NEGOTIABLE = 0x20


PROTOCOL_T1 = 2
EXCLUSIVE_SHARING = -1


@dataclass(frozen=True, slots=True)
class Structure:
    """Base of all: fields in their order on the wire."""

    layout: ClassVar[struct.Struct]

    @classmethod
    def unpack(cls, octets: bytes) -> Self:
        """Decode. Raises ``FormatError`` unless it is exactly one structure."""
        if len(octets) != cls.layout.size:
            raise FormatError(f"{cls.__name__} has {cls.layout.size} octets, not {len(octets)}")
        return cls(*cls.layout.unpack(octets))

    def pack(self) -> bytes:
        """Encode."""
        return self.layout.pack(*astuple(self))


@dataclass(frozen=True, slots=True)
class Version(Structure):
    """Both sides name the protocol they speak."""

    layout: ClassVar = struct.Struct("=iiI")
    major: int
    minor: int
    rv: int


@dataclass(frozen=True, slots=True)
class Establish(Structure):
    """A new context."""

    layout: ClassVar = struct.Struct("=III")
    scope: int
    context: int
    rv: int


@dataclass(frozen=True, slots=True)
class OfContext(Structure):
    """RELEASE_CONTEXT and CANCEL."""

    layout: ClassVar = struct.Struct("=II")
    context: int
    rv: int


@dataclass(frozen=True, slots=True)
class Connect(Structure):
    """A new connection to a reader, whose name ends at the first zero octet."""

    layout: ClassVar = struct.Struct(f"=I{_NAME}sIIiII")
    context: int
    reader: bytes
    share: int
    protocols: int
    card: int
    protocol: int
    rv: int

    @property
    def name(self) -> str:
        """The reader's name; what is not UTF-8 fits no reader."""
        return self.reader.split(b"\0")[0].decode(errors="replace")


@dataclass(frozen=True, slots=True)
class Reconnect(Structure):
    """Another way of sharing, and perhaps a reset."""

    layout: ClassVar = struct.Struct("=iIIIII")
    card: int
    share: int
    protocols: int
    disposition: int
    protocol: int
    rv: int


@dataclass(frozen=True, slots=True)
class Ending(Structure):
    """DISCONNECT and END_TRANSACTION."""

    layout: ClassVar = struct.Struct("=iII")
    card: int
    disposition: int
    rv: int


@dataclass(frozen=True, slots=True)
class OfCard(Structure):
    """BEGIN_TRANSACTION and STATUS."""

    layout: ClassVar = struct.Struct("=iI")
    card: int
    rv: int


@dataclass(frozen=True, slots=True)
class Transmit(Structure):
    """``send_length`` octets follow the request, ``receive_length`` a successful answer."""

    layout: ClassVar = struct.Struct("=iIIIIIII")
    card: int
    send_protocol: int
    send_pci_length: int
    send_length: int
    receive_protocol: int
    receive_pci_length: int
    receive_length: int
    rv: int


@dataclass(frozen=True, slots=True)
class Control(Structure):
    """``send_length`` octets follow the request."""

    layout: ClassVar = struct.Struct("=iIIIII")
    card: int
    code: int
    send_length: int
    receive_length: int
    returned: int
    rv: int


@dataclass(frozen=True, slots=True)
class Attribute(Structure):
    """GET_ATTRIB and SET_ATTRIB."""

    layout: ClassVar = struct.Struct(f"=iI{_ATTRIBUTE}sII")
    card: int
    attribute: int
    octets: bytes
    length: int
    rv: int


@dataclass(frozen=True, slots=True)
class Nothing(Structure):
    """A request without a body."""

    layout: ClassVar = struct.Struct("")


@dataclass(frozen=True, slots=True)
class Change(Structure):
    """What a waiting client is told; also the answer to STOP_WAITING."""

    layout: ClassVar = struct.Struct("=II")
    timeout: int
    rv: int


@dataclass(frozen=True, slots=True)
class ReaderState(Structure):
    """One reader, or with an empty name none; READERS of them make an answer."""

    layout: ClassVar = struct.Struct(f"={_NAME}sIIi{_ATR}s3xII")
    name: bytes = b""
    events: int = 0
    state: int = 0
    sharing: int = 0
    atr: bytes = b""
    atr_length: int = 0
    protocol: int = 0


REQUESTS: dict[Command, type[Structure]] = {
    Command.ESTABLISH_CONTEXT: Establish,
    Command.RELEASE_CONTEXT: OfContext,
    Command.CONNECT: Connect,
    Command.RECONNECT: Reconnect,
    Command.DISCONNECT: Ending,
    Command.BEGIN_TRANSACTION: OfCard,
    Command.END_TRANSACTION: Ending,
    Command.TRANSMIT: Transmit,
    Command.CONTROL: Control,
    Command.STATUS: OfCard,
    Command.CANCEL: OfContext,
    Command.GET_ATTRIB: Attribute,
    Command.SET_ATTRIB: Attribute,
    Command.VERSION: Version,
    Command.GET_READERS_STATE: Nothing,
    Command.WAIT_READER_STATE_CHANGE: Nothing,
    Command.STOP_WAITING_READER_STATE_CHANGE: Nothing,
}


@dataclass(frozen=True, slots=True)
class Header(Structure):
    """In front of each request: how many octets follow, and what they ask for."""

    layout: ClassVar = struct.Struct("=II")
    size: int
    command: int

    def asks(self) -> tuple[Command, type[Structure]]:
        """The command and its structure. Raises ``FormatError`` for another command or size."""
        try:
            command = Command(self.command)
        except ValueError:
            raise FormatError(f"no command {self.command:#x}") from None
        structure = REQUESTS[command]
        if self.size != structure.layout.size:
            raise FormatError(f"{command.name} has {structure.layout.size} octets")
        return command, structure


def following(request: Structure) -> int:
    """How many octets follow this request. Raises ``FormatError`` beyond LARGEST_APDU."""
    if not isinstance(request, Transmit | Control):
        return 0
    if request.send_length > LARGEST_APDU:
        raise FormatError(f"at most {LARGEST_APDU} octets are sent to a card")
    return request.send_length
