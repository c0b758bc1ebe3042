"""Our keys on a card: what the directory says, believed as far as the slots bear it out.

Open this file for how an interrupted step is recognised and tidied up.
"""

from __future__ import annotations

from typing import Final

from yubikit.core.smartcard import SW, ApduError
from yubikit.piv import KEY_TYPE, OBJECT_ID, PIN_POLICY, SLOT, TOUCH_POLICY, PivSession

from mesh_hsm.errors import NotFoundError
from mesh_hsm_yubikey import directory, slot_state, slots
from mesh_hsm_yubikey.directory import Directory, Entry
from mesh_hsm_yubikey.firmware import Feature
from mesh_hsm_yubikey.points import point_of
from mesh_hsm_yubikey.slot_state import Origin

_WORTHLESS: Final = (KEY_TYPE.ECCP256, PIN_POLICY.ALWAYS, TOUCH_POLICY.NEVER)
"""The key that overwrites another."""


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

    Below 5.3 the card says that of generated keys only; of an imported one the entry is believed,
    as its slot held a generated one before (see ``creating.import_key``).
    """
    if entry.public is None:
        return False
    state = slot_state.read(piv, entry.slot)
    if state is None and not slot_state.tells(piv):
        return True
    return slot_state.holds(state, entry)


def find(piv: PivSession, slot: SLOT, uri: str) -> Entry:
    """Our key in this slot. Raises ``NotFoundError``, which says what is there instead."""
    found = read(piv) or Directory()
    entry = found.entry(slot)
    if entry is not None and is_true(piv, entry):
        return entry
    state = slot_state.read(piv, slot)
    said, hint = "a key that was not made with mesh-hsm", "ykman piv info shows it"
    if state is None:
        said, hint = "nothing", "mesh-hsm key list"
    elif entry is not None or is_spent(found, slot):
        said = "nothing of worth: a key was overwritten there, or something was cut off"
        hint = "mesh-hsm key list"
    raise NotFoundError(f"slot {slots.name(slot)} of the YubiKey holds {said}", hint=hint, uri=uri)


def tidy(piv: PivSession) -> Directory:
    """The directory as the slots bear it out, written so. Needs the management key.

    What a step that was cut off has left is destroyed: a key that is just what was being made, in a
    slot that was empty then and has no certificate now. Below 5.7, where no key is deleted, it is
    noted as spent: nobody knows it.
    """
    found = read(piv) or Directory()
    kept = found
    for slot in dict.fromkeys([one.slot for one in found.entries] + [s for s, _ in found.spent]):
        kept = _tidied(piv, kept, slot)
    if kept != found:
        write(piv, kept)
    return kept


def discard(piv: PivSession, kept: Directory, slot: SLOT) -> Directory:
    """Destroy a slot's key: deleted, or below 5.7 overwritten by one that nobody needs.

    That is noted first, and the slot's entry stays with it, so that neither the old key nor the new
    one is lost if it is cut off. The directory that is returned is not written yet.
    """
    if piv.version >= Feature.DELETE.least:
        piv.delete_key(slot)
        return kept.without(slot)
    write(piv, kept.with_spent(slot, None))
    public = piv.generate_key(slot, *_WORTHLESS)
    return kept.without(slot).with_spent(slot, point_of(public))


def is_free(piv: PivSession, kept: Directory, slot: SLOT) -> bool:
    """Whether a key may be put there. ``kept`` is tidy."""
    if is_spent(kept, slot):
        return True
    taken = kept.entry(slot) is not None
    return not taken and slot_state.read(piv, slot) is None and not has_certificate(piv, slot)


def is_spent(kept: Directory, slot: SLOT) -> bool:
    """Whether the key of this slot is worth nothing, or about to be."""
    return any(one == slot for one, _ in kept.spent)


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


def _tidied(piv: PivSession, kept: Directory, slot: SLOT) -> Directory:
    entry, spent = kept.entry(slot), dict(kept.spent)
    if entry is not None and is_true(piv, entry):
        return kept.without_spent(slot)  # whatever was to overwrite it did not
    state = slot_state.read(piv, slot)
    if state is None or state.public is None:
        return kept.without(slot)
    if spent.get(slot) == state.public:
        return kept.without_entry(slot)
    begun = []  # what was being made there
    if entry is not None and entry.public is None:
        begun.append((entry.key_type, entry.pin, entry.touch))
    if slot in spent and spent[slot] is None:
        begun.append(_WORTHLESS)
    if (
        state.origin is not Origin.GENERATED
        or (state.key_type, state.pin, state.touch) not in begun
        or has_certificate(piv, slot)
    ):
        return kept.without(slot)  # somebody else's
    if piv.version >= Feature.DELETE.least:
        return discard(piv, kept, slot)
    return kept.without(slot).with_spent(slot, state.public)
