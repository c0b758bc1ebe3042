"""The layout of a sealed blob."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh_hsm.errors import DeviceError, FormatError
from mesh_hsm.framing import F
from mesh_hsm_software.sealing import Box, seal

KEY = bytes(range(32))
MAGIC = b"mesh-hsm/1 soft seal"


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), st.binary(max_size=128))
def test_seal_and_open_are_inverse(label: str, secret: bytes) -> None:
    blob = seal(KEY, label, secret)
    box = Box.parse(blob)
    assert box.open(KEY) == secret
    assert F(MAGIC, box.label, box.nonce, box.ciphertext) == blob


def _relabelled() -> bytes:
    box = Box.parse(seal(KEY, "seed", b"x"))
    return F(MAGIC, b"other", box.nonce, box.ciphertext)


HOSTILE: dict[str, tuple[bytes, type[Exception]]] = {
    "empty": (b"", FormatError),
    "one octet": (b"\0", FormatError),
    "another magic": (F("mesh-hsm/2 soft seal", "a", bytes(12), bytes(16)), FormatError),
    "a field less": (F(MAGIC, b"a", bytes(12)), FormatError),
    "a field more": (F(MAGIC, b"a", bytes(12), bytes(16), b""), FormatError),
    "nonce too long": (F(MAGIC, b"a", bytes(13), bytes(16)), FormatError),
    "trailing octet": (seal(KEY, "a", b"x") + b"\0", FormatError),
    "cut": (seal(KEY, "a", b"x")[:-1], FormatError),
    "no tag": (F(MAGIC, b"a", bytes(12), b""), DeviceError),
    "another label": (_relabelled(), DeviceError),
    "another key": (seal(bytes(32), "a", b"x"), DeviceError),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_blobs_are_refused(name: str) -> None:
    blob, error = HOSTILE[name]
    with pytest.raises(error):
        Box.parse(blob).open(KEY)


@given(st.binary(max_size=80))
def test_any_octets_are_read_or_refused(blob: bytes) -> None:
    with pytest.raises(FormatError):
        Box.parse(blob)
