"""The file around header, payload and trailer."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh_hsm.dare.container import Writer, read
from mesh_hsm.errors import FormatError, UnsupportedError

BINARY = b"\x88\x03abc"
OBJECTS = st.dictionaries(st.text(max_size=8), st.text(max_size=8) | st.integers(0, 99), max_size=4)


@given(OBJECTS, OBJECTS, st.binary(max_size=99), st.booleans(), st.booleans())
def test_what_is_written_is_read(
    header: dict[str, object],
    trailer: dict[str, object],
    octets: bytes,
    armor: bool,
    known: bool,
) -> None:
    sink = io.BytesIO()
    writer = Writer(sink, header, armor=armor, size=len(octets) if known else None)
    writer.write(octets)
    writer.finish(trailer)
    sink.seek(0)
    container = read(sink)
    assert container.header == header
    assert container.trailer == trailer
    assert container.armored is armor
    assert b"".join(map(bytes, container.payload.blocks())) == octets


def test_the_binary_form_to_the_octet() -> None:
    sink = io.BytesIO()
    writer = Writer(sink, {"enc": "x"}, size=3)
    writer.write(b"abc")
    writer.finish({})
    assert sink.getvalue() == b'[{"enc":"x"},\x8b\0\0\0\0\0\0\0\x03abc{}]\n'


def test_the_text_form_to_the_octet() -> None:
    sink = io.BytesIO()
    writer = Writer(sink, {"enc": "x"}, armor=True, size=4)
    writer.write(b"abcd")
    writer.finish({"a": []})
    assert sink.getvalue() == b'[{"enc":"x"},"YWJjZA",{"a":[]}]\n'


READABLE = {
    "as-we-write-it": b"[{}," + BINARY + b"{}]\n",
    "comma-after-the-payload": b"[{}," + BINARY + b",{}]",
    "no-trailer": b"[{}," + BINARY + b"]",
    "white-space": b" [ {} ,\n" + BINARY + b" { } ] \r\n\t",
    "text": b'[{},"YWJj",{}]',
    "text-without-trailer": b'[{},"YWJj"]',
    "coded-header": b"[{\xb4\x03enc\x80\x01x}" + BINARY + b"{\xb4\x01a\xa0\x01}]",
}


@pytest.mark.parametrize("octets", READABLE.values(), ids=READABLE)
def test_separators_are_tolerated_where_they_are_optional(octets: bytes) -> None:
    container = read(io.BytesIO(octets))
    assert b"".join(map(bytes, container.payload.blocks())) == b"abc"


HOSTILE = {
    "empty": b"",
    "space": b"   ",
    "an-object": b"{}",
    "no-header": b"[",
    "header-is-an-array": b"[[]," + BINARY + b"{}]",
    "header-is-a-string": b'["x",' + BINARY + b"{}]",
    "header-open": b'[{"a":1',
    "header-string-open": b'[{"a":"}]',
    "header-member-twice": b'[{"a":1,"a":2},' + BINARY + b"{}]",
    "coded-header-member-twice": b"[{\xb4\x01a\xa0\x01\xb4\x01a\xa0\x01}," + BINARY + b"{}]",
    "coded-header-is-no-object": b"[{\xb2}," + BINARY + b"{}]",
    "brackets-crossed": b"[{]}," + BINARY + b"{}]",
    "no-comma-after-the-header": b"[{}" + BINARY + b"{}]",
    "no-payload": b"[{}]",
    "no-payload-after-comma": b"[{},]",
    "payload-is-a-number": b"[{},7,{}]",
    "trailer-is-an-array": b"[{}," + BINARY + b"[]]",
    "trailer-member-twice": b"[{}," + BINARY + b'{"a":1,"a":2}]',
    "text-without-comma": b'[{},"YWJj"{}]',
    "four-items": b"[{}," + BINARY + b"{},{}]",
    "no-end": b"[{}," + BINARY + b"{}",
    "octets-after-the-end": b"[{}," + BINARY + b"{}]x",
    "second-envelope": (b"[{}," + BINARY + b"{}]") * 2,
    "header-too-large": b'[{"a":"' + b"a" * (1 << 20) + b'"},' + BINARY + b"{}]",
    "trailer-too-large": b"[{}," + BINARY + b'{"a":"' + b"a" * (1 << 20) + b'"}]',
    "header-too-deep": b'[{"a":' + b"[" * 40 + b"]" * 40 + b"}," + BINARY + b"{}]",
    "header-not-utf-8": b'[{"a":"\xff"},' + BINARY + b"{}]",
}


@pytest.mark.parametrize("octets", HOSTILE.values(), ids=HOSTILE)
def test_hostile_files_are_refused(octets: bytes) -> None:
    with pytest.raises(FormatError):
        read(io.BytesIO(octets))


def test_nothing_hides_behind_much_white_space() -> None:
    octets = b"[{}," + BINARY + b"{}]" + b" " * (1 << 20) + b"x"
    with pytest.raises(FormatError):
        read(io.BytesIO(octets))


@given(st.binary(max_size=200))
def test_nothing_but_our_own_errors(octets: bytes) -> None:
    with pytest.raises(FormatError):
        read(io.BytesIO(b"[" + octets))


def test_a_header_that_no_reader_would_take_is_not_written() -> None:
    sink = io.BytesIO()
    with pytest.raises(UnsupportedError):
        Writer(sink, {"a": "a" * (1 << 20)})
    assert not sink.getvalue()


@pytest.mark.parametrize(
    "octets",
    [
        b"[{\xb4\x09protected\x80\x01x}" + BINARY + b"{}]",
        b'[{"protected":\x88\x03abc}' + BINARY + b"{}]",
        b'[{"protected":"x"},' + BINARY + b"{\xb4\x01a\xa0\x01}]",
    ],
)
def test_what_is_protected_is_written_in_json_text(octets: bytes) -> None:
    """hsm-1 §2: one statement, one spelling. JSON-B is for what others have published."""
    with pytest.raises(FormatError, match="JSON text"):
        read(io.BytesIO(octets))
