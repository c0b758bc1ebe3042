"""GET METADATA (F7): what the card says of its PIN, PUK, management key and keys. Yubico's."""

from __future__ import annotations

from mesh_hsm.testing.virtual_yubikey import tlv
from mesh_hsm.testing.virtual_yubikey.apdu import Command
from mesh_hsm.testing.virtual_yubikey.piv.keys import Key
from mesh_hsm.testing.virtual_yubikey.piv.management_key import ManagementKey
from mesh_hsm.testing.virtual_yubikey.piv.names import SLOTS, Metadata, Reference
from mesh_hsm.testing.virtual_yubikey.piv.state import Context, Secret
from mesh_hsm.testing.virtual_yubikey.status import Refused, Status


def metadata(context: Context, command: Command) -> bytes:
    """P2 names what is asked for. Refused (6A88) for an empty slot and the absent fingerprint."""
    if command.p1:
        raise Refused(Status.WRONG_P1P2)
    state = context.state
    match command.p2:
        case Reference.PIN:
            fields = _of_secret(state.pin)
        case Reference.PUK:
            fields = _of_secret(state.puk)
        case Reference.MANAGEMENT:
            fields = _of_management(state.management)
        case slot if slot in state.keys:
            fields = _of_key(state.keys[slot])
        case slot if slot in SLOTS or slot == Reference.FINGERPRINT:
            raise Refused(Status.REFERENCE_NOT_FOUND)
        case _:
            raise Refused(context.choices.unknown_slot)
    return b"".join(tlv.encode(tag, value) for tag, value in fields.items())


def _of_secret(secret: Secret) -> dict[Metadata, bytes]:
    return {
        Metadata.ALGORITHM: b"\xff",
        Metadata.IS_DEFAULT: bytes([secret.is_factory]),
        Metadata.TRIES: bytes([secret.total, secret.left]),
    }


def _of_management(key: ManagementKey) -> dict[Metadata, bytes]:
    return {
        Metadata.ALGORITHM: bytes([key.type]),
        Metadata.POLICIES: bytes([0, key.touch]),
        Metadata.IS_DEFAULT: bytes([key.is_factory]),
    }


def _of_key(key: Key) -> dict[Metadata, bytes]:
    return {
        Metadata.ALGORITHM: bytes([key.algorithm]),
        Metadata.POLICIES: bytes([key.policies.pin, key.policies.touch]),
        Metadata.ORIGIN: bytes([key.origin]),
        Metadata.PUBLIC_KEY: key.public_fields(),
    }
