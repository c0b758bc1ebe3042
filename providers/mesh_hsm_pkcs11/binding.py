"""What python-pkcs11 lacks and gets from us: numbers it does not know, attributes left as they are.

Open this file for the PKCS #11 constants that we use, or when the binding chokes on a module's
answer. Numbers are those of PKCS #11 v3.0.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from enum import IntEnum
from struct import Struct
from struct import error as StructError  # noqa: N812  it is one
from typing import Any, Final, Protocol, TypeVar

from pkcs11 import Attribute, KeyType, Mechanism
from pkcs11.attributes import AttributeMapper, handle_ulong

from mesh_hsm_pkcs11.structures import Template

E = TypeVar("E", bound=IntEnum)


class Kind(IntEnum):
    """CK_KEY_TYPE."""

    RSA = 0x00
    EC = 0x03
    GENERIC_SECRET = 0x10
    AES = 0x1F
    EC_EDWARDS = 0x40
    EC_MONTGOMERY = 0x41


class Mech(IntEnum):
    """CK_MECHANISM_TYPE."""

    RSA_PKCS_KEY_PAIR_GEN = 0x0000
    RSA_PKCS_OAEP = 0x0009
    EC_KEY_PAIR_GEN = 0x1040
    ECDSA = 0x1041
    ECDH1_DERIVE = 0x1050
    EC_EDWARDS_KEY_PAIR_GEN = 0x1055
    EC_MONTGOMERY_KEY_PAIR_GEN = 0x1056
    EDDSA = 0x1057
    AES_KEY_WRAP_PAD = 0x210A
    AES_KEY_WRAP_KWP = 0x210B


def mechanism(number: int) -> Mechanism:
    """A mechanism as the binding wants it, known to it or not."""
    return _forced(Mechanism, number)


def key_type(number: int) -> KeyType:
    """A key type as the binding wants it, known to it or not."""
    return _forced(KeyType, number)


def _forced(kind: type[E], number: int) -> E:
    try:
        return kind(number)
    except ValueError:
        # The binding insists on its own class and packs the integer: a member beside the list.
        member = int.__new__(kind, number)
        member._name_, member._value_ = f"x{number:X}", number
        return member


class _Mapper(AttributeMapper):
    """Attributes as they are: no enumeration that a newer module could overflow.

    Templates are ours alone: the binding adds nothing of its own to them.
    """

    def __init__(self) -> None:
        super().__init__()
        for attribute in (Attribute.CLASS, Attribute.KEY_TYPE, Attribute.KEY_GEN_MECHANISM):
            self.attribute_types[attribute] = handle_ulong
        self.attribute_types[Attribute.LABEL] = (
            lambda text: str(text).encode("utf-8"),
            lambda octets: octets.decode("utf-8", "replace"),
        )
        self.attribute_types[Attribute.ALLOWED_MECHANISMS] = (_pack_numbers, _unpack_numbers)

    def _nothing(self, *_: Any, **__: Any) -> dict[Attribute, Any]:
        return {}

    public_key_template = private_key_template = secret_key_template = generic_key_template = (
        _nothing
    )


def _pack_numbers(numbers: Iterable[int]) -> bytes:
    return b"".join(_ULONG.pack(number) for number in numbers)


def _unpack_numbers(octets: bytes) -> tuple[int, ...]:
    return tuple(number for (number,) in _ULONG.iter_unpack(octets))


_ULONG: Final = Struct("L")
MAPPER: Final[AttributeMapper] = _Mapper()


def packed(template: Mapping[Attribute, Any]) -> Template:
    """A template for the calls that do not go through the binding."""
    octets = {int(name): MAPPER.pack_attribute(name, value) for name, value in template.items()}
    return Template(octets)


class Handle(Protocol):
    """An object in a session of ours (``objects.Handle``), as far as reading it is concerned."""

    def octets(self, wanted: Sequence[int]) -> dict[int, bytes]:
        """Those attributes that the token tells."""
        ...


def read(thing: Handle, wanted: Sequence[Attribute]) -> dict[Attribute, Any]:
    """Those attributes that the token tells; the others are left out."""
    told: dict[Attribute, Any] = {}
    for number, octets in thing.octets(wanted).items():
        with suppress(StructError, ValueError):  # of another size than the standard's
            told[Attribute(number)] = MAPPER.unpack_attributes(Attribute(number), octets)
    return told
