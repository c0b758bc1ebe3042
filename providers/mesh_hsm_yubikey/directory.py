"""What we keep on the card: one data object that says which slots hold keys of ours.

A PIV slot has neither label nor use. Open this file for the object's octets; it has no I/O. The
rule that makes every step of ``creating`` safe to be cut off: **an entry is true if its slot holds
its public key**, and counts for nothing otherwise. Whoever has the management key can write here as
he can replace the keys: nothing in it is proof of anything.

``80 01`` version, ``81`` the token's label, then ``A1 {80 slot, 81 algorithm, 82 PIN and touch
policy, 83 use, 84 label, 85 public key, 86 who else knows it …}`` for each key, and ``A2 {80 slot,
85 public key}`` for each slot whose key was overwritten by one of no worth, on P-256, because the
firmware deletes none. Identifiers are PIV's; NIST points are compressed, X25519 is the signed form,
texts are UTF-8. A key that is being generated has no 85.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from yubikit.core import Tlv
from yubikit.piv import KEY_TYPE, PIN_POLICY, SLOT, TOUCH_POLICY

from mesh_hsm.curves import P256, Curve, Point
from mesh_hsm.curves.weierstrass import WeierstrassCurve
from mesh_hsm.errors import DeviceError, InvalidPointError, UnsupportedError
from mesh_hsm.provider import Use
from mesh_hsm_yubikey.algorithms import KEY_CURVES

OBJECT_ID: Final = 0x5F4D48
"""In the range that Yubico leaves to applications; read without PIN, written by management."""

LIMIT: Final = 3052
"""Octets that an object holds."""

_VERSION: Final = b"\x01"
_OCTETS: Final = {Use.SIGN: b"s", Use.ENCRYPT: b"e", Use.AUTHENTICATE: b"a"}
_USES: Final = {octet: use for use, octet in _OCTETS.items()}


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
    """Entries by slot, and the public keys of slots that hold nothing of worth any more."""

    label: str = ""
    entries: tuple[Entry, ...] = ()
    spent: tuple[tuple[SLOT, Point], ...] = ()

    def with_entry(self, entry: Entry) -> Directory:
        """The same with this one for its slot. What was spent there is, until the key is made."""
        kept = self.without(entry.slot)
        spent = self.spent if entry.public is None else kept.spent
        return replace(kept, entries=(*kept.entries, entry), spent=spent)

    def without(self, slot: SLOT) -> Directory:
        """The same without this slot."""
        return Directory(
            self.label,
            tuple(one for one in self.entries if one.slot != slot),
            tuple(one for one in self.spent if one[0] != slot),
        )

    def with_spent(self, slot: SLOT, public: Point) -> Directory:
        """The same, this slot's key being worth nothing."""
        kept = self.without(slot)
        return replace(kept, spent=(*kept.spent, (slot, public)))


def encode(directory: Directory) -> bytes:
    """The object's octets. Raises ``UnsupportedError`` where they are more than it holds."""
    octets = b"".join(
        [Tlv(0x80, _VERSION), Tlv(0x81, directory.label.encode())]
        + [Tlv(0xA1, _encode(entry)) for entry in directory.entries]
        + [
            Tlv(0xA2, Tlv(0x80, bytes([slot])) + Tlv(0x85, _public(point)))
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
        if (version.tag, version.value) != (0x80, _VERSION):
            raise ValueError
        directory = Directory(
            label.value.decode(),
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
    public = b"" if entry.public is None else Tlv(0x85, _public(entry.public))
    return (
        Tlv(0x80, bytes([entry.slot]))
        + Tlv(0x81, bytes([entry.key_type]))
        + Tlv(0x82, bytes([entry.pin, entry.touch]))
        + Tlv(0x83, _OCTETS[entry.use])
        + Tlv(0x84, entry.label.encode())
        + public
        + b"".join(Tlv(0x86, who.encode()) for who in entry.known_by)
    )


def _decode(octets: bytes) -> Entry:
    fields = Tlv.parse_list(octets)
    only = {field.tag: field.value for field in fields}
    key_type = KEY_TYPE(_octet(only[0x81]))
    pin, touch = only[0x82]
    return Entry(
        slot=SLOT(_octet(only[0x80])),
        key_type=key_type,
        pin=PIN_POLICY(pin),
        touch=TOUCH_POLICY(touch),
        use=_USES[only[0x83]],
        label=only[0x84].decode(),
        public=_point(KEY_CURVES[key_type], only[0x85]) if 0x85 in only else None,
        known_by=tuple(field.value.decode() for field in fields if field.tag == 0x86),
    )


def _spent(octets: bytes) -> tuple[SLOT, Point]:
    fields = Tlv.parse_dict(octets)
    return SLOT(_octet(fields[0x80])), _point(P256, fields[0x85])


def _public(point: Point) -> bytes:
    if isinstance(point.curve, WeierstrassCurve):
        return bytes([2 + point.is_odd]) + point.agreement_octets()
    return point.encode()


def _point(curve: Curve, octets: bytes) -> Point:
    point = curve.decode(octets)
    point.check_foreign()
    return point


def _octet(value: bytes) -> int:
    (octet,) = value
    return octet
