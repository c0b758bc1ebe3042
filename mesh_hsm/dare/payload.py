"""Payload octets inside an envelope file, in blocks: open this to read or write large payloads.

A payload is one JSON-B binary item, a run of chunks with a final item (dare §1), or base64url text
between quotes. Readers use one block of memory however the writer cut it.
"""

from __future__ import annotations

import binascii
import re
import secrets
from collections.abc import Iterator
from typing import BinaryIO, Final, Protocol

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import GCM

from mesh_hsm.errors import FormatError, StorageError

BLOCK: Final = 1 << 20
# Written in pieces: Linux 6 takes an aligned write into its cache as the largest pages that fit,
# which it has to find first. A MiB at once was five times slower on ext4 than 32 KiB.
_PIECE: Final = 1 << 15

_FINAL, _CHUNK = 0x88, 0x8C  # the first of four codes each, for lengths of 1, 2, 4, 8 octets
_TO_STANDARD = bytes.maketrans(b"-_+/=", b"+/!!!")
_SPACE = re.compile(rb"\\[nrt]|[ \t\r\n]+")


class Sink(Protocol):
    """Something that takes octets, all of them or as many as it says."""

    def write(self, octets: bytes | memoryview, /) -> int:
        """Take octets; how many were taken."""
        ...


def read_into(source: BinaryIO, view: memoryview) -> int:
    """Fill ``view`` as far as the source reaches; raw streams may give less at a time."""
    filled = 0
    readinto = getattr(source, "readinto", None)
    while filled < len(view):
        if readinto is not None:
            got = readinto(view[filled:])
        else:
            octets = source.read(len(view) - filled)
            got = len(octets)
            view[filled : filled + got] = octets
        if not got:
            break
        filled += got
    return filled


def blocks_of(source: BinaryIO) -> Iterator[memoryview]:
    """The rest of a source in full blocks and a last one, each valid until the next step."""
    view = memoryview(bytearray(BLOCK))
    while filled := read_into(source, view):
        yield view[:filled]


class _Reader(Protocol):
    def readinto(self, view: memoryview) -> int: ...
    def skip(self) -> int: ...


class Payload:
    """Payload octets that read the same each time.

    ``size`` counts octets as encrypted and hashed, not as stored; ``end`` is the offset after the
    last stored one. The first complete pass over ``blocks`` notes a MAC of each block under a key
    of its own; a later pass that meets other octets raises ``StorageError`` before yielding them.
    So what was verified in one pass is what is released in the next.
    """

    def __init__(self, source: BinaryIO, start: int, *, lenient: bool = False) -> None:
        self._source = source
        self._start = start
        self._lenient = lenient
        self._key = secrets.token_bytes(32)
        self._tags: list[bytes] = []
        self._complete = False
        self._length = source.seek(0, 2)
        source.seek(start)
        self.armored = source.read(1) == b'"'
        reader = self._reader()
        self.size = reader.skip()
        self.end = source.tell()

    def blocks(self) -> Iterator[memoryview]:
        """Blocks of 1 MiB and a last, shorter one; each is valid until the next step."""
        reader = self._reader()
        view = memoryview(bytearray(BLOCK))
        if not self._complete:
            self._tags = []
        index = 0
        while filled := _fill(reader, view):
            block = view[:filled]
            tag = self._tag(index, block)
            if not self._complete:
                self._tags.append(tag)
            elif index >= len(self._tags) or tag != self._tags[index]:
                raise changed()
            yield block
            index += 1
        if index != len(self._tags):
            raise changed()
        self._complete = True

    def _tag(self, index: int, block: memoryview) -> bytes:
        # The tags never leave this object, so a nonce may meet a second, altered block.
        mac = Cipher(AES256(self._key), GCM(index.to_bytes(12, "big"))).encryptor()
        mac.authenticate_additional_data(block)
        mac.finalize()
        return mac.tag

    def _reader(self) -> _Reader:
        if self.armored:
            return _Text(self._source, self._start + 1, lenient=self._lenient)
        return _Items(self._source, self._start, self._length)


class _Items:
    """JSON-B: binary chunks and a final binary item."""

    def __init__(self, source: BinaryIO, start: int, length: int) -> None:
        source.seek(start)
        self._source = source
        self._length = length
        self._left = 0
        self._final = False

    def readinto(self, view: memoryview) -> int:
        while not self._left:
            if self._final:
                return 0
            self._head()
        got = read_into(self._source, view[: self._left])
        if not got:
            raise changed()
        self._left -= got
        return got

    def skip(self) -> int:
        total = 0
        while not self._final:
            self._head()
            total += self._left
            self._source.seek(self._left, 1)
        return total

    def _head(self) -> None:
        code = self._source.read(1)
        if not code:
            raise FormatError("the envelope is truncated in its payload")
        if not _FINAL <= code[0] < _CHUNK + 4:
            raise FormatError("the payload is not a binary item")
        octets = 1 << (code[0] & 3)
        length = self._source.read(octets)
        self._left = int.from_bytes(length, "big")
        if len(length) < octets or self._left > self._length - self._source.tell():
            raise FormatError("the envelope is truncated in its payload")
        self._final = code[0] < _CHUNK


class _Text:
    """Base64url up to a closing quote."""

    def __init__(self, source: BinaryIO, start: int, *, lenient: bool) -> None:
        source.seek(start)
        self._source = source
        self._lenient = lenient
        self._text = bytearray()
        self._octets = bytearray()
        self._closed = False

    def readinto(self, view: memoryview) -> int:
        while not self._octets:
            if self._closed:
                return 0
            self._decode()
        got = min(len(view), len(self._octets))
        view[:got] = self._octets[:got]
        del self._octets[:got]
        return got

    def skip(self) -> int:
        characters = 0
        while not self._closed:
            self._take()
            characters += len(self._text)
            self._text.clear()
        return characters * 6 // 8

    def _decode(self) -> None:
        """Move some more text to octets; only the last group may be incomplete."""
        self._take()
        whole = len(self._text) if self._closed else len(self._text) // 4 * 4
        group = bytes(self._text[:whole]).translate(_TO_STANDARD)
        del self._text[:whole]
        try:
            octets = binascii.a2b_base64(group + b"=" * (-whole % 4), strict_mode=True)
        except binascii.Error as error:
            raise FormatError("the payload is not base64url") from error
        last = binascii.b2a_base64(octets[-(len(octets) % 3 or 3) :], newline=False)
        if last.rstrip(b"=") != group[-(len(group) % 4 or 4) :]:
            raise FormatError("the payload is not canonical base64url")
        self._octets += octets

    def _take(self) -> None:
        """Read on, and stop behind the closing quote."""
        text = self._source.read(BLOCK)
        if text.endswith(b"\\"):
            text += self._source.read(1)
        if not text:
            raise FormatError("the envelope is truncated in its payload")
        quote = text.find(b'"')
        if quote >= 0:
            self._source.seek(quote + 1 - len(text), 1)
            text = text[:quote]
            self._closed = True
        self._text += _SPACE.sub(b"", text) if self._lenient else text


class PayloadWriter:
    """Writes payload octets as an item of known ``size``, as chunks (None), or as base64url."""

    def __init__(self, sink: Sink, *, armor: bool, size: int | None) -> None:
        self._sink = sink
        self._armor = armor
        self._size = size
        self._written = 0
        self._pending = bytearray()
        if armor:
            write_all(sink, b'"')
        elif size is not None:
            write_all(sink, b"\x8b" + size.to_bytes(8, "big"))

    def write(self, octets: bytes | memoryview) -> None:
        """More payload, in pieces of any size."""
        self._written += len(octets)
        if not self._armor and self._size is not None:
            write_all(self._sink, octets)
            return
        self._pending += octets
        unit = 3 if self._armor else BLOCK
        whole = len(self._pending) // unit * unit
        if whole:
            self._emit(whole)

    def finish(self) -> None:
        """Write what is left. Raises ``StorageError`` if the size was not as announced."""
        if self._size is not None and self._written != self._size:
            raise changed()
        if self._armor:
            write_all(self._sink, _base64url(self._pending) + b'"')
        elif self._size is None:
            write_all(self._sink, item_head(_FINAL, len(self._pending)) + self._pending)

    def _emit(self, whole: int) -> None:
        with memoryview(self._pending) as view:
            if self._armor:
                write_all(self._sink, _base64url(view[:whole]))
            else:
                for at in range(0, whole, BLOCK):
                    write_all(self._sink, item_head(_CHUNK, BLOCK))
                    write_all(self._sink, view[at : at + BLOCK])
        del self._pending[:whole]


def item_head(code: int, length: int) -> bytes:
    """The code and the shortest length that fits; ``code`` is the family's first."""
    power = next(power for power in range(4) if length < 1 << (8 << power))
    return bytes([code + power]) + length.to_bytes(1 << power, "big")


def _base64url(octets: bytes | bytearray | memoryview) -> bytes:
    text = binascii.b2a_base64(octets, newline=False).rstrip(b"=")
    return text.translate(bytes.maketrans(b"+/", b"-_"))


def _fill(reader: _Reader, view: memoryview) -> int:
    filled = 0
    while filled < len(view) and (got := reader.readinto(view[filled:])):
        filled += got
    return filled


def write_all(sink: Sink, octets: bytes | bytearray | memoryview) -> None:
    """Write everything; raw streams may take less at a time."""
    with memoryview(octets) as view:
        done = 0
        while done < len(view):
            done += sink.write(view[done : done + _PIECE])


def changed() -> StorageError:
    """The error for a source that is not what it was a moment ago."""
    return StorageError("the input changed while it was read", hint="try again on a copy of it")
