"""Which slot a key comes into, what is in the way, and what becomes of a key that goes."""
# ruff: noqa: SIM118  Token.keys is no dictionary's

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from slots_bench import FIRMWARES, SECRETS, SlotsBench, named, some_certificate, spec, works
from yubikit.piv import KEY_TYPE, SLOT

from mesh_hsm.curves import P256
from mesh_hsm.custody import CustodyClass, PinPolicy, TouchPolicy
from mesh_hsm.errors import (
    ConflictError,
    DeviceError,
    FormatError,
    InvalidPointError,
    NotFoundError,
    UnsupportedError,
)
from mesh_hsm.provider import Use
from mesh_hsm.testing.virtual_yubikey.piv.names import Ins
from mesh_hsm_yubikey import directory
from mesh_hsm_yubikey.directory import Directory
from mesh_hsm_yubikey.slots import OURS

PREFERRED = {Use.SIGN: "9c", Use.AUTHENTICATE: "9a", Use.ENCRYPT: "9d"}
every_firmware = pytest.mark.parametrize("firmware", FIRMWARES, ids=named)


def slot_of(key) -> str:
    return key.uri.get("slot")


def asked_for_nothing(bench: SlotsBench) -> bool:
    """Whether nothing was sent that could have changed anything."""
    return not {Ins.PUT_DATA, Ins.GENERATE, Ins.IMPORT, Ins.MOVE} & set(bench.instructions())


# -- where a key comes -----------------------------------------------------------------------------


@every_firmware
def test_each_use_has_a_slot_and_then_the_retired_ones(new_bench, firmware) -> None:
    with new_bench(firmware).open() as token:
        for use, slot in PREFERRED.items():
            assert slot_of(token.generate(spec(use.value, use=use))) == slot
        assert slot_of(token.generate(spec("more"))) == "82"
        assert slot_of(token.generate(spec("explicit", slot="9e"))) == "9e"
        assert slot_of(token.generate(spec("last", slot="95"))) == "95"
        for key in token.keys():
            works(key)


@every_firmware
@pytest.mark.parametrize("text", ["9c", "82"])
def test_a_slot_that_is_taken_by_ours(new_bench, firmware, text: str) -> None:
    bench = new_bench(firmware)
    with bench.open() as token:
        token.generate(spec("there", slot=text))
        before = bench.privates
        bench.device.trace.clear()
        with pytest.raises(ConflictError, match=f"slot {text} .* taken") as caught:
            token.generate(spec("new", slot=text))
        assert "key list" in (caught.value.hint or "")
        assert asked_for_nothing(bench)
        assert bench.privates == before


@every_firmware
@pytest.mark.parametrize("what", ["key", "imported", "certificate"])
def test_a_slot_that_is_taken_by_others(new_bench, firmware, what: str) -> None:
    """Also by a certificate alone. Below 5.3 nobody can see a key that was imported."""
    if what == "imported" and firmware < (5, 3, 0):
        pytest.skip("this firmware tells nobody of it")
    bench = new_bench(firmware)

    def theirs(piv) -> None:
        for slot in (SLOT.SIGNATURE, SLOT.RETIRED1):
            if what == "key":
                piv.generate_key(slot, KEY_TYPE.RSA2048 if slot < 0x90 else KEY_TYPE.ECCP256)
            elif what == "imported":
                piv.put_key(slot, generate_private_key(SECP256R1()))
            else:
                piv.put_certificate(slot, some_certificate())

    bench.foreign(theirs)
    before = bench.privates
    with bench.open() as token:
        assert token.keys() == []
        for slot in ("9c", "82"):
            with pytest.raises(ConflictError):
                token.generate(spec("new", slot=slot))
            with pytest.raises(NotFoundError) as caught:
                token.delete(token.info.uri.with_attribute("slot", slot))
            # Our own list shows no key of others.
            assert ("ykman" in (caught.value.hint or "")) == (what != "certificate")
        assert slot_of(token.generate(spec("new"))) == "83"
        assert {slot: bench.privates[slot] for slot in before} == before


@every_firmware
def test_all_slots_full(new_bench, firmware) -> None:
    bench = new_bench(firmware)
    with bench.open() as token:
        for number, slot in enumerate(OURS):
            token.generate(spec(f"key {number}", slot=f"{slot:02x}"))
        bench.device.trace.clear()
        with pytest.raises(DeviceError, match="no free slot") as caught:
            token.generate(spec("one more"))
        assert "delete" in (caught.value.hint or "")
        assert asked_for_nothing(bench)
        assert len(token.keys()) == len(OURS) == 24
        token.delete(token.keys()[0].uri)
        token.generate(spec("one more", slot=f"{OURS[0]:02x}"))


def test_a_directory_without_room(bench: SlotsBench) -> None:
    """Said before anything is done: long labels in four octets each."""

    def label(number: int) -> str:
        return f"{number:02}" + "\N{OLD PERSIAN SIGN A}" * 62

    with bench.open() as token:
        for number in range(9):
            token.generate(spec(label(number)))
        bench.device.trace.clear()
        with pytest.raises(UnsupportedError, match="full") as caught:
            token.generate(spec(label(9)))
        assert asked_for_nothing(bench)
    assert len(bench.directory.entries) == 9 == len(bench.privates)
    assert "shorter" in (caught.value.hint or "")


@every_firmware
def test_a_note_without_room_for_who_knows_the_key(new_bench, firmware) -> None:
    bench = new_bench(firmware)
    with bench.open() as token:
        bench.device.trace.clear()
        with pytest.raises(UnsupportedError, match="full"):
            token.import_scalar(
                spec("share", use=Use.ENCRYPT, allow_exportable=True), 7, ("x" * 3000,)
            )
        assert asked_for_nothing(bench)
        assert bench.privates == {}


@every_firmware
def test_a_label_that_is_in_use(new_bench, firmware) -> None:
    bench = new_bench(firmware)
    with bench.open() as token:
        token.generate(spec("one"))
        bench.device.trace.clear()
        with pytest.raises(ConflictError, match="one") as caught:
            token.generate(spec("one", use=Use.ENCRYPT))
        assert caught.value.hint
        with pytest.raises(ConflictError):
            token.import_scalar(spec("one", use=Use.ENCRYPT, allow_exportable=True), 7, ("me",))
        assert asked_for_nothing(bench)


@pytest.mark.parametrize("text", ["9b", "f9", "81", "96", "9", "009c", "zz", "", "-1", "+9", "9c "])
def test_what_is_no_slot(bench: SlotsBench, text: str) -> None:
    with bench.open() as token:
        key = token.generate(spec())
        bench.device.trace.clear()
        with pytest.raises(FormatError, match="no PIV slot") as caught:
            token.generate(spec("new", slot=text))
        assert "9a" in (caught.value.hint or "")
        with pytest.raises(FormatError):
            token.move(key.uri, text)
        assert asked_for_nothing(bench)


def test_a_slot_is_written_in_either_case(bench: SlotsBench) -> None:
    with bench.open() as token:
        assert slot_of(token.generate(spec(slot="9E"))) == "9e"


# -- firmware that does not tell -------------------------------------------------------------------


def without_directory(bench: SlotsBench) -> None:
    bench.state.objects.pop(directory.OBJECT_ID)


def test_firmware_that_tells_nothing_and_no_directory(new_bench) -> None:
    """A slot must be named: nobody knows which are empty."""
    bench = new_bench(FIRMWARES[2])
    without_directory(bench)
    with bench.open() as token:
        bench.device.trace.clear()
        with pytest.raises(UnsupportedError, match="which slots are free") as caught:
            token.generate(spec())
        assert "--slot" in (caught.value.hint or "")
        assert asked_for_nothing(bench)
        assert token.info.label == f"YubiKey {bench.device.serial}"
        assert slot_of(token.generate(spec(slot="9e"))) == "9e"
        assert slot_of(token.generate(spec("next"))) == "9c"  # there is a directory now


def test_firmware_that_tells_needs_no_directory(new_bench) -> None:
    bench = new_bench(FIRMWARES[1])
    without_directory(bench)
    with bench.open() as token:
        works(token.generate(spec()))


def test_an_imported_key_of_which_the_firmware_says_nothing(new_bench) -> None:
    bench = new_bench(FIRMWARES[2])
    share = spec("share", use=Use.ENCRYPT)
    with bench.open() as token:
        with pytest.raises(UnsupportedError, match="says nothing of imported keys") as caught:
            token.import_scalar(share, 7, ("me",))
        assert "--allow-exportable" in (caught.value.hint or "")
        taken = spec("share", use=Use.ENCRYPT, allow_exportable=True)
        key = token.import_scalar(taken, 7, ("me",))
        assert key.custody().custody is CustodyClass.UNKNOWN
        assert bench.device.operations[SLOT.KEY_MANAGEMENT, "generate"] == 1  # of no worth
        assert bench.directory.spent == ()
        works(key)


# -- deletion --------------------------------------------------------------------------------------


@every_firmware
@pytest.mark.parametrize("imported", [False, True], ids=["made", "imported"])
def test_a_deleted_key_answers_no_more(new_bench, firmware, imported: bool) -> None:
    """Below 5.7 another one, which needs a PIN and is nobody's, lies in its place."""
    bench = new_bench(firmware)
    with bench.open() as token:
        wanted = spec("goes", use=Use.ENCRYPT, allow_exportable=True)
        key = token.import_scalar(wanted, 0xABC, ("me",)) if imported else token.generate(wanted)
        old = bench.privates[SLOT.KEY_MANAGEMENT]
        works(key)
        token.delete(key.uri)
        assert old not in bench.privates.values()
        with pytest.raises(NotFoundError):
            key.agree(P256.base)
        with pytest.raises(NotFoundError, match="holds nothing") as caught:
            token.key(key.uri)
        assert caught.value.hint
        with pytest.raises(NotFoundError):
            token.delete(key.uri)
        assert token.keys() == []
        if firmware < (5, 7, 0):
            ((slot, _),) = bench.directory.spent
            assert bench.state.keys[slot].policies.pin.name == "ALWAYS"
        else:
            assert bench.directory == Directory("bench")
            assert bench.privates == {}
        again = token.generate(spec("goes", use=Use.ENCRYPT))  # label and slot are free again
        assert again.uri == key.uri
        assert bench.directory.spent == ()
        works(again)


@every_firmware
def test_a_spent_slot_that_somebody_else_has_taken(new_bench, firmware) -> None:
    bench = new_bench(firmware)
    with bench.open() as token:
        token.delete(token.generate(spec()).uri)
        bench.foreign(lambda piv: piv.generate_key(SLOT.SIGNATURE, KEY_TYPE.ECCP384))
        theirs = bench.privates[SLOT.SIGNATURE]
        assert slot_of(token.generate(spec())) == "82"
        assert bench.privates[SLOT.SIGNATURE] == theirs
        assert bench.directory.spent == ()


# -- moving ----------------------------------------------------------------------------------------


def test_a_key_moves_with_its_policies(bench: SlotsBench) -> None:
    with bench.open() as token:
        key = token.generate(spec("moves", "P-384", pin=PinPolicy.ALWAYS, touch=TouchPolicy.CACHED))
        moved = token.move(key.uri, "9e")
        assert (slot_of(moved), moved.label, moved.public) == ("9e", "moves", key.public)
        assert (moved.custody().pin, moved.custody().touch) == (
            PinPolicy.ALWAYS,
            TouchPolicy.CACHED,
        )
        works(moved)
        with pytest.raises(NotFoundError):
            token.key(key.uri)
        with pytest.raises(NotFoundError):
            key.sign(bytes(48))
        assert [slot_of(one) for one in token.keys()] == ["9e"]
        assert slot_of(token.generate(spec("new"))) == "9c"


def test_a_key_does_not_move_where_something_is(bench: SlotsBench) -> None:
    def theirs(piv) -> None:
        piv.generate_key(SLOT.RETIRED1, KEY_TYPE.ECCP256)
        piv.put_certificate(SLOT.RETIRED2, some_certificate())

    bench.foreign(theirs)
    with bench.open() as token:
        key = token.generate(spec("key"))
        token.generate(spec("other", slot="84"))
        bench.device.trace.clear()
        for slot in ("82", "83", "84", "9c"):
            with pytest.raises(ConflictError, match=slot):
                token.move(key.uri, slot)
        for absent in ("95", "82"):  # nothing; somebody else's
            with pytest.raises(NotFoundError):
                token.move(token.info.uri.with_attribute("slot", absent), "94")
        assert asked_for_nothing(bench)
        works(token.key(key.uri))


@pytest.mark.parametrize("firmware", FIRMWARES[1:], ids=named)
def test_old_firmware_moves_nothing(new_bench, firmware) -> None:
    bench = new_bench(firmware)
    with bench.open() as token:
        key = token.generate(spec())
        with pytest.raises(UnsupportedError, match=r"5\.7") as caught:
            token.move(key.uri, "84")
        assert caught.value.hint
        works(key)


# -- what a key may be -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("firmware", "algorithm", "use", "reason"),
    [
        ((5, 7, 1), "RSA-2048", Use.SIGN, "cannot be added"),
        ((5, 7, 1), "P-521", Use.SIGN, "PIV knows no P-521"),
        ((5, 4, 3), "X25519", Use.ENCRYPT, r"5\.7"),
        ((5, 4, 3), "Ed25519", Use.SIGN, r"5\.7"),
        ((5, 7, 1), "Ed25519", Use.ENCRYPT, "offers no"),
        ((5, 7, 1), "X25519", Use.SIGN, "offers no"),
    ],
)
def test_a_key_that_cannot_be(new_bench, firmware, algorithm, use, reason) -> None:
    bench = new_bench(firmware)
    with bench.open() as token:
        bench.device.trace.clear()
        with pytest.raises(UnsupportedError, match=reason):
            token.generate(spec("new", algorithm, use))
        assert bench.device.apdus == 0


def test_a_scalar_that_is_none(bench: SlotsBench) -> None:
    with bench.open() as token:
        bench.device.trace.clear()
        for scalar in (0, P256.order, -P256.order):
            with pytest.raises((FormatError, InvalidPointError)):
                token.import_scalar(spec("share", use=Use.ENCRYPT), scalar, ("me",))
        assert asked_for_nothing(bench)


def test_two_openings_see_the_same_keys(bench: SlotsBench) -> None:
    with bench.open() as one, bench.open(SECRETS) as other:
        key = one.generate(spec())
        works(other.key(key.uri))
        other.delete(key.uri)
        assert list(one.keys()) == []
        with pytest.raises(NotFoundError):
            key.sign(bytes(32))
