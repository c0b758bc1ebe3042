"""How this token wants to be spoken to: found by asking it, remembered, never looked up by vendor.

Open this file when a token that should do a curve does not. Two modules rarely agree on the key
type of X25519, on the name of a curve or on which attributes they know, and a mechanism list tells
none of it. So each curve is tried with a session key, which leaves no trace on the token.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from pkcs11 import Attribute, MechanismFlag, Slot
from pkcs11.exceptions import PKCS11Error

from mesh_hsm.curves import Point
from mesh_hsm.custody import CustodyClass
from mesh_hsm.provider import Use
from mesh_hsm_pkcs11.binding import Kind, Mech
from mesh_hsm_pkcs11.curve_forms import OIDS, OTHER_NAMES, PRINTABLE
from mesh_hsm_pkcs11.operations import WAYS, Way
from mesh_hsm_pkcs11.sessions import Sessions


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a key pair of a curve is made: its key type, the mechanism, the curve's name."""

    kind: Kind
    mechanism: Mech
    parameters: bytes


def _recipes(name: str) -> Iterator[Recipe]:
    if name.startswith("P-"):
        yield Recipe(Kind.EC, Mech.EC_KEY_PAIR_GEN, OIDS[name])
        return
    edwards = (Kind.EC_EDWARDS, Mech.EC_EDWARDS_KEY_PAIR_GEN)
    montgomery = (Kind.EC_MONTGOMERY, Mech.EC_MONTGOMERY_KEY_PAIR_GEN)
    own = edwards if name.startswith("Ed") else montgomery
    kinds = (own,) if own == edwards else (own, edwards)  # 3.0's way, then what came before it
    for kind in kinds:
        for parameters in (OIDS[name], PRINTABLE[name]):
            yield Recipe(*kind, parameters)
    if own == montgomery:
        for parameters in (*OTHER_NAMES.get(name, ()), OIDS[name]):
            yield Recipe(Kind.EC, Mech.EC_KEY_PAIR_GEN, parameters)


RECIPES: Final = {name: tuple(_recipes(name)) for name in OIDS}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an algorithm and use cannot be had. Found without a login, it may yet turn out wrong."""

    reason: str
    final: bool


@dataclass(slots=True)
class Dialect:
    """What has been found out about one token in this process.

    Of an algorithm and whether it signs, ``refusals`` say why it cannot be had, ``proved`` that it
    was seen to work, with a key of the class in ``custody``; what is in neither is unknown.
    ``left_out`` are attributes that the token will not be told of session keys (False) and of
    stored ones (True), once that is known; ``trying`` is held while something is tried;
    ``no_trials`` has False if it makes no session keys before a login, True if none after one.
    ``der_points`` tells by curve whether public points come in an OCTET STRING; keys of the curves
    in ``not_unwrapped`` enter the token in the clear only. ``halves`` are CKA_IDs and public keys
    that were seen to belong together; ``asks`` tells by CKA_ID whether a key that was not made here
    wants its PIN each time.
    """

    sessions: Sessions
    recipes: dict[str, Recipe] = field(default_factory=dict)
    ways: dict[str, Way] = field(default_factory=dict)
    left_out: dict[bool, frozenset[Attribute]] = field(default_factory=dict)
    proved: set[tuple[str, bool]] = field(default_factory=set)
    custody: dict[tuple[str, bool], CustodyClass] = field(default_factory=dict)
    refusals: dict[tuple[str, bool], Refusal] = field(default_factory=dict)
    no_trials: set[bool] = field(default_factory=set)
    der_points: dict[str, bool] = field(default_factory=dict)
    not_unwrapped: set[str] = field(default_factory=set)
    halves: set[tuple[bytes, Point]] = field(default_factory=set)
    asks: dict[bytes, bool] = field(default_factory=dict)
    trying: threading.RLock = field(default_factory=threading.RLock)
    _listed: dict[int, tuple[MechanismFlag, int, int]] | None = None

    @classmethod
    def of(cls, sessions: Sessions) -> Dialect:
        """The dialect of a token; nothing is asked yet."""
        if sessions.dialect is None:
            sessions.dialect = cls(sessions)
        return sessions.dialect

    @property
    def mechanisms(self) -> dict[int, tuple[MechanismFlag, int, int]]:
        """Flags and key sizes by mechanism, asked the first time: to use a key nobody needs them.

        The token's errors pass through.
        """
        if self._listed is None:
            self._listed = _mechanisms(self.sessions)
        return self._listed

    def told_without(self, *, token: bool) -> frozenset[Attribute]:
        """The attributes to leave out, as far as is known: of such keys, or of the other kind."""
        return self.left_out.get(token, self.left_out.get(not token, frozenset()))

    def recipes_for(self, name: str) -> tuple[Recipe, ...]:
        """The recipes worth trying: the one that worked, else those whose mechanism is listed."""
        if name in self.recipes:
            return (self.recipes[name],)
        return tuple(r for r in RECIPES[name] if r.mechanism in self.mechanisms)

    def ways_for(self, name: str) -> tuple[Way, ...]:
        """The ways of asking for an agreement: the one that worked, else all."""
        return (self.ways[name],) if name in self.ways else WAYS

    def unwraps(self, number: Mech) -> bool:
        """Whether the mechanism list has this one, for unwrapping keys."""
        return bool(self.mechanisms.get(number, _NONE)[0] & MechanismFlag.UNWRAP)

    def lists(self, name: str, use: Use) -> bool:
        """Whether the mechanism list allows for it; what it promises, it may still not keep."""
        if not self.recipes_for(name):
            return False
        if use is not Use.SIGN:
            return Mech.ECDH1_DERIVE in self.mechanisms and not name.startswith("Ed")
        if name.startswith("X"):
            return False
        return (Mech.EDDSA if name.startswith("Ed") else Mech.ECDSA) in self.mechanisms

    def standard(self, name: str, use: Use) -> bool:
        """Whether the list promises it in PKCS #11 v3.0's own way, sizes included."""
        if not self.lists(name, use):
            return False
        recipe, bits = RECIPES[name][0], _BITS[name]
        if recipe.mechanism not in self.mechanisms:
            return False
        _, smallest, largest = self.mechanisms[recipe.mechanism]
        return smallest <= bits <= largest


_NONE: Final = (MechanismFlag(0), 0, 0)
_BITS: Final = {
    "P-256": 256,
    "P-384": 384,
    "P-521": 521,
    "X25519": 255,
    "Ed25519": 255,
    "X448": 448,
    "Ed448": 448,
}


def _mechanisms(sessions: Sessions) -> dict[int, tuple[MechanismFlag, int, int]]:
    with sessions.module.turn():
        return _ask_mechanisms(sessions.token().slot)


def _ask_mechanisms(slot: Slot) -> dict[int, tuple[MechanismFlag, int, int]]:
    found: dict[int, tuple[MechanismFlag, int, int]] = {}
    known = {int(number) for number in Mech}
    for number in slot.get_mechanisms():
        if int(number) not in known:
            continue
        try:
            info = slot.get_mechanism_info(number)
        except PKCS11Error:
            continue
        sizes = (info.min_key_length or 0, info.max_key_length or 0)
        found[int(number)] = (MechanismFlag(info.flags), *sizes)
    return found
