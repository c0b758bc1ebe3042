from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh_hsm.errors import FormatError
from mesh_hsm.testing.virtual_yubikey.apdu import Command

octet = st.integers(0, 0xFF)


@st.composite
def commands(draw: st.DrawFn) -> Command:
    extended = draw(st.booleans())
    most = 65_536 if extended else 256
    data = draw(st.binary(max_size=600 if extended else 255))
    le = draw(st.none() | st.integers(1, most))
    # Four octets are neither short nor extended.
    return Command(*(draw(octet) for _ in range(4)), data, le, extended and bool(data or le))


@given(commands())
def test_decode_undoes_encode(command: Command) -> None:
    assert Command.decode(command.encode()) == command


@given(st.binary(max_size=40))
def test_encode_undoes_decode(octets: bytes) -> None:
    try:
        command = Command.decode(octets)
    except FormatError:
        return
    assert command.encode() == octets


FORMS = {
    "00FD0000": (b"", None, False, 256),
    "00FD000000": (b"", 256, False, 256),
    "00FD000005": (b"", 5, False, 5),
    "00A4040002AABB": (b"\xaa\xbb", None, False, 256),
    "00A4040002AABB00": (b"\xaa\xbb", 256, False, 256),
    "00CB3FFF000002AABB": (b"\xaa\xbb", None, True, 65_536),
    "00CB3FFF000002AABB0000": (b"\xaa\xbb", 65_536, True, 65_536),
    "00CB3FFF000002AABB0003": (b"\xaa\xbb", 3, True, 3),
    "00CB3FFF000003": (b"", 3, True, 3),
}


@pytest.mark.parametrize(("octets", "expected"), FORMS.items())
def test_the_forms(octets: str, expected: tuple[object, ...]) -> None:
    found = Command.decode(bytes.fromhex(octets))
    assert (found.data, found.le, found.extended, found.answer_limit) == expected


BAD = {
    "nothing": "",
    "three octets": "00FD00",
    "short data cut off": "00A4040003AABB",
    "short data and two more": "00A4040001AABBCC",
    "an extended length cut off": "00A404000000",
    "extended data cut off": "00A40400000003AABB",
    "extended data and one more": "00A40400000001AABB",
    "extended data and three more": "00A40400000001AA000000",
    "an extended length of zero, and more": "00A404000000000001",
}


@pytest.mark.parametrize("octets", BAD.values(), ids=BAD)
def test_bad_octets(octets: str) -> None:
    with pytest.raises(FormatError):
        Command.decode(bytes.fromhex(octets))


@pytest.mark.parametrize(
    "command",
    [
        Command(0, 1, 2, 3, bytes(256)),
        Command(0, 1, 2, 3, le=257),
        Command(0, 1, 2, 3, bytes(65_536), extended=True),
        Command(0, 1, 2, 3, le=65_537, extended=True),
    ],
)
def test_what_a_form_cannot_say(command: Command) -> None:
    with pytest.raises(FormatError):
        command.encode()


def test_the_data_is_not_shown() -> None:
    assert "123456" not in repr(Command(0, 0x20, 0, 0x80, b"123456\xff\xff"))
