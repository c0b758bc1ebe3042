"""The object that says which slots hold keys of ours: octets in, entries out, nothing else.

Whoever has the management key can write anything there, so everything that is read is hostile.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from yubikit.core import Tlv
from yubikit.piv import KEY_TYPE, PIN_POLICY, SLOT, TOUCH_POLICY

from mesh_hsm.curves import ED25519, P256, P384, X25519, Curve, Point
from mesh_hsm.errors import DeviceError, UnsupportedError
from mesh_hsm.provider import Use
from mesh_hsm_yubikey.algorithms import KEY_TYPES
from mesh_hsm_yubikey.directory import LIMIT, Directory, Entry, decode, encode
from mesh_hsm_yubikey.slots import OURS

_USES = {
    "weierstrass": tuple(Use),
    "edwards": (Use.SIGN,),
    "montgomery": (Use.ENCRYPT, Use.AUTHENTICATE),
}
PINS = (PIN_POLICY.NEVER, PIN_POLICY.ONCE, PIN_POLICY.ALWAYS)
TOUCHES = (TOUCH_POLICY.NEVER, TOUCH_POLICY.ALWAYS, TOUCH_POLICY.CACHED)

printable = st.text(max_size=12).filter(str.isprintable)


# A few of each sign: points are multiplied in Python.
POINTS = {
    curve: [curve.base, -curve.base, curve.base.multiply(7), -curve.base.multiply(99)]
    for curve in (P256, P384, ED25519, X25519)
}


def points(curve: Curve) -> st.SearchStrategy[Point]:
    return st.sampled_from(POINTS[curve])


@st.composite
def entries(draw: st.DrawFn, slot: SLOT) -> Entry:
    curve = draw(st.sampled_from(list(POINTS)))
    return Entry(
        slot,
        KEY_TYPES[curve.name],
        draw(st.sampled_from(PINS)),
        draw(st.sampled_from(TOUCHES)),
        draw(st.sampled_from(_USES[curve.family])),
        draw(printable),
        draw(st.none() | points(curve)),
        tuple(draw(st.lists(printable, max_size=2))),
    )


@st.composite
def directories(draw: st.DrawFn) -> Directory:
    some = st.lists(st.sampled_from(OURS), unique=True, max_size=6)
    spent = st.none() | points(P256) | points(P384)
    return Directory(
        draw(printable),
        tuple(draw(entries(slot)) for slot in draw(some)),
        tuple((slot, draw(spent)) for slot in draw(some)),
    )


@given(directories())
@settings(deadline=None)
def test_what_is_written_is_read(directory: Directory) -> None:
    octets = encode(directory)
    assert decode(octets) == directory
    assert encode(decode(octets)) == octets


@given(st.binary(max_size=200))
def test_any_octets_are_read_or_refused(octets: bytes) -> None:
    read_or_refuse(octets)


@given(directories(), st.data())
@settings(deadline=None, max_examples=300)
def test_damaged_octets_are_read_or_refused(directory: Directory, data: st.DataObject) -> None:
    octets = bytearray(encode(directory))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(octets) - 1))
        octets[at] = data.draw(st.integers(0, 255))
    read_or_refuse(bytes(octets[: data.draw(st.integers(0, len(octets)))]))
    read_or_refuse(bytes(octets))


def read_or_refuse(octets: bytes) -> None:
    try:
        found = decode(octets)
    except DeviceError:
        return
    assert encode(found) == octets  # nothing in it was passed over


# -- named bad inputs ------------------------------------------------------------------------------

SIGNER = Entry(
    SLOT.SIGNATURE,
    KEY_TYPE.ECCP256,
    PIN_POLICY.ONCE,
    TOUCH_POLICY.NEVER,
    Use.SIGN,
    "signer",
    P256.base,
)
HEAD = Tlv(0x80, b"\x01") + Tlv(0x81, b"label")


def fields(**changed: bytes | None) -> bytes:
    """A good entry's fields, some of them others, or left out."""
    good = {
        "t80": b"\x9c",
        "t81": b"\x11",
        "t82": b"\x02\x01",
        "t83": b"s",
        "t84": b"signer",
        "t85": P256_BASE,
    }
    return b"".join(
        Tlv(int(name[1:], 16), value)
        for name, value in (good | changed).items()
        if value is not None
    )


def key(**changed: bytes | None) -> bytes:
    return HEAD + Tlv(0xA1, fields(**changed))


def compressed(x: int, curve: Curve = P256, sign: int = 2) -> bytes:
    return bytes([sign]) + x.to_bytes(curve.field_size, "big")


P256_BASE = compressed(P256.base.x, sign=2 + P256.base.is_odd)
OFF_CURVE = compressed(1)  # 1 - 3 + b is no square
GOOD = encode(Directory("label", (SIGNER,)))

BAD = {
    "empty": b"",
    "version alone": Tlv(0x80, b"\x01"),
    "version 2": Tlv(0x80, b"\x02") + GOOD[3:],
    "version of two octets": Tlv(0x80, b"\x00\x01") + GOOD[3:],
    "no version": GOOD[3:],
    "another tag for the version": b"\x85" + GOOD[1:],
    "another tag for the label": GOOD[:3] + b"\x82" + GOOD[4:],
    "label before version": Tlv(0x81, b"label") + Tlv(0x80, b"\x01"),
    "label that is no UTF-8": Tlv(0x80, b"\x01") + Tlv(0x81, b"\xff"),
    "label with an escape sequence": Tlv(0x80, b"\x01") + Tlv(0x81, b"\x1b[2J"),
    "truncated": GOOD[:-1],
    "truncated in a length": HEAD + b"\xa1\x82\x01",
    "trailing octets": GOOD + b"\0",
    "trailing octets that are an unknown tag": GOOD + Tlv(0xA3, b""),
    "unknown tag in an entry": key(t87=b"x"),
    "a length in a longer form": Tlv(0x80, b"\x01") + b"\x81\x81\x05label",
    "two entries of one slot": HEAD + Tlv(0xA1, fields()) * 2,
    "two spent entries of one slot": HEAD + Tlv(0xA2, Tlv(0x80, b"\x82")) * 2,
    "spent before entries": HEAD + Tlv(0xA2, Tlv(0x80, b"\x82")) + Tlv(0xA1, fields()),
    "an entry without slot": key(t80=None),
    "an entry without algorithm": key(t81=None),
    "an entry without policies": key(t82=None),
    "an entry without use": key(t83=None),
    "an entry without label": key(t84=None),
    "a slot of two octets": key(t80=b"\x9c\x9c"),
    "a slot of no octet": key(t80=b""),
    "a slot that is none": key(t80=b"\x9b"),
    "the attestation key's slot": key(t80=b"\xf9"),
    "the attestation key's slot, spent": HEAD + Tlv(0xA2, Tlv(0x80, b"\xf9")),
    "a spent slot without slot": HEAD + Tlv(0xA2, Tlv(0x85, P256_BASE)),
    "an algorithm that is none": key(t81=b"\x99"),
    "RSA": key(t81=b"\x07", t85=None),
    "one policy": key(t82=b"\x02"),
    "three policies": key(t82=b"\x02\x01\x01"),
    "a PIN policy that is left to the card": key(t82=b"\x00\x01"),
    "a PIN policy for fingerprints": key(t82=b"\x04\x01"),
    "a PIN policy that is none": key(t82=b"\x09\x01"),
    "a touch policy that is left to the card": key(t82=b"\x02\x00"),
    "a touch policy that is none": key(t82=b"\x02\x09"),
    "a use that is none": key(t83=b"x"),
    "two uses": key(t83=b"se"),
    "X25519 that signs": key(t81=b"\xe1", t85=X25519.base.encode()),
    "Ed25519 that agrees": key(t81=b"\xe0", t83=b"e", t85=ED25519.base.encode()),
    "a label of a key that is no UTF-8": key(t84=b"\xc3"),
    "a label of a key with a line feed": key(t84=b"a\nb"),
    "somebody who knows it, with an escape sequence": key(t86=b"\x1b]0;x\x07"),
    "the fields of an entry in another order": HEAD
    + Tlv(0xA1, Tlv(0x81, b"\x11") + Tlv(0x80, b"\x9c") + fields(t80=None, t81=None)),
    "a field twice": HEAD + Tlv(0xA1, fields() + Tlv(0x85, P256_BASE)),
    "a point off the curve": key(t85=OFF_CURVE),
    "a point's coordinate beyond the field": key(t85=compressed(P256.field_prime + 1)),
    "an uncompressed point": key(
        t85=b"\x04" + P256.base.x.to_bytes(32, "big") + P256.base.y.to_bytes(32, "big")
    ),
    "a point of another curve": key(t81=b"\x14"),
    "no point at all": key(t85=b""),
    "the neutral point": key(t85=b"\x00"),
    "the neutral point of Ed25519": key(t81=b"\xe0", t85=b"\x01" + bytes(31)),
    "a point of small order": key(t81=b"\xe0", t85=bytes(32)),
    "a point of small order, X25519": key(t81=b"\xe1", t83=b"e", t85=bytes(33)),
    "a spent point off the curve": HEAD + Tlv(0xA2, Tlv(0x80, b"\x82") + Tlv(0x85, OFF_CURVE)),
    "a spent point of another length": HEAD
    + Tlv(0xA2, Tlv(0x80, b"\x82") + Tlv(0x85, ED25519.base.encode())),
    "over the limit": HEAD
    + b"".join(Tlv(0xA1, fields(t80=bytes([s]), t86=b"x" * 200)) for s in OURS),
}


def test_the_good_one_is_good() -> None:
    assert decode(GOOD) == Directory("label", (SIGNER,))
    assert key() == GOOD
    assert decode(key(t86=b"somebody")).entries[0].known_by == ("somebody",)


@pytest.mark.parametrize("octets", BAD.values(), ids=BAD.keys())
def test_bad_input_is_refused(octets: bytes) -> None:
    with pytest.raises(DeviceError, match=r"5F4D48.*cannot be read") as caught:
        decode(octets)
    assert caught.value.hint


@pytest.mark.parametrize("size", range(len(GOOD)))
def test_no_part_of_it_is_enough(size: int) -> None:
    if size == len(HEAD):
        assert decode(GOOD[:size]) == Directory("label")
    else:
        with pytest.raises(DeviceError):
            decode(GOOD[:size])


def test_what_does_not_fit_is_not_written() -> None:
    """An object holds 3,052 octets: exactly as many fit."""
    full = Directory("label", tuple(replace(SIGNER, slot=slot) for slot in OURS))
    room = LIMIT - len(encode(full))
    knows = "x" * 1000
    longest = replace(full.entries[0], known_by=(knows,))
    full = full.with_entry(longest)
    room = LIMIT - len(encode(full))
    exact = full.with_entry(replace(longest, known_by=(knows + "x" * room,)))
    assert len(encode(exact)) == LIMIT
    assert decode(encode(exact)) == exact
    over = full.with_entry(replace(longest, known_by=(knows + "x" * (room + 1),)))
    with pytest.raises(UnsupportedError, match="full") as caught:
        encode(over)
    assert caught.value.hint


# -- changes ---------------------------------------------------------------------------------------


def test_a_slot_has_one_entry_and_is_spent_once() -> None:
    pending = replace(SIGNER, public=None)
    directory = Directory().with_spent(SLOT.SIGNATURE, None).with_entry(pending)
    directory = directory.with_spent(SLOT.SIGNATURE, P256.base).with_entry(SIGNER)
    assert directory == Directory("", (SIGNER,), ((SLOT.SIGNATURE, P256.base),))
    assert directory.entry(SLOT.SIGNATURE) is SIGNER
    assert directory.entry(SLOT.RETIRED1) is None
    assert directory.without_spent(SLOT.SIGNATURE) == Directory("", (SIGNER,))
    assert directory.without_entry(SLOT.SIGNATURE).spent == directory.spent
    assert directory.without(SLOT.RETIRED1) == directory
    assert directory.without(SLOT.SIGNATURE) == Directory()
