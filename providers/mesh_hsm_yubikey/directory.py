"""What we keep on the card: one data object that says which slots hold keys of ours.

A PIV slot has neither label nor use. Open this file for the object's octets; it has no I/O. The
rule that makes every step of ``creating`` safe to be cut off: **an entry is true if its slot holds
its public key**, and counts for nothing otherwise. Whoever has the management key can write here as
he can replace the keys: nothing in it is proof of anything.

``80 01`` version, ``81`` the token's label, then ``A1 {80 slot, 81 algorithm, 82 PIN and touch
policy, 83 use, 84 label, 85 public key, 86 who else knows it …}`` for each key, and ``A2 {80 slot,
85 public key}`` for each slot whose key is worth nothing but stays, because the firmware deletes
none. Identifiers are PIV's; NIST points are compressed, X25519 is the signed form, texts are
UTF-8. A key that is being generated has no 85, and neither has a slot that is being overwritten.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from yubikit.core import Tlv
from yubikit.piv import KEY_TYPE, PIN_POLICY, SLOT, TOUCH_POLICY

from mesh_hsm.curves import P256, P384, Curve, Point
from mesh_hsm.curves.weierstrass import WeierstrassCurve
from mesh_hsm.errors import DeviceError, InvalidPointError, UnsupportedError
from mesh_hsm.provider import Use
from mesh_hsm_yubikey.algorithms import KEY_CURVES, PIN_POLICY_OF, TOUCH_POLICY_OF
from mesh_hsm_yubikey.slots import OURS

OBJECT_ID: Final = 0x5F4D48
"""In the range that Yubico leaves to applications; read without PIN, written by management."""

LIMIT: Final = 3052
"""Octets that an object holds."""

_VERSION: Final = b"\x01"
_OCTETS: Final = {Use.SIGN: b"s", Use.ENCRYPT: b"e", Use.AUTHENTICATE: b"a"}
_USES: Final = {octet: use for use, octet in _OCTETS.items()}
_SIGNS: Final = {"weierstrass": (True, False), "edwards": (True,), "montgomery": (False,)}
"""Whether a key of this family of curves may be one to sign with."""
_NIST: Final = {1 + curve.field_size: curve for curve in (P256, P384)}
"""By the length of a compressed point: firmware that deletes no keys knows no other curves."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One key. ``public`` is None while it is being generated."""

    slot: SLOT
    key_type: KEY_TYPE
    pin: PIN_POLICY
    touch: TOUCH_POLICY
    use: Use
    label: str
    public: Point | None
    known_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Directory:
    """Entries by slot; and the slots whose key is worth nothing, with its public key.

    That is None while a slot is being overwritten: until it is, the slot's entry is true.
    """

    label: str = ""
    entries: tuple[Entry, ...] = ()
    spent: tuple[tuple[SLOT, Point | None], ...] = ()

    def entry(self, slot: SLOT) -> Entry | None:
        """What is said of a key in this slot."""
        return next((one for one in self.entries if one.slot == slot), None)

    def with_entry(self, entry: Entry) -> Directory:
        """The same with this one for its slot; what is said of its being spent stays."""
        kept = self.without_entry(entry.slot)
        return replace(kept, entries=(*kept.entries, entry))

    def with_spent(self, slot: SLOT, public: Point | None) -> Directory:
        """The same, this slot's key being worth nothing, or about to be. Its entry stays."""
        kept = self.without_spent(slot)
        return replace(kept, spent=(*kept.spent, (slot, public)))

    def without(self, slot: SLOT) -> Directory:
        """The same without this slot."""
        return self.without_entry(slot).without_spent(slot)

    def without_entry(self, slot: SLOT) -> Directory:
        """The same without this slot's key."""
        return replace(self, entries=tuple(one for one in self.entries if one.slot != slot))

    def without_spent(self, slot: SLOT) -> Directory:
        """The same, this slot not being spent."""
        return replace(self, spent=tuple(one for one in self.spent if one[0] != slot))


def encode(directory: Directory) -> bytes:
    """The object's octets. Raises ``UnsupportedError`` where they are more than it holds."""
    octets = b"".join(
        [Tlv(0x80, _VERSION), Tlv(0x81, directory.label.encode())]
        + [Tlv(0xA1, _encode(entry)) for entry in directory.entries]
        + [
            Tlv(0xA2, Tlv(0x80, bytes([slot])) + _optional(point))
            for slot, point in directory.spent
        ]
    )
    if len(octets) > LIMIT:
        raise UnsupportedError(
            "the YubiKey's list of our keys is full", hint="shorter labels, or delete a key"
        )
    return octets


def decode(octets: bytes) -> Directory:
    """Read the object. Raises ``DeviceError`` for anything that ``encode`` does not write."""
    try:
        version, label, *rest = Tlv.parse_list(octets)
        if (version.tag, version.value, label.tag) != (0x80, _VERSION, 0x81):
            raise ValueError
        directory = Directory(
            _text(label.value),
            tuple(_decode(one.value) for one in rest if one.tag == 0xA1),
            tuple(_spent(one.value) for one in rest if one.tag == 0xA2),
        )
        if encode(directory) != octets:  # two entries of one slot, unknown tags, other orders
            raise ValueError
        slots = [one.slot for one in directory.entries]
        if len(set(slots)) != len(slots) or len(dict(directory.spent)) != len(directory.spent):
            raise ValueError
    except (ValueError, LookupError, InvalidPointError, UnsupportedError) as error:
        raise DeviceError(
            f"the list of our keys on the YubiKey (object {OBJECT_ID:X}) cannot be read",
            hint="another program wrote over it, or a newer mesh-hsm; ykman piv objects export",
        ) from error
    return directory


def _encode(entry: Entry) -> bytes:
    return (
        Tlv(0x80, bytes([entry.slot]))
        + Tlv(0x81, bytes([entry.key_type]))
        + Tlv(0x82, bytes([entry.pin, entry.touch]))
        + Tlv(0x83, _OCTETS[entry.use])
        + Tlv(0x84, entry.label.encode())
        + _optional(entry.public)
        + b"".join(Tlv(0x86, who.encode()) for who in entry.known_by)
    )


def _decode(octets: bytes) -> Entry:
    fields = Tlv.parse_list(octets)
    only = {field.tag: field.value for field in fields}
    key_type = KEY_TYPE(_octet(only[0x81]))
    curve = KEY_CURVES[key_type]
    pin, touch = only[0x82]
    entry = Entry(
        slot=_slot(only[0x80]),
        key_type=key_type,
        pin=PIN_POLICY(pin),
        touch=TOUCH_POLICY(touch),
        use=_USES[only[0x83]],
        label=_text(only[0x84]),
        public=_point(curve, only[0x85]) if 0x85 in only else None,
        known_by=tuple(_text(field.value) for field in fields if field.tag == 0x86),
    )
    if entry.pin not in PIN_POLICY_OF or entry.touch not in TOUCH_POLICY_OF:
        raise ValueError
    if (entry.use is Use.SIGN) not in _SIGNS[curve.family]:
        raise ValueError
    return entry


def _spent(octets: bytes) -> tuple[SLOT, Point | None]:
    fields = Tlv.parse_dict(octets)
    public = fields.get(0x85)
    return _slot(fields[0x80]), None if public is None else _point(_NIST[len(public)], public)


def _optional(point: Point | None) -> bytes:
    if point is None:
        return b""
    if isinstance(point.curve, WeierstrassCurve):
        return Tlv(0x85, bytes([2 + point.is_odd]) + point.agreement_octets())
    return Tlv(0x85, point.encode())


def _point(curve: Curve, octets: bytes) -> Point:
    point = curve.decode(octets)
    point.check_foreign()
    return point


def _slot(value: bytes) -> SLOT:
    slot = SLOT(_octet(value))
    if slot not in OURS:
        raise ValueError
    return slot


def _text(value: bytes) -> str:
    text = value.decode()
    if not text.isprintable():  # it reaches terminals
        raise ValueError
    return text


def _octet(value: bytes) -> int:
    (octet,) = value
    return octet
