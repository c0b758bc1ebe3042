"""What is known of a key: from the card's metadata, read back now. hsm-1 §4, §11.

Open this file to see how a custody class is found. Nothing is taken from what was asked for when
the key was made, but for who else has known it, which no card can tell.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from mesh_hsm.custody import CustodyClass, CustodyStatement
from mesh_hsm.errors import CannotVerifyError, DeviceError
from mesh_hsm.provider import TokenInfo
from mesh_hsm_yubikey import attestation, firmware, roots, slots
from mesh_hsm_yubikey.algorithms import KEY_CURVES, PIN_POLICY_OF, TOUCH_POLICY_OF
from mesh_hsm_yubikey.device import Device
from mesh_hsm_yubikey.directory import Entry
from mesh_hsm_yubikey.judging import Metadata, judged, notes
from mesh_hsm_yubikey.opened import Opened
from mesh_hsm_yubikey.slot_state import Origin, SlotState

UNKNOWN_IMPORTER: Final = "whoever imported it"
NOT_SAID: Final = "this firmware says nothing of imported keys: class and policies are unproved"
UNATTESTED: Final = "the YubiKey gives no attestation of this key: all this is its bare word"

_CLASSES: Final = {
    Origin.GENERATED: CustodyClass.GENERATED,
    Origin.IMPORTED: CustodyClass.IMPORTED,
}


def of_key(
    info: TokenInfo, device: Device, entry: Entry, state: SlotState | None
) -> CustodyStatement:
    """The statement of an entry's key; ``state`` is None where the firmware says nothing of it.

    Raises ``DeviceError`` for policies that no key of ours has.
    """
    custody = CustodyClass.UNKNOWN if state is None else _CLASSES[state.origin]
    pin, touch = (entry.pin, entry.touch) if state is None else (state.pin, state.touch)
    if pin not in PIN_POLICY_OF or touch not in TOUCH_POLICY_OF:  # a fingerprint's, say
        raise DeviceError(
            "the YubiKey tells a PIN or touch policy of the key that none of ours has",
            hint="do not use this key; make a new one on a YubiKey that you trust",
            uri=str(info.uri.with_attribute("slot", slots.name(entry.slot))),
        )
    imported = custody is not CustodyClass.GENERATED
    curve = KEY_CURVES[entry.key_type].name
    return CustodyStatement(
        custody,
        info.hardware,
        f"{info.model}, serial number {device.serial}, slot {slots.name(entry.slot)}",
        firmware=device.firmware_text,
        pin=PIN_POLICY_OF[pin],
        touch=TOUCH_POLICY_OF[touch],
        known_by=(entry.known_by or (UNKNOWN_IMPORTER,)) if imported else (),
        notes=(
            *((NOT_SAID,) if state is None else ()),
            *firmware.concerns(device.firmware, curve, entry.use, form_factor=device.form_factor),
        ),
    )


def unattested(statement: CustodyStatement) -> CustodyStatement:
    """The statement of a key without attestation: expected of imported ones, noted of others."""
    if statement.custody is CustodyClass.IMPORTED:
        return statement
    return replace(statement, notes=(*statement.notes, UNATTESTED))


def checked(
    statement: CustodyStatement,
    entry: Entry,
    state: SlotState,
    certificates: tuple[bytes, bytes],
    opened: Opened,
) -> CustodyStatement:
    """The statement, once the card's attestation says the same; a chain to no known root is noted.

    ``hardware`` is not raised by that: a copied attestation says it as well. Whoever wants proof
    asks for ``attest``. Raises ``VerificationError``.
    """
    try:
        proved = attestation.verify(*certificates, roots.trusted(opened.roots))
    except CannotVerifyError as error:
        return replace(statement, notes=(*statement.notes, f"attestation not verified: {error}"))
    assert state.public is not None  # noqa: S101  it holds the entry's key
    told = Metadata(
        slot=slots.name(entry.slot),
        public=state.public,
        generated=state.origin is Origin.GENERATED,
        pin=statement.pin,
        touch=statement.touch,
        firmware=opened.device.firmware,
        serial=opened.device.serial,
    )
    judged(told, proved, entry.use, statement.device)
    return replace(statement, notes=(*statement.notes, *notes(proved)))
