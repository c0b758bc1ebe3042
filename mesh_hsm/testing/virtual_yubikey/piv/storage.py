"""The persistent state as JSON and back: a private format of tests, with secrets in the clear."""

from __future__ import annotations

from typing import Any, Final

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from mesh_hsm.testing.virtual_yubikey.piv.keys import Key, Policies, PrivateKey
from mesh_hsm.testing.virtual_yubikey.piv.management_key import KeyType, ManagementKey
from mesh_hsm.testing.virtual_yubikey.piv.names import Algorithm, Origin, PinPolicy, TouchPolicy
from mesh_hsm.testing.virtual_yubikey.piv.state import (
    FACTORY_PIN,
    FACTORY_PUK,
    PivState,
    Secret,
)

_PKCS8: Final = (Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def dump(state: PivState) -> dict[str, Any]:
    """What ``load`` reads: objects, lists, numbers and hexadecimal text."""
    return {
        "pin": _dump_secret(state.pin),
        "puk": _dump_secret(state.puk),
        "management": [
            state.management.type,
            state.management.value.hex(),
            state.management.touch,
        ],
        "keys": {str(slot): _dump_key(key) for slot, key in state.keys.items()},
        "objects": {str(name): content.hex() for name, content in state.objects.items()},
    }


def load(saved: dict[str, Any]) -> PivState:
    """The state that was dumped. Raises KeyError, TypeError or ValueError for anything else."""
    kind, value, touch = saved["management"]
    return PivState(
        _load_secret(FACTORY_PIN, saved["pin"]),
        _load_secret(FACTORY_PUK, saved["puk"]),
        ManagementKey(KeyType(kind), bytes.fromhex(value), TouchPolicy(touch)),
        {int(slot): _load_key(key) for slot, key in saved["keys"].items()},
        {int(name): bytes.fromhex(content) for name, content in saved["objects"].items()},
    )


def _dump_secret(secret: Secret) -> list[Any]:
    return [secret.value.hex(), secret.total, secret.left]


def _load_secret(factory: bytes, saved: list[Any]) -> Secret:
    value, total, left = saved
    return Secret(factory, bytes.fromhex(value), int(total), int(left))


def _dump_key(key: Key) -> list[Any]:
    pkcs8 = key.private.private_bytes(*_PKCS8)
    return [key.algorithm, pkcs8.hex(), key.policies.pin, key.policies.touch, key.origin]


def _load_key(saved: list[Any]) -> Key:
    kind, pkcs8, pin, touch, origin = saved
    private = load_der_private_key(bytes.fromhex(pkcs8), None)
    if not isinstance(private, PrivateKey):
        raise TypeError("not a key that a slot can hold")
    policies = Policies(PinPolicy(pin), TouchPolicy(touch))
    return Key(Algorithm(kind), private, policies, Origin(origin))
