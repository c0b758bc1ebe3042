"""JSON, JSON-B and mixtures of both: one reading for each, and none for hostile input."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh_hsm.dare.jsonb import binary, loads, read_value
from mesh_hsm.dare.strict_json import MAX_DEPTH, b64url
from mesh_hsm.errors import FormatError

VECTORS = Path(__file__).parents[2] / "vectors" / "jsonbcd" / "examples.json"


def published() -> list[Any]:
    vectors = json.loads(VECTORS.read_text())
    found = [
        one
        for one in vectors
        if one["name"].startswith("jsonb-")
        and (one["verified"] or "computed" in one["name"])
        and "items_hex" not in one["expected"]
    ]
    assert found, "no JSON-B vectors"
    return [pytest.param(one, id=one["name"]) for one in found]


@pytest.mark.parametrize("vector", published())
def test_published_items_have_one_reading(vector: dict[str, Any]) -> None:
    inputs, expected = vector["inputs"], vector["expected"]
    octets = bytes.fromhex(inputs.get("hex") or expected["hex"])
    if "binary_hex" in inputs:
        assert loads(octets) == b64url(bytes.fromhex(inputs["binary_hex"]))
        return
    value = expected.get("json", expected.get("value", inputs.get("value")))
    read = loads(octets)
    # Integers beyond 2^53 are written as text in the vectors, since JSON readers round them.
    assert read == (int(value) if isinstance(read, int) and read is not True else value)


def test_items_follow_each_other_as_in_an_eds() -> None:
    (vector,) = (one for one in json.loads(VECTORS.read_text()) if "items_hex" in one["expected"])
    octets, at, items = bytes.fromhex(vector["inputs"]["hex"]), 0, []
    while at < len(octets):
        value, at = read_value(octets, at)
        items.append(binary(value).hex())
    assert items == vector["expected"]["items_hex"]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**200), max_value=2**200)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc"), inner, max_size=4),
    max_leaves=20,
)


@given(JSON, st.sampled_from([None, 2]), st.booleans())
def test_json_text_is_read_as_the_standard_library_reads_it(
    value: Any, indent: int | None, ascii_only: bool
) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode()
    assert loads(b" " + text + b"\n") == value
    assert read_value(b"xx" + text + b",", 2) == (value, len(text) + 2)


def head(code: int, size: int, power: int) -> bytes:
    return bytes([code + power]) + size.to_bytes(1 << power, "big")


def encoded(value: Any, draw: st.DataObject) -> bytes:
    """JSON-B, or JSON text, as drawn for each item; separators may stand or not beside codes."""
    power = draw.draw(st.integers(0, 3))
    comma = draw.draw(st.sampled_from([b"", b",", b" , "]))
    if isinstance(value, dict):
        members = [
            (head(0xB4, len(name), 0) if draw.draw(st.booleans()) else head(0x80, len(name), 0))
            + name.encode()
            + draw.draw(st.sampled_from([b"", b":", b" : "]))
            + encoded(member, draw)
            for name, member in value.items()
        ]
        return b"{" + comma.join(members) + b"}"
    if isinstance(value, list):
        return b"[" + b",".join(encoded(item, draw) for item in value) + b"]"
    if isinstance(value, bool) or value is None:
        return bytes([{True: 0xB0, False: 0xB1, None: 0xB2}[value]])
    if isinstance(value, int):
        magnitude = abs(value)
        octets = magnitude.to_bytes((magnitude.bit_length() + 7) // 8, "big")
        return bytes([0xA7 if value >= 0 else 0xAF]) + len(octets).to_bytes(2, "big") + octets
    if isinstance(value, float):
        return json.dumps(value).encode() + b" "
    octets = value.encode()
    cut = draw.draw(st.integers(0, len(octets)))
    if draw.draw(st.booleans()):
        return head(0x80, len(octets), power) + octets
    chunk = head(0x84, cut, power) + octets[:cut]
    return chunk + head(0x80, len(octets) - cut, power) + octets[cut:]


@given(JSON, st.data())
def test_any_mixture_of_codes_and_text_gives_the_same_value(
    value: Any, draw: st.DataObject
) -> None:
    assert loads(encoded(value, draw)) == value


@given(st.binary(max_size=300), st.integers(0, 3))
def test_binary_comes_back_as_base64url(octets: bytes, power: int) -> None:
    if power == 0:
        octets = octets[:255]
    text = loads(head(0x88, len(octets), power) + octets)
    assert text == b64url(octets)
    assert binary(text) == octets


@given(st.binary(max_size=64))
def test_random_octets_are_read_or_refused(octets: bytes) -> None:
    try:
        value, end = read_value(octets, 0)
    except FormatError:
        return
    assert 0 < end <= len(octets)
    json.dumps(value)


@given(JSON, st.data())
def test_no_prefix_of_a_container_is_a_value(value: Any, draw: st.DataObject) -> None:
    octets = encoded([value], draw)
    for end in range(len(octets)):
        with pytest.raises(FormatError):
            loads(octets[:end])


@pytest.mark.parametrize(
    ("octets", "value"),
    [
        pytest.param(b'"a\n b"', "a\n b", id="a line break inside a string"),
        pytest.param(b'"\\ud83d\\ude00"', "\U0001f600", id="a surrogate pair"),
        pytest.param(b'"\\"\\\\"', '"\\', id="escaped quote and backslash"),
        pytest.param(b"[1\xb0 2]", [1, True, 2], id="separators missing beside codes"),
        pytest.param(b"{}", {}, id="empty object"),
        pytest.param(b"\xa4" + bytes(15) + b"\x07", 7, id="128 bits"),
        pytest.param(b"\xa8\x01", -1, id="negative magnitude"),
        pytest.param(b"\x90\x3c\x00", 1.0, id="binary16"),
        pytest.param(b"\x91\x3f\x80\x00\x00", 1.0, id="binary32"),
        pytest.param(b"-0.5e1", -5.0, id="a real number"),
    ],
)
def test_forms_that_are_read(octets: bytes, value: Any) -> None:
    assert loads(octets) == value


def test_a_real_that_is_no_number() -> None:
    read = loads(b"\x92\x7f\xf8" + bytes(6))
    assert isinstance(read, float)
    assert math.isnan(read)


HOSTILE = {
    "nothing": b"",
    "white space": b" \n",
    "a member twice": b'{"a":1,"a":2}',
    "a member twice, by code and by text": b'{"a":1,\xb4\x01a2}',
    "a member twice, by escape": b'{"a":1,"\\u0061":2}',
    "no separator": b'{"a":1 "b":2}',
    "no separator in an array": b"[1 2]",
    "no colon": b'{"a" 1}',
    "a separator too many": b'{"a":1,}',
    "a separator too many in an array": b"[1,]",
    "a leading separator": b"[,1]",
    "a name that is a number": b"{1:1}",
    "a name in chunks": b"{\x84\x01a\x80\x01b1}",
    "unquoted text": b"truth",
    "text after it": b"true false",
    "a leading zero": b"01",
    "a lone sign": b"-",
    "NaN": b"NaN",
    "a number of 65 digits": b"1" * 65,
    "a bad escape": b'"\\x"',
    "a lone surrogate": b'"\\ud800"',
    "not UTF-8": b'"\xff"',
    "not UTF-8, coded": b"\x80\x01\xff",
    "a name that is not UTF-8": b"{\xb4\x01\xff1}",
    "a string without end": b'"abc',
    "an escape at the end": b'"abc\\',
    "a length beyond the object": b"\x8b" + b"\xff" * 8 + b"abc",
    "a length cut short": b"\x89\x01",
    "a chunk without final item": b"\x8c\x01a",
    "chunks of two kinds": b"\x8c\x01a\x80\x01b",
    "a final item of another kind": b"\x84\x01a\x88\x01b",
    "a bignum cut short": b"\xa7\x00\x05\x01",
    "an integer of 256 bits": b"\xa5" + bytes(32),
    "a decimal": b"\x96" + bytes(4),
    "Intel's 80 bits": b"\x95" + bytes(10),
    "a JSON-C code": b"\xc0\x20",
    "a frame": b"\xf4\x00",
    "a name where a value is due": b"\xb4\x01a",
    "an unknown code": b"\xff",
    "nesting": b"[" * (MAX_DEPTH + 2) + b"]" * (MAX_DEPTH + 2),
    "nesting of objects": b'{"a":' * (MAX_DEPTH + 2) + b"1" + b"}" * (MAX_DEPTH + 2),
    "brackets that do not match": b"[}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_input_is_refused(name: str) -> None:
    with pytest.raises(FormatError):
        loads(HOSTILE[name])


def test_nesting_up_to_the_bound_is_read() -> None:
    assert loads(b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1))


@pytest.mark.parametrize("text", ["AQ ID\n", "\tA Q\r\nI D", "AQID"])
def test_white_space_in_base64url_is_ignored(text: str) -> None:
    assert binary(text) == b"\x01\x02\x03"


@pytest.mark.parametrize(
    "value", ["AQI=", "A", "AR", "+/8A", "A!", "\u0130", "AQ\x00I", None, 7, b"AQID", ["AQID"]]
)
def test_anything_else_is_not_base64url(value: Any) -> None:
    with pytest.raises(FormatError):
        binary(value)
