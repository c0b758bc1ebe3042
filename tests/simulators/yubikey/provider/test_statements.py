"""Custody statements: warnings of the firmware and the series, and what is not known."""

from __future__ import annotations

from dataclasses import replace

import pytest
from own_yubikey import Own

from mesh_hsm.custody import CustodyClass, Hardware, PinPolicy, TouchPolicy
from mesh_hsm.errors import UnsupportedError
from mesh_hsm.provider import KeySpec, Use
from mesh_hsm.testing.virtual_yubikey.piv.names import Ins
from mesh_hsm_yubikey.statements import NOT_SAID, UNKNOWN_IMPORTER


@pytest.mark.parametrize("use", [Use.SIGN, Use.ENCRYPT])
@pytest.mark.parametrize(
    ("firmware", "concerned"),
    [((5, 7, 1), False), ((5, 7, 0), False), ((5, 4, 3), True), ((4, 3, 5), True)],
    ids=str,
)
def test_eucleak_is_noted_below_firmware_5_7(new_yubikey, firmware, concerned, use) -> None:
    own = new_yubikey(firmware)
    own.set_up()
    notes = own.make(use=use, algorithm="P-384").custody().notes
    assert any("EUCLEAK" in note for note in notes) is concerned


def test_a_bio_has_it_until_5_7_2(new_yubikey) -> None:
    own = new_yubikey((5, 7, 1), form_factor=0x06)
    own.set_up()
    assert any("EUCLEAK" in note for note in own.make().custody().notes)


@pytest.mark.parametrize("firmware", [(4, 4, 2), (4, 4, 4)], ids=str)
def test_the_weak_random_numbers_of_two_fips_firmwares_are_noted(new_yubikey, firmware) -> None:
    own = new_yubikey(firmware)
    own.set_up()
    notes = own.make(PinPolicy.ONCE).custody().notes
    assert any("YSA-2019-02" in note for note in notes)


@pytest.mark.parametrize("made", ["by its form factor", "by its firmware"])
def test_a_yubikey_of_the_fips_series_refuses_before_anything_is_sent(new_yubikey, made) -> None:
    own = new_yubikey((4, 4, 5)) if made == "by its firmware" else new_yubikey(fips=True)
    own.set_up()
    person = own.person()
    with own.open(person) as token:
        with pytest.raises(UnsupportedError, match="FIPS series takes no keys without a PIN"):
            token.generate(KeySpec("P-256", Use.SIGN, "key"))
        with pytest.raises(UnsupportedError):
            token.generate(KeySpec("X25519", Use.ENCRYPT, "key", pin=PinPolicy.ONCE))
        assert not person.asked
        assert not own.sent(Ins.GENERATE)
        key = token.generate(KeySpec("P-256", Use.SIGN, "key", pin=PinPolicy.ONCE))
        assert key.custody().pin is PinPolicy.ONCE
        assert "FIPS" in token.info.model
        assert token.pins(Use.SIGN) == {PinPolicy.ONCE, PinPolicy.ALWAYS}


@pytest.mark.parametrize(("algorithm", "use"), [("Ed25519", Use.SIGN), ("X25519", Use.ENCRYPT)])
def test_what_the_firmware_lacks_is_refused_with_the_version_that_has_it(
    new_yubikey, algorithm, use
) -> None:
    own = new_yubikey((5, 4, 3))
    own.set_up()
    with own.open() as token, pytest.raises(UnsupportedError, match=r"5\.7\.0 or later"):
        token.generate(KeySpec(algorithm, use, "key"))
    assert not own.sent(Ins.GENERATE)


@pytest.mark.parametrize("firmware", [(5, 7, 1), (5, 3, 0)], ids=str)
def test_an_imported_key_says_who_else_has_known_it(new_yubikey, firmware) -> None:
    own = new_yubikey(firmware)
    own.set_up()
    own.trust()
    spec = KeySpec("P-256", Use.SIGN, "key", pin=PinPolicy.ONCE, touch=TouchPolicy.CACHED)
    with own.open() as token:
        said = token.import_scalar(spec, 12345, ("a dealer",)).custody()
        again = token.keys()[0].custody()
    assert said == again
    assert (said.custody, said.known_by) == (CustodyClass.IMPORTED, ("a dealer",))
    assert (said.pin, said.touch) == (PinPolicy.ONCE, TouchPolicy.CACHED)
    assert not [note for note in said.notes if "attest" in note or note == NOT_SAID]


def test_firmware_that_says_nothing_of_imported_keys_makes_them_unknown(new_yubikey) -> None:
    own = new_yubikey((4, 3, 5))
    own.set_up()
    spec = KeySpec("P-256", Use.SIGN, "key", pin=PinPolicy.ALWAYS)
    with own.open() as token:
        with pytest.raises(UnsupportedError, match="says nothing of imported keys") as caught:
            token.import_scalar(spec, 12345, ("a dealer",))
        assert "--allow-exportable" in (caught.value.hint or "")
        assert not own.sent(Ins.IMPORT)
        consent = KeySpec("P-256", Use.SIGN, "key", pin=PinPolicy.ALWAYS, allow_exportable=True)
        said = token.import_scalar(consent, 12345, ()).custody()
    assert (said.custody, said.pin) == (CustodyClass.UNKNOWN, PinPolicy.ALWAYS)
    assert said.known_by == (UNKNOWN_IMPORTER,)
    assert NOT_SAID in said.notes
    assert said.hardware is Hardware.SIMULATOR


def test_a_generated_key_was_known_by_nobody_whatever_its_entry_says(own: Own) -> None:
    key = own.make()
    key._entry = replace(key._entry, known_by=("somebody",))
    said = key.custody()
    assert (said.custody, said.known_by) == (CustodyClass.GENERATED, ())
