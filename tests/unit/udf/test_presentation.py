"""UDF text in and out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh_hsm.errors import FormatError
from mesh_hsm.udf import TypeId, is_canonical, matches, parse, present

KEY = "MD2N-37QO-NPB6-HEOJ-UYOK-6BWT-RZ2Z"


@given(st.sampled_from([TypeId.NONCE, TypeId.SEED, TypeId.OID]), st.binary(min_size=1))
def test_fixed_length_types_come_back_whole(type_id: TypeId, octets: bytes) -> None:
    udf = parse(present(type_id, octets))
    assert (udf.type_id, udf.octets) == (type_id, octets)


@given(st.binary(min_size=64, max_size=64), st.integers(1, 22))
def test_a_shorter_digest_is_a_prefix_of_a_longer_one(octets: bytes, twenties: int) -> None:
    longest = present(TypeId.DIGEST_SHA2, octets, 440)
    short = present(TypeId.DIGEST_SHA2, octets, 20 * twenties)
    assert longest.startswith(short)
    assert matches(longest, short)
    assert parse(short).bits == 20 * twenties


def test_any_grouping_and_either_case_is_read() -> None:
    assert parse("md2n37qo-NPB6HEOJ-uyok6bwt-RZ2Z") == parse(KEY)
    assert parse(f" {KEY}\n").text == KEY


@pytest.mark.parametrize("prefix", ["MD2N", "md2n-3", "MD2N37Q", KEY])
def test_prefixes_match_by_character(prefix: str) -> None:
    assert matches(KEY, prefix)


@pytest.mark.parametrize("prefix", ["", "D2N", "MD2N-4", KEY + "A"])
def test_what_is_no_prefix_does_not_match(prefix: str) -> None:
    assert not matches(KEY, prefix)


HOSTILE = {
    "empty": "",
    "dashes-only": "----",
    "one-character": "M",
    "zero": "MD2N-0000",
    "one": "MD2N-1",
    "padding": "MD2N-37Q=",
    "not-ascii": "MD2N-37QÖ",
    "dotless-i-folds-to-I": "MD2N-37Q\N{LATIN SMALL LETTER DOTLESS I}",
    "inner-space": "MD2N 37QO",
    "oversized": "M" * 5000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        parse(text)


@pytest.mark.parametrize("precision", [0, -20, 10, 130, 141, 460])
def test_precisions_are_multiples_of_twenty_up_to_440(precision: int) -> None:
    with pytest.raises(FormatError):
        present(TypeId.DIGEST_SHA2, bytes(64), precision)


def test_precision_beyond_the_data_is_refused() -> None:
    with pytest.raises(FormatError):
        present(TypeId.AUTHENTICATOR_SHA2, bytes(8), 140)


@pytest.mark.parametrize("precision", [20, 140, 440])
def test_what_is_presented_is_canonical(precision: int) -> None:
    assert is_canonical(present(TypeId.DIGEST_SHA2, bytes(range(64)), precision))


@pytest.mark.parametrize("text", ["", "MAA", "MAAAA", "maaa", "MAA1", "MAAA-", "MAAA\n", " MAAA"])
def test_other_spellings_are_not_canonical(text: str) -> None:
    assert not is_canonical(text)
