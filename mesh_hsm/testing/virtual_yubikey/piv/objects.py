"""Data objects: GET DATA and PUT DATA (SP 800-73-4 Part 2 §3.1.2, §3.3.1).

The card does not look into what it stores.
"""

from __future__ import annotations

from typing import Final

from mesh_hsm.testing.virtual_yubikey import tlv
from mesh_hsm.testing.virtual_yubikey.apdu import Command
from mesh_hsm.testing.virtual_yubikey.piv.names import ObjectId, Tag
from mesh_hsm.testing.virtual_yubikey.piv.state import Context
from mesh_hsm.testing.virtual_yubikey.status import Refused, Status

LARGEST: Final = 3_052
# PIV's AID; the PIN policy: the application's own PIN, no global one (Part 1 §3.3.2).
_DISCOVERY: Final = tlv.encode(0x4F, bytes.fromhex("A000000308000010000100")) + tlv.encode(
    0x5F2F, bytes.fromhex("4000")
)
_BEHIND_PIN: Final = frozenset(
    {ObjectId.FINGERPRINTS, ObjectId.FACE, ObjectId.PRINTED, ObjectId.IRIS}
)
_STORED: Final = range(0x5F0000, 0x600000)


def get_data(context: Context, command: Command) -> bytes:
    """``5C {id}`` answers ``53 {content}``; the discovery object ``7E {...}``."""
    _check_p1p2(command)
    name = _name(tlv.unwrap(Tag.OBJECT_ID, command.data))
    if name == ObjectId.DISCOVERY:
        return tlv.encode(ObjectId.DISCOVERY, _DISCOVERY)
    if name in _BEHIND_PIN:
        context.require_pin()
    if name not in context.state.objects:
        raise Refused(Status.NOT_FOUND)
    return tlv.encode(Tag.CONTENT, context.state.objects[name])


def put_data(context: Context, command: Command) -> bytes:
    """``5C {id} 53 {content}``; no content deletes."""
    context.require_management()
    _check_p1p2(command)
    pairs = tlv.decode(command.data)
    if [tag for tag, _ in pairs] != [Tag.OBJECT_ID, Tag.CONTENT]:
        raise Refused(Status.WRONG_DATA)
    name, content = _name(pairs[0][1]), pairs[1][1]
    if name not in _STORED:
        raise Refused(Status.WRONG_DATA)
    if len(content) > LARGEST:
        raise Refused(Status.NO_SPACE)
    if content:
        context.state.objects[name] = content
    else:
        context.state.objects.pop(name, None)
    return b""


def _check_p1p2(command: Command) -> None:
    if (command.p1, command.p2) != (0x3F, 0xFF):
        raise Refused(Status.WRONG_P1P2)


def _name(octets: bytes) -> int:
    if not octets:
        raise Refused(Status.WRONG_DATA)
    return int.from_bytes(octets, "big")
