"""Payload octets in blocks: every cut reads the same, and the same twice."""

from __future__ import annotations

import io
from base64 import urlsafe_b64encode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh_hsm.dare.payload import BLOCK, Payload, PayloadWriter, blocks_of, item_head
from mesh_hsm.errors import FormatError, StorageError


def octets_of(payload: Payload) -> bytes:
    return b"".join(bytes(block) for block in payload.blocks())


def armored(text: bytes) -> bytes:
    return b'"' + text + b'"'


def item(code: int, octets: bytes, width: int = 0) -> bytes:
    return bytes([code + width]) + len(octets).to_bytes(1 << width, "big") + octets


@given(st.lists(st.binary(max_size=40)), st.binary(max_size=40), st.integers(0, 3))
def test_any_cut_into_items_reads_the_same(chunks: list[bytes], last: bytes, width: int) -> None:
    stored = b"".join(item(0x8C, chunk, width) for chunk in chunks) + item(0x88, last, width)
    payload = Payload(io.BytesIO(b"xx" + stored + b"yy"), 2)
    assert octets_of(payload) == b"".join(chunks) + last
    assert payload.size == len(b"".join(chunks) + last)
    assert payload.end == 2 + len(stored)
    assert not payload.armored


@given(st.binary(max_size=400))
def test_text_reads_as_octets(octets: bytes) -> None:
    text = armored(urlsafe_b64encode(octets).rstrip(b"="))
    payload = Payload(io.BytesIO(b"x" + text + b"]"), 1)
    assert octets_of(payload) == octets
    assert payload.size == len(octets)
    assert payload.end == 1 + len(text)
    assert payload.armored


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, BLOCK + 9), max_size=3), st.booleans(), st.booleans())
def test_what_is_written_is_read(pieces: list[int], armor: bool, known: bool) -> None:
    octets = bytes(range(251)) * (sum(pieces) // 251 + 1)
    octets = octets[: sum(pieces)]
    sink = io.BytesIO()
    writer = PayloadWriter(sink, armor=armor, size=len(octets) if known else None)
    at = 0
    for piece in pieces:
        writer.write(octets[at : at + piece])
        at += piece
    writer.finish()
    payload = Payload(sink, 0)
    assert payload.size == len(octets)
    for _ in range(2):
        assert octets_of(payload) == octets
    sizes = [len(block) for block in payload.blocks()]
    assert all(size == BLOCK for size in sizes[:-1])


def test_chunks_are_of_one_mebibyte_and_lengths_the_shortest() -> None:
    sink = io.BytesIO()
    writer = PayloadWriter(sink, armor=False, size=None)
    writer.write(bytes(2 * BLOCK + 300))
    writer.finish()
    stored = sink.getvalue()
    assert stored[:5].hex() == "8e00100000"
    assert stored[5 + BLOCK :][:5].hex() == "8e00100000"
    assert stored[2 * (5 + BLOCK) :][:3].hex() == "89012c"
    assert len(stored) == 2 * (5 + BLOCK) + 3 + 300


def test_a_known_size_is_one_item_of_eight_octet_length() -> None:
    sink = io.BytesIO()
    writer = PayloadWriter(sink, armor=False, size=3)
    writer.write(b"abc")
    writer.finish()
    assert sink.getvalue() == bytes.fromhex("8b0000000000000003") + b"abc"


@pytest.mark.parametrize(
    ("length", "head"),
    [(0, "8800"), (255, "88ff"), (256, "890100"), (65536, "8a00010000"),
     (1 << 32, "8b0000000100000000")],
)  # fmt: skip
def test_heads_have_the_shortest_length(length: int, head: str) -> None:
    assert item_head(0x88, length).hex() == head


@pytest.mark.parametrize("armor", [True, False])
@pytest.mark.parametrize("size", [2, 4])
def test_another_size_than_announced_is_an_error(size: int, armor: bool) -> None:
    writer = PayloadWriter(io.BytesIO(), armor=armor, size=size)
    writer.write(b"abc")
    with pytest.raises(StorageError):
        writer.finish()


HOSTILE_ITEMS = {
    "nothing": b"",
    "no-length": b"\x88",
    "short-length": b"\x8a\0\0",
    "short-octets": b"\x88\x05abcd",
    "huge-length": b"\x8b" + b"\xff" * 8 + b"abcd",
    "huge-chunk": b"\x8f" + b"\x7f" * 8 + b"abcd",
    "no-final-item": item(0x8C, b"abc"),
    "string": b"\x80\x03abc",
    "string-chunk-after-binary": item(0x8C, b"abc") + b"\x84\x01a" + item(0x88, b""),
    "string-final-after-binary": item(0x8C, b"abc") + b"\x80\x01a",
    "integer": b"\xa0\x01",
    "null": b"\xb2",
    "array": b"[",
    "number": b"1",
}


@pytest.mark.parametrize("stored", HOSTILE_ITEMS.values(), ids=HOSTILE_ITEMS)
def test_hostile_items_are_refused(stored: bytes) -> None:
    with pytest.raises(FormatError):
        Payload(io.BytesIO(b"[" + stored), 1)


HOSTILE_TEXT = {
    "padding": b"QQ==",
    "inner-padding": b"QQ==QUJD",
    "stray-bits": b"QR",
    "stray-bits-of-two": b"QUJ",
    "one-character": b"QUJDQ",
    "standard-alphabet": b"+/+/",
    "white-space": b"QU JD",
    "escape": b"QUJD\\n",
    "foreign": b"QU!D",
    "not-ascii": b"QU\xc3\x96D",
}


@pytest.mark.parametrize("text", HOSTILE_TEXT.values(), ids=HOSTILE_TEXT)
def test_hostile_text_is_refused(text: bytes) -> None:
    payload = Payload(io.BytesIO(armored(text)), 0)
    with pytest.raises(FormatError):
        octets_of(payload)


def test_text_without_end_is_refused() -> None:
    with pytest.raises(FormatError):
        Payload(io.BytesIO(b'"QUJD'), 0)


def test_published_text_may_hold_white_space() -> None:
    text = armored(rb"QU\n  JD" + b"\r\n\tRA")
    payload = Payload(io.BytesIO(text), 0, lenient=True)
    assert octets_of(payload) == b"ABCD"


def test_an_escape_on_the_edge_of_a_block_is_white_space_too() -> None:
    text = b"QUJD" * (BLOCK // 4 - 1) + b"QUJ" + rb"\nD"
    assert text[BLOCK - 1 : BLOCK] == b"\\"
    payload = Payload(io.BytesIO(armored(text)), 0, lenient=True)
    assert octets_of(payload) == b"ABC" * (BLOCK // 4)


class Stream(io.RawIOBase):
    """A raw stream that gives and takes a few octets at a time."""

    def __init__(self, octets: bytes = b"") -> None:
        self.octets = octets
        self.taken = bytearray()

    def readable(self) -> bool:
        return True

    def readinto(self, view: memoryview) -> int:
        part, self.octets = self.octets[:7], self.octets[7:]
        view[: len(part)] = part
        return len(part)

    def writable(self) -> bool:
        return True

    def write(self, octets: memoryview) -> int:
        self.taken += octets[:5]
        return min(5, len(octets))


def test_raw_streams_are_read_and_written_to_the_end() -> None:
    assert b"".join(map(bytes, blocks_of(Stream(bytes(100))))) == bytes(100)
    sink = Stream()
    writer = PayloadWriter(sink, armor=False, size=100)
    writer.write(bytes(100))
    writer.finish()
    assert sink.taken == bytes.fromhex("8b0000000000000064") + bytes(100)


class OnlyRead:
    """A file-like object without ``readinto``."""

    def __init__(self, octets: bytes) -> None:
        self.read = io.BytesIO(octets).read


def test_objects_that_only_read_will_do() -> None:
    assert b"".join(map(bytes, blocks_of(OnlyRead(b"a" * 100)))) == b"a" * 100


@pytest.mark.parametrize("at", [5, BLOCK + 5, 2 * BLOCK + 5])
def test_octets_that_changed_are_not_given(at: int) -> None:
    stored = bytearray(item(0x88, bytes(2 * BLOCK + 10), 3))
    source = io.BytesIO(stored)
    payload = Payload(source, 0)
    assert len(octets_of(payload)) == 2 * BLOCK + 10
    source.seek(9 + at)
    source.write(b"\1")
    given_out = []
    with pytest.raises(StorageError):
        given_out.extend(bytes(block) for block in payload.blocks())
    assert b"".join(given_out) == bytes(at // BLOCK * BLOCK)


def test_a_shorter_second_pass_is_noticed() -> None:
    source = io.BytesIO(item(0x8C, bytes(BLOCK), 3) + item(0x88, b"abc"))
    payload = Payload(source, 0)
    octets_of(payload)
    source.seek(9 + BLOCK)
    source.write(item(0x88, b""))
    with pytest.raises(StorageError):
        octets_of(payload)


def test_a_longer_second_pass_is_noticed() -> None:
    source = io.BytesIO(item(0x88, bytes(BLOCK), 3))
    payload = Payload(source, 0)
    octets_of(payload)
    source.seek(0)
    source.write(b"\x8f")
    source.seek(0, 2)
    source.write(item(0x88, b"abc"))
    payload._length = len(source.getvalue())
    with pytest.raises(StorageError):
        octets_of(payload)


def test_a_file_cut_meanwhile_is_noticed() -> None:
    source = io.BytesIO(item(0x88, bytes(BLOCK), 3))
    payload = Payload(source, 0)
    source.truncate(100)
    with pytest.raises(StorageError):
        octets_of(payload)


def test_an_abandoned_first_pass_starts_again() -> None:
    payload = Payload(io.BytesIO(item(0x88, bytes(3 * BLOCK), 3)), 0)
    next(payload.blocks())
    assert len(octets_of(payload)) == 3 * BLOCK
    assert len(octets_of(payload)) == 3 * BLOCK
