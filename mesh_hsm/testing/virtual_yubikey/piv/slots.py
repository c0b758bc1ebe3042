"""Commands that put keys into slots: GENERATE, IMPORT, MOVE; and SET MANAGEMENT KEY.

SP 800-73-4 Part 2 §3.3.2; the others are Yubico's. All need the management key.
"""

from __future__ import annotations

from typing import Final

from mesh_hsm.testing.virtual_yubikey import tlv
from mesh_hsm.testing.virtual_yubikey.apdu import Command
from mesh_hsm.testing.virtual_yubikey.piv import importing, keys
from mesh_hsm.testing.virtual_yubikey.piv.keys import Key, Policies
from mesh_hsm.testing.virtual_yubikey.piv.management_key import ManagementKey
from mesh_hsm.testing.virtual_yubikey.piv.names import (
    Operation,
    Origin,
    Reference,
    Slot,
    Tag,
    TouchPolicy,
)
from mesh_hsm.testing.virtual_yubikey.piv.state import Context
from mesh_hsm.testing.virtual_yubikey.status import Refused, Status

_DELETE: Final = 0xFF
_POLICY_TAGS: Final = frozenset({Tag.PIN_POLICY, Tag.TOUCH_POLICY})
_MANAGEMENT_TOUCH: Final = {0xFF: TouchPolicy.NEVER, 0xFE: TouchPolicy.ALWAYS}


def generate(context: Context, command: Command) -> bytes:
    """GENERATE ASYMMETRIC KEY PAIR (§3.3.2): ``AC {80 algorithm, [AA pin], [AB touch]}``."""
    context.require_management()
    if command.p1:
        raise Refused(Status.WRONG_P1P2)
    slot = context.known(command.p2)
    fields = tlv.fields(tlv.unwrap(Tag.GENERATE, command.data))
    number = fields.pop(Tag.ALGORITHM, b"")
    if len(number) != 1 or not fields.keys() <= _POLICY_TAGS:
        raise Refused(Status.WRONG_DATA)
    kind = keys.algorithm(number[0], context.hardware.firmware)
    policies = Policies.resolve(slot, fields)
    key = Key(kind, keys.generate(kind), policies, Origin.GENERATED)
    context.state.keys[slot] = key
    context.count(slot, Operation.GENERATE)
    return tlv.encode(Tag.PUBLIC_KEY, key.public_fields())


def import_key(context: Context, command: Command) -> bytes:
    """IMPORT: P1 the algorithm, P2 the slot; the secret's TLVs, then ``[AA pin] [AB touch]``."""
    context.require_management()
    slot = context.known(command.p2)
    kind = keys.algorithm(command.p1, context.hardware.firmware)
    fields = tlv.fields(command.data)
    policies = Policies.resolve(slot, fields)
    secret = {tag: value for tag, value in fields.items() if tag not in _POLICY_TAGS}
    context.state.keys[slot] = Key(kind, importing.load(kind, secret), policies, Origin.IMPORTED)
    context.count(slot, Operation.IMPORT)
    return b""


def move(context: Context, command: Command) -> bytes:
    """MOVE: P1 the new slot, or FF to delete; P2 the old one. The policies go with the key."""
    context.require_management()
    source = context.known(command.p2)
    if command.p1 == _DELETE:
        _take(context, source)
        context.count(source, Operation.DELETE)
        return b""
    target = context.known(command.p1)
    if Slot.ATTESTATION in (source, target):
        raise Refused(context.choices.unknown_slot)
    if source not in context.state.keys:
        raise Refused(Status.REFERENCE_NOT_FOUND)
    if target in context.state.keys:
        raise Refused(Status.WRONG_DATA)
    context.state.keys[target] = _take(context, source)
    context.count(source, Operation.MOVE)
    return b""


def set_management_key(context: Context, command: Command) -> bytes:
    """SET MANAGEMENT KEY: ``algorithm || 9B || length || key``; P2 says whether it wants touch."""
    context.require_management()
    if command.p1 != 0xFF or command.p2 not in _MANAGEMENT_TOUCH:
        raise Refused(Status.WRONG_P1P2)
    context.state.management = ManagementKey.parse(
        command.data[0] if command.data else 0,
        tlv.unwrap(Reference.MANAGEMENT, command.data[1:]),
        _MANAGEMENT_TOUCH[command.p2],
        context.hardware.firmware,
    )
    return b""


def _take(context: Context, slot: int) -> Key:
    key = context.state.keys.pop(slot, None)
    if key is None:
        raise Refused(Status.REFERENCE_NOT_FOUND)
    return key
