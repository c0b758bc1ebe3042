"""What the card says of a slot now: GET METADATA, or below firmware 5.3 what an attestation tells.

Open this file for how a key in a slot is recognised.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from yubikit.core.smartcard import SW, ApduError
from yubikit.piv import KEY_TYPE, PIN_POLICY, SLOT, TOUCH_POLICY, PivSession

from mesh_hsm.curves import Point
from mesh_hsm.errors import DeviceError, FormatError
from mesh_hsm_yubikey.algorithms import KEY_TYPES, PIN_POLICIES, TOUCH_POLICIES, point_of
from mesh_hsm_yubikey.attestation import claimed
from mesh_hsm_yubikey.directory import Entry
from mesh_hsm_yubikey.firmware import Feature

_WRONG_PARAMETERS: Final = 0x6A


class Origin(Enum):
    """How a key came into its slot, if the card says."""

    GENERATED = "generated"
    IMPORTED = "imported"


@dataclass(frozen=True, slots=True)
class SlotState:
    """A slot that is not empty. ``public`` is None for RSA, which is none of ours."""

    key_type: KEY_TYPE
    pin: PIN_POLICY
    touch: TOUCH_POLICY
    origin: Origin
    public: Point | None


def read(piv: PivSession, slot: SLOT) -> SlotState | None:
    """One command. None for an empty slot, and below 5.3 for one whose key was imported."""
    return _metadata(piv, slot) if tells(piv) else _attested(piv, slot)


def tells(piv: PivSession) -> bool:
    """Whether this firmware says of every slot what is in it."""
    return bool(piv.version >= Feature.METADATA.least)


def holds(state: SlotState | None, entry: Entry) -> bool:
    """Whether the slot holds this very key. Of X25519 the card tells u alone."""
    if state is None or state.public is None or entry.public is None:
        return False
    ours, theirs = entry.public, state.public
    return ours.curve is theirs.curve and ours.agreement_octets() == theirs.agreement_octets()


def _metadata(piv: PivSession, slot: SLOT) -> SlotState | None:
    try:
        told = piv.get_slot_metadata(slot)
    except ApduError as error:
        if error.sw == SW.REFERENCE_DATA_NOT_FOUND:
            return None
        raise
    return SlotState(
        key_type=told.key_type,
        pin=told.pin_policy,
        touch=told.touch_policy,
        origin=Origin.GENERATED if told.generated else Origin.IMPORTED,
        public=point_of(told.public_key) if told.key_type in KEY_TYPES.values() else None,
    )


def _attested(piv: PivSession, slot: SLOT) -> SlotState | None:
    try:
        certificate = piv.attest_key(slot)
    except ApduError as error:  # no key there, or an imported one: versions word it differently
        if error.sw >> 8 != _WRONG_PARAMETERS and error.sw != SW.CONDITIONS_NOT_SATISFIED:
            raise
        return None
    try:
        told = claimed(certificate)
    except FormatError as error:
        raise DeviceError(
            f"the YubiKey's attestation of slot {int(slot):02x} cannot be read",
            hint="pull it out and plug it in again; mesh-hsm doctor",
        ) from error
    key_type = KEY_TYPE.from_public_key(told.public)
    return SlotState(
        key_type=key_type,
        pin=PIN_POLICIES[told.pin],
        touch=TOUCH_POLICIES[told.touch],
        origin=Origin.GENERATED,
        public=point_of(told.public) if key_type in KEY_TYPES.values() else None,
    )
