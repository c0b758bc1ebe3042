"""Two of three: a key dealt so that any two holders complete it, no one alone (threshold §4).

Open this file for which part is whose. The holders are A, B and C; the key k is split twice:

    A {a}    B {k - a, b}    C {k - a, k - b}

so that AB and AC add up a and k - a, BC adds up b and k - b. Parts of different splits add up to
nothing: every part therefore has a ``Place``, and pairs are formed by place alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from mesh_hsm.curves import Curve, Point, SecretScalar, XOnly
from mesh_hsm.custody import CustodyStatement
from mesh_hsm.errors import DeviceError, FormatError, InvalidPointError, VerificationError
from mesh_hsm.provider import DeviceKey, Use
from mesh_hsm.threshold.additive import combine
from mesh_hsm.threshold.composite import CompositeKey
from mesh_hsm.threshold.lagrange import split

HOLDERS: Final = ("A", "B", "C")
PAIRS: Final = ("AB", "AC", "BC")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a part belongs: who holds it, and the pairs that it serves. As text, ``AB+AC``."""

    holder: str
    pairs: tuple[str, ...]

    def __str__(self) -> str:
        return "+".join(self.pairs)


PLACES: Final = (
    Place("A", ("AB", "AC")),
    Place("B", ("AB",)),
    Place("B", ("BC",)),
    Place("C", ("AC",)),
    Place("C", ("BC",)),
)
"""Every part there is. B's ``AB`` and C's ``AC`` are one scalar, k - a, in two devices."""


@dataclass(frozen=True, slots=True)
class Dealt:
    """What a dealer has in memory until every part is in its device: the whole key."""

    public: Point
    parts: Mapping[Place, SecretScalar] = field(repr=False)

    def publics(self) -> dict[Place, Point]:
        """The public point of every part."""
        return {place: part.public() for place, part in self.parts.items()}


def places_of(holder: str) -> tuple[Place, ...]:
    """The parts of one holder."""
    return tuple(place for place in PLACES if place.holder == holder)


def places_in(pair: str) -> tuple[Place, Place]:
    """The two parts that complete the key for a pair, in the order of its letters."""
    one, other = (place for place in PLACES if pair in place.pairs)
    return one, other


def deal(curve: Curve) -> Dealt:
    """Draw k, a and b, uniform mod n, and lay out the five parts.

    Raises ``InvalidPointError`` with a probability below 2^-120, for parts that ``check_parts``
    refuses, and ``UnsupportedError`` for a curve whose scalars are not multiplied here.
    """
    k = SecretScalar.random(curve)
    a, without_a, b, without_b = (
        SecretScalar(curve, part) for part in (*split(curve, k.value, 2), *split(curve, k.value, 2))
    )
    dealt = Dealt(
        k.public(), dict(zip(PLACES, (a, without_a, b, without_a, without_b), strict=True))
    )
    check_parts(dealt.public, dealt.publics())
    return dealt


def check_parts(public: Point, parts: Mapping[Place, Point]) -> None:
    """Return if every pair's parts add up to ``public`` and no holder's are worth it alone.

    Raises ``FormatError`` where a part is missing, ``VerificationError`` for a sum that is wrong,
    ``InvalidPointError`` for points as in ``combine``, for parts that differ by no more than a
    sign, and for a holder who needs nobody. A dealer who means harm knows k anyway.
    """
    if parts.keys() != set(PLACES):
        raise FormatError("a 2-of-3 key has five parts, each in its place")
    for pair in PAIRS:
        if combine([parts[place] for place in places_in(pair)]) != public:
            raise VerificationError(f"the parts of {pair} do not add up to the key")
    # B's and C's k - a are one part by now. An x-only device does not tell P from -P.
    if len({point.x for point in (public, *parts.values())}) != len(PLACES):
        raise InvalidPointError("two parts of the key are the same, or one is the key")
    for holder in HOLDERS[1:]:
        P, Q = (parts[place] for place in places_of(holder))
        if not {P + Q, P - Q}.isdisjoint({public, -public}):
            raise InvalidPointError(f"{holder} needs nobody else")


class PartKey(DeviceKey):
    """A device's key as the part that it is on record as.

    A device that answers with u alone may show its public key with either sign (threshold §10); the
    record has the right one. Raises ``VerificationError`` for another key.
    """

    def __init__(self, held: DeviceKey, part: Point) -> None:
        same = (part, -part) if part.curve.family == "montgomery" else (part,)
        if held.public not in same:
            raise VerificationError(
                "this key is another than the part on record", uri=str(held.uri)
            )
        self.uri, self.label, self.use = held.uri, held.label, held.use
        self.public = part
        self._held = held

    def custody(self) -> CustodyStatement:
        """What the device says of it now."""
        return self._held.custody()

    def check_possession(self, part: SecretScalar) -> None:
        """Return if the device multiplies by this very scalar: what a dealer asks before he files.

        Raises ``DeviceError``, and what ``DeviceKey.agree`` raises.
        """
        S = SecretScalar.random(part.curve).public()
        if self.agree(S).x != part.x_of(S).x:
            raise DeviceError("the device does not hold the part it was given", uri=str(self.uri))

    def _agree(self, point: Point) -> Point | XOnly:
        answer = self._held.agree(point)
        opposite = self._held.public != self.public
        return -answer if opposite and isinstance(answer, Point) else answer


def pair_key(
    public: Point, parts: Mapping[Place, Point], held: Mapping[Place, DeviceKey]
) -> CompositeKey:
    """The whole key, from the two parts of one pair: ``held`` has these and no other.

    Raises ``FormatError`` for parts of different pairs, ``VerificationError`` for another key.
    """
    if not any(held.keys() == set(places_in(pair)) for pair in PAIRS):
        raise FormatError("these parts belong to no one pair: added, they are no key")
    shares = [PartKey(key, parts[place]) for place, key in held.items()]
    return CompositeKey(public, Use.ENCRYPT, shares)
