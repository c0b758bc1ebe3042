"""The peer: python-pkcs11 as its user writes it, in the same initialised module.

A process initialises a module once, and whoever comes second gets the first one's locks. So the
peer takes its slots from the provider's module: both call into the same module, initialised with
CKF_OS_LOCKING_OK, and share one login.
"""

from __future__ import annotations

from pkcs11 import KDF, Attribute, KeyType, Mechanism, ObjectClass, PrivateKey, PublicKey, Session

from mesh_hsm.testing.softhsm import Softhsm
from mesh_hsm_pkcs11.module import Module

_READABLE = {Attribute.SENSITIVE: False, Attribute.EXTRACTABLE: True}


def session(rig: Softhsm, pin: str | None = None) -> Session:
    """A session with the rig's first token. Without ``pin``: logged in if this process is."""
    tokens = (slot.get_token() for slot in Module.load(rig.module).slots())
    (token,) = (token for token in tokens if token.serial.decode() == rig.serial)
    return token.open(user_pin=pin)


def private_key(session: Session, label: str) -> PrivateKey:
    """One search."""
    key = session.get_key(object_class=ObjectClass.PRIVATE_KEY, label=label)
    assert isinstance(key, PrivateKey)
    return key


def public_key(session: Session, label: str) -> PublicKey:
    """One search, and the reading of what it found."""
    key = session.get_key(object_class=ObjectClass.PUBLIC_KEY, label=label)
    assert isinstance(key, PublicKey)
    return key


def agree(key: PrivateKey, peer: bytes, size: int) -> bytes:
    """C_DeriveKey, the value, C_DestroyObject. ``peer``: the raw point; ``size``: octets wanted."""
    secret = key.derive_key(
        KeyType.GENERIC_SECRET,
        8 * size,
        mechanism=Mechanism.ECDH1_DERIVE,
        mechanism_param=(KDF.NULL, None, peer),
        template=_READABLE,
    )
    value = secret[Attribute.VALUE]
    secret.destroy()
    return value


def sign(key: PrivateKey, digest: bytes) -> bytes:
    """C_SignInit, C_Sign: r || s."""
    return key.sign(digest, mechanism=Mechanism.ECDSA)
