"""What the card says against what it proves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mesh_hsm.curves import P256, P384, X25519, Point
from mesh_hsm.custody import CustodyClass, Hardware, PinPolicy, TouchPolicy
from mesh_hsm.errors import VerificationError
from mesh_hsm.provider import Use
from mesh_hsm_yubikey.attestation import Attestation
from mesh_hsm_yubikey.judging import Metadata, judged, same_key

PUBLIC = P384.base.multiply(77)
PROVED = Attestation(
    slot="9d",
    public=PUBLIC,
    firmware=(5, 7, 1),
    serial=20128335,
    pin_policy=PinPolicy.ONCE,
    touch_policy=TouchPolicy.CACHED,
    form_factor=3,
    fips=False,
    cspn=False,
    root="Yubico Attestation Root 1",
    hardware=Hardware.ATTESTED,
)
TOLD = Metadata("9d", PUBLIC, True, PinPolicy.ONCE, TouchPolicy.CACHED, (5, 7, 1), serial=20128335)


def test_agreement_makes_a_statement() -> None:
    found = judged(TOLD, PROVED, Use.ENCRYPT, "YubiKey 20128335")
    assert found.to_json() == {
        "custody": CustodyClass.GENERATED,
        "hardware": Hardware.ATTESTED,
        "device": "YubiKey 20128335",
        "firmware": "5.7.1",
        "pin": PinPolicy.ONCE,
        "touch": TouchPolicy.CACHED,
        "known_by": (),
        "notes": ("attested under Yubico Attestation Root 1",),
    }


@pytest.mark.parametrize(
    ("hardware", "words"),
    [(Hardware.SIMULATOR, "by a simulator"), (Hardware.CLAIMED, "is not Yubico's")],
)
def test_whose_word_it_is_stands_in_the_statement(hardware: Hardware, words: str) -> None:
    found = judged(TOLD, replace(PROVED, hardware=hardware), Use.ENCRYPT, "a key")
    assert found.hardware is hardware
    assert any(words in note for note in found.notes)


def test_known_weaknesses_stand_in_the_statement() -> None:
    told, proved = (replace(one, firmware=(5, 4, 3)) for one in (TOLD, PROVED))
    assert any("EUCLEAK" in note for note in judged(told, proved, Use.SIGN, "a key").notes)


@pytest.mark.parametrize(("told", "proved"), [(None, 1), (1, None), (None, None)])
def test_a_hidden_serial_number_contradicts_nothing(told: int | None, proved: int | None) -> None:
    attested = replace(PROVED, serial=proved)
    found = judged(replace(TOLD, serial=told), attested, Use.ENCRYPT, "a key")
    assert any("does not tell" in note for note in found.notes) == (proved is None)


DIFFERENT: dict[str, Any] = {
    "slot": {"slot": "9c"},
    "algorithm": {"public": P256.base},
    "public key": {"public": PUBLIC + PUBLIC},
    "origin": {"generated": False},
    "PIN policy": {"pin": PinPolicy.NONE},
    "touch policy": {"touch": TouchPolicy.NONE},
    "firmware": {"firmware": (5, 7, 2)},
    "serial number": {"serial": 1},
}


@pytest.mark.parametrize("field", DIFFERENT)
def test_the_field_that_differs_is_named(field: str) -> None:
    with pytest.raises(VerificationError, match=f"disagree on the {field}$"):
        judged(replace(TOLD, **DIFFERENT[field]), PROVED, Use.ENCRYPT, "a key")


def test_keys_known_by_u_alone_are_the_same_with_either_sign() -> None:
    key = X25519.base.multiply(77)
    assert same_key(key, -key)
    assert not same_key(key, key + key)
    assert not same_key(PUBLIC, -PUBLIC)
    assert same_key(PUBLIC, PUBLIC)
    assert not same_key(Point(X25519, None), Point(X25519, None))
