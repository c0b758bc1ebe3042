"""Small secrets under a key of the token's. Open this file for the layout of a sealed blob.

Blob: ``F("mesh-hsm/1 pkcs11 seal", label, CKA_ID, curve, sealing key, epk, ciphertext)``, points in
their full form. The key is for agreement like any other: every token that agrees also seals. With a
fresh ephemeral key, ``HKDF-SHA-512(Z, info F("mesh-hsm/1 pkcs11 seal", curve, epk, sealing key))``
gives key (32) || nonce (12) of AES-256-GCM, whose associated data is all that stands before the
ciphertext. The token is asked whether the sealing key is its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mesh_hsm.curves import Point, SecretScalar, curve
from mesh_hsm.errors import DeviceError, FormatError, InvalidPointError, UnsupportedError
from mesh_hsm.framing import F

MAGIC: Final = b"mesh-hsm/1 pkcs11 seal"
PREFERENCE: Final = ("P-384", "X448", "P-521", "P-256", "X25519")
"""Curves for the sealing key: the one that most tokens have first, then by work factor."""

_LIMIT: Final = 128
_LONGEST: Final = 4096


@dataclass(frozen=True, slots=True)
class Box:
    """A parsed blob. ``sealing_key`` and ``epk`` are checked foreign points of one curve."""

    label: bytes
    identifier: bytes
    sealing_key: Point
    epk: Point
    ciphertext: bytes

    @classmethod
    def parse(cls, blob: bytes) -> Box:
        """Read a blob. Raises ``FormatError`` unless encoding it again gives the same octets."""
        fields, rest = [], blob[:_LONGEST]
        while len(rest) >= 2:
            size = 2 + int.from_bytes(rest[:2], "big")
            fields.append(rest[2:size])
            rest = rest[size:]
        if F(*fields) != blob or len(fields) != 7 or fields[0] != MAGIC:
            raise FormatError("not a secret sealed by a PKCS #11 token")
        try:
            c = curve(fields[3].decode("ascii"))
            sealing_key, epk = (c.decode(octets) for octets in fields[4:6])
            sealing_key.check_foreign()
            epk.check_foreign()
        except (UnicodeDecodeError, UnsupportedError, InvalidPointError) as error:
            raise FormatError("a key of the sealed secret is no point") from error
        return cls(fields[1], fields[2], sealing_key, epk, fields[6])

    def open(self, Z: bytes) -> bytes:
        """The secret, given the octets Z of the token's agreement with ``epk``.

        Raises ``DeviceError``.
        """
        key = _key(Z, self.epk, self.sealing_key)
        try:
            return AESGCM(key[:32]).decrypt(key[32:], self.ciphertext, self._head)
        except InvalidTag:
            pass
        del Z, key  # not for a traceback
        raise DeviceError("the blob was sealed by another token, or was altered")

    @property
    def _head(self) -> bytes:
        return _head(self.label, self.identifier, self.sealing_key, self.epk)


def check_size(secret: bytes) -> None:
    """Refuse more than 128 octets: what a device seals, a token seals, and no more."""
    if len(secret) > _LIMIT:
        raise FormatError(f"at most {_LIMIT} octets can be sealed")


def seal(sealing_key: Point, identifier: bytes, label: str, secret: bytes) -> bytes:
    """Encrypt to the sealing key with this CKA_ID. ``label`` stands in the blob in clear text."""
    ephemeral = SecretScalar.random(sealing_key.curve)
    epk, name = ephemeral.public(), label.encode("utf-8")
    key = _key(ephemeral.x_of(sealing_key).octets(), epk, sealing_key)
    head = _head(name, identifier, sealing_key, epk)
    return head + F(AESGCM(key[:32]).encrypt(key[32:], secret, head))


def _head(label: bytes, identifier: bytes, sealing_key: Point, epk: Point) -> bytes:
    name = epk.curve.name.encode("ascii")
    return F(MAGIC, label, identifier, name, sealing_key.encode(), epk.encode())


def _key(Z: bytes, epk: Point, sealing_key: Point) -> bytes:
    # The nonce may come from the key: neither ever serves a second time.
    info = F(MAGIC, epk.curve.name.encode("ascii"), epk.encode(), sealing_key.encode())
    return HKDF(algorithm=SHA512(), length=44, salt=None, info=info).derive(Z)
