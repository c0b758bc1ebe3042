"""The management key 9B: a block cipher key (SP 800-73-4 Part 2 §3.2.4, A.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB

from mesh_hsm.testing.virtual_yubikey.hardware import Version
from mesh_hsm.testing.virtual_yubikey.piv.names import TouchPolicy
from mesh_hsm.testing.virtual_yubikey.status import Refused, Status

_FACTORY: Final = bytes(range(1, 9)) * 3


class KeyType(IntEnum):
    """Ciphers of a management key."""

    TRIPLE_DES = 0x03
    AES128 = 0x08
    AES192 = 0x0A
    AES256 = 0x0C


_SIZES: Final[Mapping[KeyType, int]] = {
    KeyType.TRIPLE_DES: 24,
    KeyType.AES128: 16,
    KeyType.AES192: 24,
    KeyType.AES256: 32,
}


@dataclass(frozen=True)
class ManagementKey:
    """Type, value and touch policy."""

    type: KeyType
    value: bytes = field(repr=False)
    touch: TouchPolicy = TouchPolicy.NEVER

    @classmethod
    def factory(cls, firmware: Version) -> ManagementKey:
        """As it leaves the factory: AES-192 since 5.7, Triple DES before."""
        return cls(KeyType.AES192 if firmware >= (5, 7, 0) else KeyType.TRIPLE_DES, _FACTORY)

    @classmethod
    def parse(
        cls, number: int, value: bytes, touch: TouchPolicy, firmware: Version
    ) -> ManagementKey:
        """A new one. Refused (6A80) for a type that is not there, or another size."""
        try:
            kind = KeyType(number)
        except ValueError:
            raise Refused(Status.WRONG_DATA) from None
        if kind is not KeyType.TRIPLE_DES and firmware < (5, 4, 2):
            raise Refused(Status.WRONG_DATA)
        if len(value) != _SIZES[kind]:
            raise Refused(Status.WRONG_DATA)
        return cls(kind, value, touch)

    @property
    def is_factory(self) -> bool:
        """Whether nobody has changed its value."""
        return self.value == _FACTORY

    @property
    def block_size(self) -> int:
        """Octets of one block."""
        return 8 if self.type is KeyType.TRIPLE_DES else 16

    def encrypt(self, block: bytes) -> bytes:
        """One block. Refused (6A80) for any other length."""
        if len(block) != self.block_size:
            raise Refused(Status.WRONG_DATA)
        cipher = TripleDES(self.value) if self.type is KeyType.TRIPLE_DES else AES(self.value)
        return Cipher(cipher, ECB()).encryptor().update(block)  # noqa: S305  one random block
