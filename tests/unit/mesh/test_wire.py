"""Members on the wire: what is written is read, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mesh_hsm.errors import FormatError
from mesh_hsm.mesh.wire import Members, decode, encode, to_time

names = st.text("abcXYZ", min_size=1, max_size=12)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text('aé€𝄞 "\\\n/', max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # nothing here is timed
@given(names, st.dictionaries(names, values, max_size=5))
def test_decode_undoes_encode(tag: str, members: dict[str, Any]) -> None:
    assert decode(encode(tag, members), tag).values == members


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 30), timezones=st.just(UTC)))
def test_times_are_kept_to_the_second(moment: datetime) -> None:
    read = Members({"Created": to_time(moment)}, "X").time("Created")
    assert read == moment.replace(microsecond=0)


def test_times_are_written_in_utc() -> None:
    east = timezone(timedelta(hours=2))
    assert to_time(datetime(2026, 1, 1, 1, tzinfo=east)) == "2025-12-31T23:00:00Z"


def test_a_time_without_zone_is_refused() -> None:
    with pytest.raises(FormatError, match="zone"):
        to_time(datetime(2026, 1, 1))


PAYLOADS = {
    "empty": b"",
    "truncated": b'{"X":{"A":1}',
    "not an object": b"[1]",
    "no tag": b"{}",
    "two tags": b'{"X":{},"Y":{}}',
    "another tag": b'{"Y":{}}',
    "members are no object": b'{"X":[]}',
    "a member twice": b'{"X":{"A":1,"A":2}}',
    "the tag twice": b'{"X":{},"X":{}}',
    "not UTF-8": b'{"X":{"A":"\xff"}}',
    "NaN": b'{"X":{"A":NaN}}',
    "too deep": b'{"X":' + b"[" * 100 + b"]" * 100 + b"}",
    "too long": b'{"X":{"A":"' + b"a" * (1 << 20) + b'"}}',
}


@pytest.mark.parametrize("name", PAYLOADS)
def test_bad_payloads(name: str) -> None:
    with pytest.raises(FormatError):
        decode(PAYLOADS[name], "X")


MEMBERS: dict[str, tuple[str, Any]] = {
    "text: number": ("text", 1),
    "text: empty": ("text", ""),
    "octets: number": ("octets", 1),
    "octets: padded": ("octets", "AAA="),
    "octets: stray bits": ("octets", "AAB"),
    "octets: other alphabet": ("octets", "A+A/"),
    "octets: line break": ("octets", "AAAA\nAAAA"),
    "number: text": ("number", "1"),
    "number: true": ("number", True),
    "number: real": ("number", 1.0),
    "number: negative": ("number", -1),
    "number: beyond doubles": ("number", 1 << 53),
    "time: number": ("time", 20260101),
    "time: zone": ("time", "2026-01-01T00:00:00+00:00"),
    "time: fraction": ("time", "2026-01-01T00:00:00.5Z"),
    "time: one digit": ("time", "2026-1-01T00:00:00Z"),
    "time: no such day": ("time", "2026-02-30T00:00:00Z"),
    "array: object": ("array", {}),
    "inner: array": ("inner", []),
}


@pytest.mark.parametrize("name", MEMBERS)
def test_bad_members(name: str) -> None:
    kind, value = MEMBERS[name]
    with pytest.raises(FormatError, match=r"X\.A"):
        getattr(Members({"A": value}, "X"), kind)("A")


@pytest.mark.parametrize("kind", ["text", "octets", "number", "time", "array", "inner", "any"])
def test_missing_members(kind: str) -> None:
    with pytest.raises(FormatError, match="X lacks A"):
        getattr(Members({}, "X"), kind)("A")


def test_bounds() -> None:
    members = Members({"A": "AAA", "N": 0, "T": ""}, "X")
    assert members.octets("A", 2) == bytes(2)
    with pytest.raises(FormatError):
        members.octets("A", 3)
    assert members.number("N") == 0
    with pytest.raises(FormatError):
        members.number("N", least=1)
    assert members.text("T", empty=True) == ""
