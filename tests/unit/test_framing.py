"""Fields, joined and taken apart again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh_hsm.errors import FormatError
from mesh_hsm.framing import F, fields


@given(st.lists(st.binary(max_size=300)))
def test_what_was_joined_comes_apart(joined: list[bytes]) -> None:
    assert fields(F(*joined)) == joined


@given(st.binary(max_size=40))
def test_octets_are_refused_or_have_one_reading(octets: bytes) -> None:
    try:
        found = fields(octets)
    except FormatError:
        return
    assert F(*found) == octets


@pytest.mark.parametrize("octets", [b"\0", b"\0\1", b"\0\2a", b"\0\1a\0", b"\xff\xff"])
def test_truncated_fields(octets: bytes) -> None:
    with pytest.raises(FormatError, match="truncated"):
        fields(octets)


def test_text_is_ascii_and_short() -> None:
    assert F("a", b"bc") == b"\0\1a\0\2bc"
    with pytest.raises(OverflowError):
        F(bytes(65_536))
