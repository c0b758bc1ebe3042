"""Public areas as octets. Open this file for the layout of TPMT_PUBLIC; it needs no TPM library.

Only what we make ourselves can be written and read: elliptic-curve keys, the storage root key and
sealed data, all with SHA-256 as name algorithm (TPM 2.0 Part 2 §12.2).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import IntEnum, IntFlag

from mesh_hsm.curves import Curve, Point, curve
from mesh_hsm.errors import FormatError


class Alg(IntEnum):
    """TPM_ALG_ID (Part 2 §6.3)."""

    AES = 0x06
    KEYEDHASH = 0x08
    SHA256 = 0x0B
    SHA384 = 0x0C
    SHA512 = 0x0D
    NULL = 0x10
    ECDSA = 0x18
    ECDH = 0x19
    ECC = 0x23
    CFB = 0x43


class Attr(IntFlag):
    """TPMA_OBJECT (Part 2 §8.3)."""

    FIXED_TPM = 1 << 1
    ST_CLEAR = 1 << 2
    FIXED_PARENT = 1 << 4
    SENSITIVE_DATA_ORIGIN = 1 << 5
    USER_WITH_AUTH = 1 << 6
    ADMIN_WITH_POLICY = 1 << 7
    NO_DA = 1 << 10
    ENCRYPTED_DUPLICATION = 1 << 11
    RESTRICTED = 1 << 16
    DECRYPT = 1 << 17
    SIGN = 1 << 18


CURVE_IDS = {"P-256": 0x0003, "P-384": 0x0004, "P-521": 0x0005}
"""TPM_ECC_CURVE by our names (Part 2 §6.4)."""

_NAMES = {number: name for name, number in CURVE_IDS.items()}
_HASHES = {int(alg): alg for alg in (Alg.SHA256, Alg.SHA384, Alg.SHA512)}


@dataclass(frozen=True, slots=True)
class PublicArea:
    """A TPMT_PUBLIC. ``algorithm`` is a curve's name, or None for sealed data.

    ``scheme_hash`` is that of a fixed ECDSA scheme, None for no scheme; ``storage`` says that it
    is a parent (AES-128-CFB). ``unique`` holds x and y, or the digest of sealed data: empty in a
    template, filled in by the TPM.
    """

    algorithm: str | None
    attributes: Attr
    policy: bytes = b""
    scheme_hash: Alg | None = None
    storage: bool = False
    unique: tuple[bytes, ...] = ()

    def marshal(self) -> bytes:
        """The octets of TPMT_PUBLIC."""
        kind = Alg.ECC if self.algorithm else Alg.KEYEDHASH
        head = _u16(kind, Alg.SHA256) + self.attributes.to_bytes(4, "big") + sized(self.policy)
        if self.algorithm is None:
            return head + _u16(Alg.NULL) + sized(*(self.unique or (b"",)))
        symmetric = _u16(Alg.AES, 128, Alg.CFB) if self.storage else _u16(Alg.NULL)
        scheme = _u16(Alg.ECDSA, self.scheme_hash) if self.scheme_hash else _u16(Alg.NULL)
        curve_and_kdf = _u16(CURVE_IDS[self.algorithm], Alg.NULL)
        return head + symmetric + scheme + curve_and_kdf + sized(*(self.unique or (b"", b"")))

    @classmethod
    def parse(cls, octets: bytes) -> PublicArea:
        """Read a TPMT_PUBLIC. ``FormatError`` for every other kind of object than ours."""
        reader = Reader(octets)
        kind = reader.u16()
        if reader.u16() != Alg.SHA256:
            raise FormatError("a TPM object with another name algorithm than SHA-256")
        attributes = Attr(reader.u32())
        policy = reader.sized()
        if kind == Alg.KEYEDHASH and reader.u16() == Alg.NULL:
            area = cls(None, attributes, policy, unique=(reader.sized(),))
        elif kind == Alg.ECC:
            storage = reader.u16() == Alg.AES
            if storage:
                reader.skip(4)
            scheme_hash = _HASHES.get(reader.u16()) if reader.u16() == Alg.ECDSA else None
            algorithm = _NAMES.get(reader.u16())
            reader.skip(2)
            unique = (reader.sized(), reader.sized())
            area = cls(algorithm, attributes, policy, scheme_hash, storage, unique)
        else:
            raise FormatError("a TPM object of another kind than ours")
        # Whatever was skipped above has to be what we write, or this reader has misread it.
        if area.marshal() != octets:
            raise FormatError("a TPM object with other parameters than ours")
        return area

    @property
    def name(self) -> bytes:
        """TPM2B_NAME without its length: algorithm id and digest (Part 1 §16)."""
        return _u16(Alg.SHA256) + hashlib.sha256(self.marshal()).digest()

    @property
    def curve(self) -> Curve:
        """The key's curve. ``FormatError`` for sealed data."""
        if self.algorithm is None:
            raise FormatError("sealed data is on no curve")
        return curve(self.algorithm)

    @property
    def point(self) -> Point:
        """The public key. Raises ``InvalidPointError`` for one that is not on its curve."""
        on = self.curve
        x, y = (int.from_bytes(octets, "big") for octets in self.unique)
        return on.point(x, y)


class Reader:
    """Reads big-endian fields; ``FormatError`` past the end."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self._at = 0

    def take(self, size: int) -> bytes:
        """The next ``size`` octets."""
        part = self._octets[self._at : self._at + size]
        if len(part) != size:
            raise FormatError("a truncated TPM structure")
        self._at += size
        return part

    def skip(self, size: int) -> None:
        """Pass over ``size`` octets."""
        self.take(size)

    def u16(self) -> int:
        """Two octets."""
        return int.from_bytes(self.take(2), "big")

    def u32(self) -> int:
        """Four octets."""
        return int.from_bytes(self.take(4), "big")

    def sized(self) -> bytes:
        """A TPM2B: two octets of length, then the octets."""
        return self.take(self.u16())


def sized(*buffers: bytes) -> bytes:
    """Each buffer as a TPM2B."""
    return b"".join(len(buffer).to_bytes(2, "big") + buffer for buffer in buffers)


def point_octets(point: Point) -> tuple[bytes, bytes]:
    """x and y, each big-endian at field width, as TPMS_ECC_POINT holds them."""
    size = point.curve.scalar_size
    return point.x.to_bytes(size, "big"), point.y.to_bytes(size, "big")


def _u16(*values: int) -> bytes:
    return b"".join(value.to_bytes(2, "big") for value in values)


class AuthValue:
    """A PIN as a TPM takes it, kept out of every ``repr`` and traceback. Empty: no PIN."""

    __slots__ = ("octets",)

    def __init__(self, octets: bytes = b"") -> None:
        self.octets = octets

    def __bool__(self) -> bool:
        return bool(self.octets)

    @classmethod
    def of_pin(cls, octets: bytes) -> AuthValue:
        """A PIN of 1 to 32 octets without NUL, else ``FormatError``.

        TPMs drop trailing NULs and refuse more octets than the name algorithm's digest has.
        """
        pin = cls(octets)
        del octets
        if not 1 <= len(pin.octets) <= 32 or b"\0" in pin.octets:
            raise FormatError("a TPM PIN has 1 to 32 octets")
        return pin
