"""Our keys on a card: what the directory says, believed as far as the slots bear it out.

Open this file for how an interrupted step is recognised and tidied up.
"""

from __future__ import annotations

from yubikit.core.smartcard import SW, ApduError
from yubikit.piv import KEY_TYPE, OBJECT_ID, PIN_POLICY, SLOT, TOUCH_POLICY, PivSession

from mesh_hsm.errors import NotFoundError
from mesh_hsm.provider import Use
from mesh_hsm_yubikey import directory, slot_state, slots
from mesh_hsm_yubikey.directory import Directory, Entry
from mesh_hsm_yubikey.firmware import Feature
from mesh_hsm_yubikey.points import point_of
from mesh_hsm_yubikey.slot_state import Origin


def read(piv: PivSession) -> Directory | None:
    """The directory as it stands; None where there is none. Raises ``DeviceError``."""
    octets = get_object(piv, directory.OBJECT_ID)
    return directory.decode(octets) if octets else None


def write(piv: PivSession, changed: Directory) -> None:
    """Replace the directory whole. Needs the management key."""
    piv.put_object(directory.OBJECT_ID, directory.encode(changed))


def true_entries(piv: PivSession) -> list[Entry]:
    """Every key of ours, by label. One command, and one for each of them."""
    found = (read(piv) or Directory()).entries
    return sorted((one for one in found if is_true(piv, one)), key=lambda one: one.label)


def is_true(piv: PivSession, entry: Entry) -> bool:
    """Whether the slot holds the entry's key.

    Below 5.3 the card says that of generated keys only; of an imported one the entry is believed.
    """
    if entry.public is None:
        return False
    state = slot_state.read(piv, entry.slot)
    if state is None and not slot_state.tells(piv):
        return True
    return slot_state.holds(state, entry)


def find(piv: PivSession, slot: SLOT, uri: str) -> Entry:
    """Our key in this slot. Raises ``NotFoundError``, which says what is there instead."""
    entries = (read(piv) or Directory()).entries
    entry = next((one for one in entries if one.slot == slot), None)
    if entry is not None and is_true(piv, entry):
        return entry
    state = slot_state.read(piv, slot)
    said = "nothing" if state is None else "a key that was not made with mesh-hsm"
    raise NotFoundError(
        f"slot {slots.name(slot)} of the YubiKey holds {said}", hint="mesh-hsm key list", uri=uri
    )


def tidy(piv: PivSession) -> Directory:
    """The directory without entries that are not true, written so. Needs the management key.

    A key whose generation was cut off before its entry was finished is removed: one that is just
    what was being made, in a slot that was empty then and has no certificate now.
    """
    found = read(piv) or Directory()
    kept = found
    for entry in found.entries:
        if is_true(piv, entry):
            continue
        kept = kept.without(entry.slot)
        if entry.public is None and _is_orphan(piv, entry):
            kept = discard(piv, kept, entry.slot)
    for slot, public in kept.spent:
        state = slot_state.read(piv, slot)
        if state is None or state.public != public:
            kept = kept.without(slot)
    if kept != found:
        write(piv, kept)
    return kept


def discard(piv: PivSession, kept: Directory, slot: SLOT) -> Directory:
    """Destroy a slot's key: deleted, or below 5.7 overwritten by one that nobody needs.

    That one is noted first, as one being generated, so that the slot is not lost if it is cut off.
    The directory that is returned is not written yet.
    """
    if piv.version >= Feature.DELETE.least:
        piv.delete_key(slot)
        return kept.without(slot)
    junk = Entry(slot, KEY_TYPE.ECCP256, PIN_POLICY.ALWAYS, TOUCH_POLICY.NEVER, Use.SIGN, "", None)
    write(piv, kept.with_entry(junk))
    public = piv.generate_key(slot, junk.key_type, junk.pin, junk.touch)
    return kept.with_spent(slot, point_of(public))


def is_free(piv: PivSession, kept: Directory, slot: SLOT) -> bool:
    """Whether a key may be put there. ``kept`` is tidy."""
    if any(one[0] == slot for one in kept.spent):
        return True
    taken = any(one.slot == slot for one in kept.entries)
    return not taken and slot_state.read(piv, slot) is None and not has_certificate(piv, slot)


def has_certificate(piv: PivSession, slot: SLOT) -> bool:
    """Whether somebody put a certificate beside the key of this slot."""
    return bool(get_object(piv, OBJECT_ID.from_slot(slot)))


def get_object(piv: PivSession, object_id: int) -> bytes | None:
    """A data object's octets; None where there is none."""
    try:
        octets: bytes = piv.get_object(object_id)
    except ApduError as error:
        if error.sw == SW.FILE_NOT_FOUND:
            return None
        raise
    return octets


def _is_orphan(piv: PivSession, entry: Entry) -> bool:
    state = slot_state.read(piv, entry.slot)
    return (
        state is not None
        and state.origin is Origin.GENERATED
        and (state.key_type, state.pin, state.touch) == (entry.key_type, entry.pin, entry.touch)
        and not has_certificate(piv, entry.slot)
    )
