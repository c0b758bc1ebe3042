"""PC/SC structures: their sizes are libpcsclite's, decoding is exact, bad input is refused."""

from __future__ import annotations

import struct
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh_hsm.errors import FormatError
from mesh_hsm.testing.virtual_yubikey import pcsc_wire as wire
from mesh_hsm.testing.virtual_yubikey.pcsc_wire import Command

# sizeof of winscard_msg.h's structures, on a 64-bit machine.
SIZES: dict[type[wire.Structure], int] = {
    wire.Header: 8,
    wire.Version: 12,
    wire.Establish: 12,
    wire.OfContext: 8,
    wire.Connect: 152,
    wire.Reconnect: 24,
    wire.Ending: 12,
    wire.OfCard: 8,
    wire.Transmit: 32,
    wire.Control: 24,
    wire.Attribute: 280,
    wire.Nothing: 0,
    wire.Change: 8,
    wire.ReaderState: 184,
}
_VALUES = {"i": st.integers(-(2**31), 2**31 - 1), "I": st.integers(0, 2**32 - 1)}


def values(structure: type[wire.Structure]) -> st.SearchStrategy[wire.Structure]:
    """Any structure of this kind: one value for each letter of its layout."""
    letters, number = [], ""
    for letter in structure.layout.format.lstrip("="):
        if letter.isdigit():
            number += letter
            continue
        if letter == "s":
            letters.append(st.binary(min_size=int(number), max_size=int(number)))
        elif letter != "x":
            letters.append(_VALUES[letter])
        number = ""
    return st.builds(structure, *letters)


@pytest.mark.parametrize(("structure", "size"), SIZES.items(), ids=lambda x: str(x))
def test_sizes_are_those_of_libpcsclite(structure: type[wire.Structure], size: int) -> None:
    assert structure.layout.size == size
    assert len(structure.layout.unpack(bytes(size))) == len(fields(structure))


@given(st.sampled_from(list(SIZES)).flatmap(values))
def test_what_is_encoded_is_decoded(structure: wire.Structure) -> None:
    assert type(structure).unpack(structure.pack()) == structure


@given(st.sampled_from(list(SIZES)), st.binary(max_size=300))
def test_octets_are_one_structure_or_refused(kind: type[wire.Structure], octets: bytes) -> None:
    if len(octets) == SIZES[kind]:
        again = kind.unpack(octets).pack()
        unused = slice(177, 180) if kind is wire.ReaderState else slice(0, 0)
        assert len(again) == len(octets)
        assert [x for n, x in enumerate(again) if n not in range(184)[unused]] == [
            x for n, x in enumerate(octets) if n not in range(184)[unused]
        ]
    else:
        with pytest.raises(FormatError, match=f"{SIZES[kind]} octets"):
            kind.unpack(octets)


def test_every_command_has_a_structure() -> None:
    assert set(wire.REQUESTS) == set(Command)
    for command, structure in wire.REQUESTS.items():
        assert wire.Header(structure.layout.size, command).asks() == (command, structure)


BAD_HEADERS = {
    "no command": (8, 0),
    "LIST_READERS, which no client sends": (8, 3),
    "beyond the last": (0, 0x15),
    "another size": (9, Command.STATUS),
    "no size": (0, Command.TRANSMIT),
    "a body where there is none": (184, Command.GET_READERS_STATE),
    "the largest size": (2**32 - 1, Command.CONNECT),
}


@pytest.mark.parametrize(("size", "command"), BAD_HEADERS.values(), ids=BAD_HEADERS)
def test_a_bad_header_is_refused(size: int, command: int) -> None:
    with pytest.raises(FormatError):
        wire.Header.unpack(struct.pack("=II", size, command)).asks()


def test_what_follows_a_request_has_a_bound() -> None:
    most = wire.Transmit(1, 2, 16, wire.LARGEST_APDU, 2, 16, 0, 0)
    assert wire.following(most) == 65_548
    assert wire.following(wire.Control(1, 2, 3, 4, 5, 0)) == 3
    assert wire.following(wire.OfCard(1, 0)) == 0
    with pytest.raises(FormatError, match="at most 65548 octets"):
        wire.following(wire.Transmit(1, 2, 16, wire.LARGEST_APDU + 1, 2, 16, 0, 0))


@pytest.mark.parametrize(
    ("octets", "name"),
    [(b"a reader\0\0rest", "a reader"), (b"\0", ""), (b"\xff", "�"), (b"x" * 128, "x" * 128)],
)
def test_a_reader_s_name_ends_at_the_first_zero(octets: bytes, name: str) -> None:
    request = wire.Connect(1, octets, 2, 2, 0, 0, 0)
    assert wire.Connect.unpack(request.pack()).name == name
