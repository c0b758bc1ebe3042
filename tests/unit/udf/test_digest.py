"""Typed digests and their compression level."""

from __future__ import annotations

import pytest

from mesh_hsm.errors import FormatError
from mesh_hsm.udf import ContentDigest


@pytest.mark.parametrize(
    ("zeros", "type_id"),
    [(0, 96), (19, 96), (20, 97), (29, 97), (30, 98), (40, 99), (49, 99), (50, 100), (511, 100)],
)
def test_trailing_zero_bits_choose_the_type(zeros: int, type_id: int) -> None:
    assert ContentDigest.of_sha2((1 << zeros).to_bytes(64, "big")).type_id == type_id


def test_all_zero_is_the_highest_level() -> None:
    assert ContentDigest.of_sha2(bytes(64)).type_id == 100


@pytest.mark.parametrize("size", [0, 63, 65])
def test_a_digest_has_64_octets(size: int) -> None:
    with pytest.raises(FormatError):
        ContentDigest.of_sha2(bytes(size))
