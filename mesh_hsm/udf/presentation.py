"""UDF text: Base32 in groups of four. Open this to print or read ``MB2W-MYKD-…``. udf §1, §2."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from enum import IntEnum

from mesh_hsm.errors import FormatError

DEFAULT_PRECISION = 140
_ALPHABET = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
_MAX_PRECISION = 440
_MAX_CHARACTERS = 4096
_CANONICAL = re.compile(r"[A-Z2-7]{4}(-[A-Z2-7]{4}){0,21}\Z")  # 88 characters: 440 bits


class TypeId(IntEnum):
    """The octet in front of the data. A digest's compression level adds 0..4 to it (udf §2)."""

    AUTHENTICATOR_SHA2 = 0
    AUTHENTICATOR_SHA3 = 1
    ENCRYPTION = 32
    ENCRYPTION_SIGNATURE = 33
    DIGEST_SHA3 = 80
    DIGEST_SHA2 = 96
    NONCE = 104
    OID = 112
    SHARE = 144
    SEED = 200


@dataclass(frozen=True, slots=True)
class Udf:
    """A parsed UDF. ``octets`` are the whole octets after the type; ``text`` is canonical."""

    type_id: int
    octets: bytes
    text: str

    @property
    def bits(self) -> int:
        """Precision: five bits a character, the type octet included."""
        return 5 * len(self.text.replace("-", ""))


def present(type_id: int, octets: bytes, precision: int = DEFAULT_PRECISION) -> str:
    """The canonical text of type and data.

    Digests and authenticators (M, K, A) are cut to ``precision`` bits, a multiple of 20 up to 440
    that includes the 8 type bits; every other type is written in full.
    """
    characters = base64.b32encode(bytes([type_id]) + octets).decode("ascii").rstrip("=")
    if _is_variable(type_id):
        if precision % 20 or not 20 <= precision <= min(_MAX_PRECISION, 5 * len(characters)):
            raise FormatError("UDF precision is a multiple of 20 bits, at most 440")
        characters = characters[: precision // 5]
    return _grouped(characters)


def parse(text: str) -> Udf:
    """Read a UDF in any grouping and either case; left-over bits are dropped. udf §1.6."""
    characters = _characters(text)
    whole = len(characters) * 5 // 8
    if whole < 1:
        raise FormatError("a UDF has at least two characters")
    # A strict decoder refuses left-over bits: fill the last group and cut to whole octets.
    octets = base64.b32decode(characters + "A" * (-len(characters) % 8))[:whole]
    return Udf(octets[0], octets[1:], _grouped(characters))


def matches(text: str, prefix: str) -> bool:
    """True if ``prefix`` abbreviates ``text``: characters, since a cut is not on an octet."""
    return bool(prefix) and _characters(text).startswith(_characters(prefix))


def is_canonical(text: str) -> bool:
    """True for whole groups in upper case, of at most 440 bits: the only form of a ``kid``."""
    return _CANONICAL.match(text) is not None


def _is_variable(type_id: int) -> bool:
    return type_id in (0, 1) or 80 <= type_id <= 84 or 96 <= type_id <= 100


def _characters(text: str) -> str:
    if len(text) > _MAX_CHARACTERS:
        raise FormatError("too long for a UDF")
    characters = text.strip().replace("-", "").upper()
    # upper() turns some other letters, such as a dotless i, into ASCII ones.
    if not (text.isascii() and characters and _ALPHABET.issuperset(characters)):
        raise FormatError("a UDF is written in A-Z and 2-7, with dashes")
    return characters


def _grouped(characters: str) -> str:
    return "-".join(characters[at : at + 4] for at in range(0, len(characters), 4))
