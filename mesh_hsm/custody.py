"""Who holds a key and what that is worth: one structure for JSON, profiles and ``key show``.

Open this file to see what mesh-hsm claims about a key and how shares add up (hsm-1 §4). Every
statement about a device's key is read back from the device by its provider, never assumed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, TypeVar, get_type_hints

from mesh_hsm.errors import FormatError

T = TypeVar("T")


class CustodyClass(StrEnum):
    """What has to happen for the private key to leave. hsm-1 §4; strongest first."""

    GENERATED = "generated"
    IMPORTED = "imported"
    SEALED = "sealed"
    SOFTWARE = "software"
    EXPORTABLE = "exportable"
    UNKNOWN = "unknown"

    @property
    def weakness(self) -> int:
        """0 for the strongest class, rising."""
        return list(CustodyClass).index(self)


class Hardware(StrEnum):
    """How we know that there is hardware at all. A simulator reports what hardware reports."""

    ATTESTED = "attested"
    CLAIMED = "claimed"
    SIMULATOR = "simulator"
    NONE = "none"


class PinPolicy(StrEnum):
    """When the device asks for a PIN."""

    NONE = "none"
    ONCE = "once"
    ALWAYS = "always"


class TouchPolicy(StrEnum):
    """When the device waits for somebody to touch it; ``cached``: a touch counts for a while."""

    NONE = "none"
    ALWAYS = "always"
    CACHED = "cached"


@dataclass(frozen=True, slots=True)
class DictionaryAttack:
    """What a device does against guessing. Times in seconds."""

    protected: bool
    max_tries: int
    recovery_seconds: int
    lockout_recovery_seconds: int
    lockout_auth_set: bool

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            if type(getattr(self, name)) is not kind:
                raise FormatError(f"dictionary_attack: {name} is no {kind.__name__}")


@dataclass(frozen=True, slots=True)
class CustodyStatement:
    """What is known of one private key or share.

    ``known_by`` names who else has known it (dealer, administrator); empty means nobody.
    ``pcrs`` are the PCR indices of bank ``pcr_bank`` that must not change. ``notes`` are sentences
    for people: limits and warnings that belong to this very key.
    """

    custody: CustodyClass
    hardware: Hardware
    device: str
    firmware: str | None = None
    pin: PinPolicy = PinPolicy.NONE
    touch: TouchPolicy = TouchPolicy.NONE
    pcrs: tuple[int, ...] = ()
    pcr_bank: str | None = None
    dictionary_attack: DictionaryAttack | None = None
    known_by: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The documented JSON form; members that say nothing are left out.

        ``known_by`` always stands there, since an empty list says something: nobody else.
        """
        return {
            name: value
            for name, value in asdict(self).items()
            if value not in (None, (), TouchPolicy.NONE) or name in _ALWAYS_SAID
        }

    @classmethod
    def from_json(cls, value: Any) -> CustodyStatement:
        """Read what somebody else states; members not known here are ignored. ``FormatError``."""
        try:
            attack = value.get("dictionary_attack")
            statement = cls(
                CustodyClass(value["custody"]),
                Hardware(value["hardware"]),
                value["device"],
                firmware=value.get("firmware"),
                pin=PinPolicy(value.get("pin", "none")),
                touch=TouchPolicy(value.get("touch", "none")),
                pcrs=_tuple_of(int, value.get("pcrs", [])),
                pcr_bank=value.get("pcr_bank"),
                dictionary_attack=None if attack is None else DictionaryAttack(**attack),
                known_by=_tuple_of(str, value["known_by"]),
                notes=_tuple_of(str, value.get("notes", [])),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise FormatError("a malformed custody statement") from error
        maybe = (one for one in (statement.firmware, statement.pcr_bank) if one is not None)
        if any(type(one) is not str for one in (statement.device, *maybe)):
            raise FormatError("a malformed custody statement")
        return statement


_ALWAYS_SAID = frozenset({"custody", "hardware", "pin", "known_by"})


@dataclass(frozen=True, slots=True)
class CompositeCustody:
    """What a key made of shares is worth, and why (hsm-1 §4).

    ``theft`` is the class of the share that a thief still has to take; ``loss`` that of the share
    most easily lost. ``threshold`` t of ``len(shares)`` are needed to use the key. ``proved`` only
    where proof of contribution and countersignature have been verified (hsm-1 §5).
    """

    shares: tuple[CustodyStatement, ...]
    threshold: int
    theft: CustodyClass
    loss: CustodyClass
    proved: bool = False

    @classmethod
    def additive(cls, shares: tuple[CustodyStatement, ...], threshold: int) -> CompositeCustody:
        """A sum: the strongest among its t weakest shares; all of them for n-of-n.

        Raises ``FormatError`` unless 1 <= threshold <= number of shares.
        """
        if not 1 <= threshold <= len(shares):
            raise FormatError("a threshold lies between 1 and the number of shares")
        weakest_first = sorted(shares, key=lambda s: s.custody.weakness, reverse=True)
        theft = weakest_first[threshold - 1].custody
        return cls(shares, threshold, theft, _most_fragile(shares))

    @classmethod
    def derived(cls, device: CustodyStatement, factor: CustodyStatement) -> CompositeCustody:
        """Derived ECDSA: the device's share alone, since the device learns the factor."""
        return cls((device, factor), 2, device.custody, _most_fragile((device, factor)))

    def to_json(self) -> dict[str, Any]:
        """The documented JSON form."""
        return {
            "theft": self.theft,
            "loss": self.loss,
            "threshold": self.threshold,
            "composite": "proved" if self.proved else "claimed, not proved",
            "shares": [share.to_json() for share in self.shares],
        }


def _tuple_of(kind: type[T], value: Any) -> tuple[T, ...]:
    if type(value) is not list or any(type(one) is not kind for one in value):
        raise TypeError
    return tuple(value)


def _most_fragile(shares: tuple[CustodyStatement, ...]) -> CustodyClass:
    """What cannot be copied is lost most easily; of ``unknown`` nobody can say that it can."""
    return min((share.custody for share in shares), key=_FRAGILE_FIRST.index)


_FRAGILE_FIRST = (
    CustodyClass.GENERATED,
    CustodyClass.IMPORTED,
    CustodyClass.SEALED,
    CustodyClass.UNKNOWN,
    CustodyClass.SOFTWARE,
    CustodyClass.EXPORTABLE,
)
