"""JSON and base64url that could be read in two ways is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh_hsm.dare.strict_json import (
    b64url,
    compact,
    parse,
    parse_object,
    require_members,
    un_b64url,
)
from mesh_hsm.errors import FormatError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(VALUES)
def test_values_come_back(value: object) -> None:
    assert parse(compact(value)) == value


HOSTILE_JSON = {
    "empty": b"",
    "truncated": b'{"a":1',
    "two-values": b"{} {}",
    "member-twice": b'{"a":1,"a":1}',
    "inner-member-twice": b'{"x":[{"a":1,"\\u0061":2}]}',
    "nan": b'{"a":NaN}',
    "infinity": b'{"a":-Infinity}',
    "number-that-becomes-infinite": b'{"a":-1e999}',
    "not-utf-8": b'{"a":"\xff"}',
    "lone-surrogate": b'{"a":"\\ud800"}',
    "lone-surrogate-in-a-name": b'{"\\udfff":1}',
    "too-deep": b"[" * 34 + b"]" * 34,
    "far-too-deep": b"[" * 100_000 + b"]" * 100_000,
    "oversized": b'"' + b"a" * (1 << 20) + b'"',
    "huge-number": b"1" * 5000,
}


@pytest.mark.parametrize("octets", HOSTILE_JSON.values(), ids=HOSTILE_JSON)
def test_hostile_json_is_refused(octets: bytes) -> None:
    with pytest.raises(FormatError):
        parse(octets)


def test_surrogate_pairs_are_one_character() -> None:
    assert parse(b'"\\ud83d\\ude00"') == "\N{GRINNING FACE}"


def test_the_deepest_allowed_nesting_is_read() -> None:
    assert parse(b"[" * 33 + b"]" * 33)


def test_an_object_is_an_object() -> None:
    with pytest.raises(FormatError):
        parse_object(b"[]")


@given(st.binary())
def test_octets_come_back(octets: bytes) -> None:
    assert un_b64url(b64url(octets), "x", len(octets)) == octets


HOSTILE_BASE64 = {
    "padding": "QQ==",
    "stray-bits": "QR",
    "one-character": "Q",
    "standard-alphabet": "+/+/",
    "white-space": "QUJD\n",
    "not-ascii": "QUJÖ",
    "not-text": 7,
    "null": None,
}


@pytest.mark.parametrize("text", HOSTILE_BASE64.values(), ids=HOSTILE_BASE64)
def test_hostile_base64url_is_refused(text: object) -> None:
    with pytest.raises(FormatError):
        un_b64url(text, "x")


def test_sizes_are_exact() -> None:
    with pytest.raises(FormatError):
        un_b64url(b64url(bytes(31)), "x", 32)


@pytest.mark.parametrize("value", [[], {}, {"a": 1}, {"a": 1, "b": 2, "d": 3}, {"b": 1, "c": 1}])
def test_members_are_exact(value: object) -> None:
    with pytest.raises(FormatError):
        require_members(value, "x", frozenset({"a", "b"}), frozenset({"c"}))


@pytest.mark.parametrize("value", [{"a": 1, "b": 2}, {"a": 1, "b": 2, "c": 3}])
def test_optional_members_are_optional(value: object) -> None:
    assert require_members(value, "x", frozenset({"a", "b"}), frozenset({"c"})) == value
