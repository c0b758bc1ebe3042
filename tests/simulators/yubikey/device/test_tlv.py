from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh_hsm.errors import FormatError
from mesh_hsm.testing.virtual_yubikey import tlv

# What ISO 7816-4 §5.2.2 allows: one octet, or a first one of xxx11111 and up to two more.
tags = st.one_of(
    st.integers(0, 0xFF).filter(lambda tag: tag & 0x1F != 0x1F),
    st.builds(
        lambda a, b: (a | 0x1F) << 8 | b,
        st.integers(0, 7).map(lambda n: n << 5),
        st.integers(0, 0x7F),
    ),
    st.builds(
        lambda a, b, c: (a | 0x1F) << 16 | (b | 0x80) << 8 | c,
        st.integers(1, 7).map(lambda n: n << 5),
        st.integers(0, 0x7F),
        st.integers(0, 0x7F),
    ),
)
sequences = st.lists(st.tuples(tags, st.binary(max_size=300)), max_size=5)


@given(sequences)
def test_decode_undoes_encode(pairs: list[tuple[int, bytes]]) -> None:
    octets = b"".join(tlv.encode(tag, value) for tag, value in pairs)
    assert tlv.decode(octets) == pairs


@given(st.binary(max_size=40))
def test_decode_accepts_or_raises_nothing_but_its_error(octets: bytes) -> None:
    try:
        pairs = tlv.decode(octets)
    except FormatError:
        return
    again = b"".join(tlv.encode(tag, value) for tag, value in pairs)
    assert len(again) <= len(octets)  # equal, unless a length was longer than needed
    assert tlv.decode(again) == pairs


@pytest.mark.parametrize(
    ("size", "start"),
    [
        (0, "5300"),
        (127, "537F"),
        (128, "538180"),
        (255, "5381FF"),
        (256, "53820100"),
        (65536, "5383010000"),
    ],
)
def test_lengths_are_the_shortest(size: int, start: str) -> None:
    octets = tlv.encode(0x53, bytes(size))
    assert octets.startswith(bytes.fromhex(start))
    assert tlv.unwrap(0x53, octets) == bytes(size)


BAD = {
    "a tag alone": "53",
    "a long tag cut off": "7F",
    "a long tag without its length": "7F49",
    "a tag of four octets": "5F8181 01 00",
    "a value cut off": "530201",
    "a length cut off": "5382 01",
    "an indefinite length": "5380 0000",
    "a length of four octets": "5384 00000001 00",
    "a rest": "5300 53",
}


@pytest.mark.parametrize("octets", BAD.values(), ids=BAD)
def test_bad_octets(octets: str) -> None:
    with pytest.raises(FormatError):
        tlv.decode(bytes.fromhex(octets))


def test_a_repeated_tag() -> None:
    assert tlv.fields(bytes.fromhex("80008100")) == {0x80: b"", 0x81: b""}
    with pytest.raises(FormatError, match="twice"):
        tlv.fields(bytes.fromhex("80008000"))


@pytest.mark.parametrize("octets", ["", "5400", "53005300"])
def test_unwrap_wants_one_tlv(octets: str) -> None:
    with pytest.raises(FormatError, match="one TLV of tag 53"):
        tlv.unwrap(0x53, bytes.fromhex(octets))


@pytest.mark.parametrize("tag", [0x1F, 0x5F8181, 0x8081, 0x5C5C])
def test_no_tag(tag: int) -> None:
    with pytest.raises(FormatError):
        tlv.encode(tag)


def test_the_longest_value() -> None:
    with pytest.raises(FormatError, match="longer"):
        tlv.encode(0x53, bytes(1 << 24))
