"""How a key comes into a slot, moves and goes. Open this file for the steps and their rollback.

The directory is written before anything that could be lost track of, so that the card is consistent
wherever it is pulled out: an entry whose slot does not hold its key counts for nothing (see
``directory``), and a generation that was cut off is tidied up by the next step that writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from yubikit.core import CommandError
from yubikit.piv import SLOT, PivSession

from mesh_hsm.curves import Point
from mesh_hsm.errors import ConflictError, DeviceError, UnsupportedError
from mesh_hsm.provider import KeySpec
from mesh_hsm_yubikey import catalogue, directory, slot_state, slots
from mesh_hsm_yubikey.algorithms import (
    KEY_CURVES,
    KEY_TYPES,
    PIN_POLICIES,
    TOUCH_POLICIES,
)
from mesh_hsm_yubikey.directory import Directory, Entry
from mesh_hsm_yubikey.firmware import Feature
from mesh_hsm_yubikey.importing import PrivateKey
from mesh_hsm_yubikey.points import point_of


def generate(piv: PivSession, spec: KeySpec, uri: str) -> Entry:
    """Make a key: 1 note what is begun, 2 generate, 3 read back, 4 finish the note."""
    kept, entry = _place(piv, spec, uri)
    catalogue.write(piv, kept.with_entry(entry))

    def make() -> Point:
        return point_of(piv.generate_key(entry.slot, entry.key_type, entry.pin, entry.touch))

    return _settle(piv, kept, entry, make, uri)


def import_key(piv: PivSession, spec: KeySpec, key: PrivateKey, uri: str) -> Entry:
    """Take a key from outside: 1 note it, 2 import, 3 read back, 4 finish the note.

    Below 5.3, where a card tells of generated keys only, a key of no worth is made in the slot
    first: while that one is there, the other is not, and the note counts for nothing.
    """
    kept, entry = _place(piv, spec, uri)
    entry = replace(entry, public=key.public, known_by=key.known_by)
    directory.encode(kept.with_entry(entry).with_spent(entry.slot, key.public))  # is there room
    if not slot_state.tells(piv) and not catalogue.is_spent(kept, entry.slot):
        kept = catalogue.discard(piv, kept, entry.slot)
    catalogue.write(piv, kept.with_entry(entry))

    def put() -> Point:
        piv.put_key(entry.slot, key.in_library, entry.pin, entry.touch)
        return key.public

    return _settle(piv, kept, entry, put, uri)


def delete(piv: PivSession, slot: SLOT, uri: str) -> None:
    """Destroy our key in a slot: 1 the key, 2 its note. Raises ``NotFoundError``."""
    catalogue.find(piv, slot, uri)
    kept = catalogue.tidy(piv)
    catalogue.write(piv, catalogue.discard(piv, kept, slot))


def move(piv: PivSession, source: SLOT, target: SLOT, uri: str) -> Entry:
    """Put our key into another slot: 1 note both, 2 move, 3 forget the old one."""
    if piv.version < Feature.MOVE.least:
        raise UnsupportedError(
            "a YubiKey moves keys from firmware 5.7 on",
            hint="delete it, and make another in the slot where it should be",
            uri=uri,
        )
    moved = replace(catalogue.find(piv, source, uri), slot=target)
    kept = catalogue.tidy(piv)
    if not catalogue.is_free(piv, kept, target):
        raise _occupied(target, uri)
    catalogue.write(piv, kept.with_entry(moved))
    with _tidied_if_refused(piv):
        piv.move_key(source, target)
    catalogue.write(piv, kept.without(source).with_entry(moved))
    return moved


def _place(piv: PivSession, spec: KeySpec, uri: str) -> tuple[Directory, Entry]:
    """The tidy directory, and the entry of a key about to be made, if there is room for both."""
    kept = catalogue.tidy(piv)
    if any(one.label == spec.label for one in kept.entries):
        raise ConflictError(f"there is a key {spec.label} already", hint="choose another label")
    entry = Entry(
        slot=_free_slot(piv, kept, spec, uri),
        key_type=KEY_TYPES[spec.algorithm],
        pin=PIN_POLICIES[spec.pin],
        touch=TOUCH_POLICIES[spec.touch],
        use=spec.use,
        label=spec.label,
        public=None,
    )
    finished = replace(entry, public=KEY_CURVES[entry.key_type].base)
    directory.encode(kept.with_entry(finished))  # is there room: nothing has been done yet
    return kept, entry


def _free_slot(piv: PivSession, kept: Directory, spec: KeySpec, uri: str) -> SLOT:
    if spec.slot is not None:
        slot = slots.parse(spec.slot)
        if not catalogue.is_free(piv, kept, slot):
            raise _occupied(slot, uri)
        return slot
    if not slot_state.tells(piv) and catalogue.read(piv) is None:
        raise UnsupportedError(
            "this firmware does not say which slots are free, and the YubiKey was not set up here",
            hint="name a slot that you know to be empty with --slot, or set it up with token init",
            uri=uri,
        )
    for slot in slots.preferred(spec.use):
        if catalogue.is_free(piv, kept, slot):
            return slot
    raise DeviceError(
        "the YubiKey has no free slot", hint="delete a key that nobody needs", uri=uri
    )


def _settle(
    piv: PivSession, kept: Directory, begun: Entry, act: Callable[[], Point], uri: str
) -> Entry:
    with _tidied_if_refused(piv):
        public = act()
    done = replace(begun, public=public)
    if differs := _difference(piv, done):
        catalogue.write(piv, catalogue.discard(piv, kept, done.slot))
        raise DeviceError(
            f"the YubiKey made a key with another {differs}; it was destroyed",
            hint="mesh-hsm doctor says what is known of this YubiKey",
            uri=uri,
        )
    finished = kept.without(done.slot).with_entry(done)
    if finished != kept.with_entry(begun):
        catalogue.write(piv, finished)
    return done


@contextmanager
def _tidied_if_refused(piv: PivSession) -> Iterator[None]:
    """Take back what was noted, if the card refuses; a note that is not taken back does no harm."""
    try:
        yield
    except CommandError:
        with suppress(CommandError):
            catalogue.tidy(piv)
        raise


def _difference(piv: PivSession, entry: Entry) -> str | None:
    """What the card says of a new key that was not asked for; None below 5.3 where it says none."""
    state = slot_state.read(piv, entry.slot)
    if state is None and not slot_state.tells(piv):
        return None
    if state is None or not slot_state.holds(state, entry):
        return "public key"
    if (state.pin, state.touch) != (entry.pin, entry.touch):
        return "PIN or touch policy"
    return None


def _occupied(slot: SLOT, uri: str) -> ConflictError:
    return ConflictError(
        f"slot {slots.name(slot)} of the YubiKey is taken",
        hint="mesh-hsm key list, and ykman piv info for what other programs put there",
        uri=uri,
    )
