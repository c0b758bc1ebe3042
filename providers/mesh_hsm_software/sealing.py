"""Small secrets under a store's sealing key. Open this file for the layout of a sealed blob.

Blob: ``F("mesh-hsm/1 soft seal", label, nonce, ciphertext)`` with a 12-octet nonce; AES-256-GCM,
whose associated data is the first two fields.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mesh_hsm.errors import DeviceError, FormatError
from mesh_hsm.framing import F

_MAGIC: Final = b"mesh-hsm/1 soft seal"
_LIMIT: Final = 128
_TAG: Final = 16


@dataclass(frozen=True, slots=True)
class Box:
    """A parsed blob."""

    label: bytes
    nonce: bytes
    ciphertext: bytes

    @classmethod
    def parse(cls, blob: bytes) -> Box:
        """Read a blob. Raises ``FormatError`` unless encoding it again gives the same octets."""
        fields, rest = [], blob
        while len(rest) >= 2:
            size = 2 + int.from_bytes(rest[:2], "big")
            fields.append(rest[2:size])
            rest = rest[size:]
        if F(*fields) != blob or len(fields) != 4 or fields[0] != _MAGIC or len(fields[2]) != 12:
            raise FormatError("not a secret sealed by a key store")
        return cls(*fields[1:])

    def open(self, key: bytes) -> bytes:
        """The secret. Raises ``DeviceError`` for another store's blob or an altered one."""
        try:
            return AESGCM(key).decrypt(self.nonce, self.ciphertext, F(_MAGIC, self.label))
        except InvalidTag as error:
            raise DeviceError("the blob was sealed by another key store, or was altered") from error


def check_size(secret: bytes) -> None:
    """Refuse more than 128 octets: what a device seals, a file seals, and no more."""
    if len(secret) > _LIMIT:
        raise FormatError(f"at most {_LIMIT} octets can be sealed")


def seal(key: bytes, label: str, secret: bytes) -> bytes:
    """Encrypt a secret. ``label`` stands in the blob in clear text."""
    nonce, name = os.urandom(12), label.encode("utf-8")
    return F(_MAGIC, name, nonce, AESGCM(key).encrypt(nonce, secret, F(_MAGIC, name)))
