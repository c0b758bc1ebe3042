"""What a token says of a private key, read back. Open this file to see how a class is found.

PKCS #11 attests nothing: this is the token's word, and SoftHSM gives the same as real hardware
(hsm-1 §4). Nothing here is taken from the template that the key was made with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pkcs11 import Attribute, TokenFlag

from mesh_hsm.custody import CustodyClass, CustodyStatement, PinPolicy
from mesh_hsm.provider import Use
from mesh_hsm_pkcs11.binding import read
from mesh_hsm_pkcs11.objects import Handle
from mesh_hsm_pkcs11.records import Record
from mesh_hsm_pkcs11.slots import Found

UNKNOWN_IMPORTER: Final = "whoever imported it"
NOT_READ: Final = "as read back when it was made: the token shows it only after its PIN"
_READ: Final = (
    Attribute.SENSITIVE,
    Attribute.EXTRACTABLE,
    Attribute.ALWAYS_SENSITIVE,
    Attribute.NEVER_EXTRACTABLE,
    Attribute.LOCAL,
    Attribute.ALWAYS_AUTHENTICATE,
    Attribute.MODIFIABLE,
    Attribute.TOKEN,
    Attribute.PRIVATE,
    Attribute.SIGN,
    Attribute.DERIVE,
    Attribute.DECRYPT,
    Attribute.UNWRAP,
)
Told = Mapping[Attribute, Any]


def told_of(key: Handle) -> Told:
    """The attributes that matter, as far as the token tells them."""
    return read(key, _READ)


def classify(told: Told) -> CustodyClass:
    """The class that these attributes amount to."""
    if told.get(Attribute.EXTRACTABLE) is True or told.get(Attribute.SENSITIVE) is False:
        return CustodyClass.EXPORTABLE
    if Attribute.EXTRACTABLE not in told or Attribute.SENSITIVE not in told:
        return CustodyClass.UNKNOWN
    history = [
        told.get(name)
        for name in (Attribute.LOCAL, Attribute.ALWAYS_SENSITIVE, Attribute.NEVER_EXTRACTABLE)
    ]
    if all(history):
        return CustodyClass.GENERATED
    return CustodyClass.UNKNOWN if None in history else CustodyClass.IMPORTED


def uses(told: Told) -> list[str]:
    """What the token lets the key be used for, of that which matters."""
    names = {
        Attribute.SIGN: "sign",
        Attribute.DERIVE: "derive",
        Attribute.DECRYPT: "decrypt",
        Attribute.UNWRAP: "unwrap",
    }
    return [name for attribute, name in names.items() if told.get(attribute)]


def use_of(use: Use) -> str:
    """What ``uses`` calls it."""
    return "sign" if use is Use.SIGN else "derive"


def of_key(found: Found, told: Told, record: Record | None) -> CustodyStatement:
    """The statement. ``record`` is what we remember of a key that was made or imported here."""
    custody = classify(told)
    known_by: tuple[str, ...] = ()
    if record is not None:
        known_by = record.known_by
    elif custody is not CustodyClass.GENERATED:
        known_by = (UNKNOWN_IMPORTER,)
    return CustodyStatement(
        custody,
        found.hardware,
        device=device(found),
        firmware=found.firmware,
        pin=_pin(found, told, record),
        known_by=known_by,
        notes=tuple(_notes(custody, told, record)),
    )


def not_read(found: Found, record: Record | None) -> CustodyStatement:
    """What can be said without the PIN: what was read back when the key was made here."""
    if record is not None and record.statement is not None:
        return CustodyStatement.from_json(
            {**record.statement, "notes": [NOT_READ, *record.statement.get("notes", [])]}
        )
    return CustodyStatement(
        CustodyClass.UNKNOWN,
        found.hardware,
        device=device(found),
        firmware=found.firmware,
        known_by=() if record is None else record.known_by,
        notes=("the token shows what it says of this key only after its PIN",),
    )


def device(found: Found) -> str:
    """The token as people know it."""
    facts = found.facts
    serial = f", serial {facts.serial}" if facts.serial else ""
    return f"{facts.manufacturer} {facts.model}".strip() + f", token {facts.label}{serial}"


def _pin(found: Found, told: Told, record: Record | None) -> PinPolicy:
    # Some modules store CKA_ALWAYS_AUTHENTICATE and sign without: only what was tried counts.
    tried = record is not None and record.pin is PinPolicy.ALWAYS
    if tried and told.get(Attribute.ALWAYS_AUTHENTICATE):
        return PinPolicy.ALWAYS
    if found.flags & TokenFlag.LOGIN_REQUIRED and told.get(Attribute.PRIVATE):
        return PinPolicy.ONCE
    return PinPolicy.NONE


def _notes(custody: CustodyClass, told: Told, record: Record | None) -> list[str]:
    notes = ["the token's own word: PKCS #11 has no attestation"]
    if custody is CustodyClass.IMPORTED:
        imported = record is not None and record.origin != "generated"
        notes.append(
            "nobody can show that an imported key exists only there"
            if imported or record is None
            else "the token does not say that the key was made inside it"
        )
    if record is not None and record.origin == "wrapped":
        notes.append("it entered the token wrapped under a key of the token's")
    if record is not None and record.origin == "created":
        notes.append("it entered the token in the clear, through the module's memory")
    if told.get(Attribute.ALWAYS_AUTHENTICATE) and (
        record is None or record.pin is not PinPolicy.ALWAYS
    ):
        notes.append("the token says that it asks for a PIN each time; that was not tried")
    if told.get(Attribute.MODIFIABLE):
        notes.append("the token lets the key's label and uses be changed later")
    return notes
