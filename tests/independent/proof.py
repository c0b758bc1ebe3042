"""Opened for the proof that a combined key contains the device key (hsm-1 §5)."""

from .groups import GROUPS, Group, Point
from .refusal import Refused, malformed, unsupported, unverified
from .rules import F, sha512


def _challenge(
    group: Group, use: str, X: Point, Z: Point, T: Point, profile: bytes, authority: str
) -> int:
    points = [group.encode(P) for P in (X, Z, T)]
    octets = F("mesh-hsm/1 contribution", group.name, use, *points, sha512(profile), authority)
    return int.from_bytes(sha512(octets), group.endian) % group.n


def _statement(group: Group, use: str, X: Point, Z: Point) -> tuple[Point, Point]:
    """Base and claimed multiple: G and Z - X, or X and Z for a signature key."""
    if use == "Signature" and group.endian == "little":
        raise unsupported("a derived key is on a NIST curve")
    difference = group.add(Z, group.negate(X))
    for P in (X, Z, difference):
        group.sound(P)
    if use == "Signature":
        return X, Z
    if use in ("Encryption", "Authentication"):
        return group.base, difference
    raise malformed("no such use")


def prove(
    crv: str, use: str, X: Point, Z: Point, y: int, k: int, profile: bytes, authority: str
) -> bytes:
    """T || s from an explicit k in [1, n)."""
    group = GROUPS[crv]
    base, _ = _statement(group, use, X, Z)
    T = group.multiply(k, base)
    c = _challenge(group, use, X, Z, T, profile, authority)
    s = (k + c * y) % group.n
    return group.encode(T) + s.to_bytes(group.scalar_width, group.endian)


def verify(
    crv: str, use: str, X: Point, Z: Point, proof: bytes, profile: bytes, authority: str
) -> None:
    """Refuse unless the proof shows knowledge of y for exactly this statement."""
    try:
        _verify(GROUPS[crv], use, X, Z, proof, profile, authority)
    except Refused as error:
        raise unverified("the proof is void") from error


def _verify(
    group: Group, use: str, X: Point, Z: Point, proof: bytes, profile: bytes, authority: str
) -> None:
    base, claimed = _statement(group, use, X, Z)
    if len(proof) <= group.scalar_width:
        raise malformed("too short")
    T = group.sound(group.decode(proof[: -group.scalar_width]))
    s = group.scalar(proof[-group.scalar_width :])
    if s >= group.n:
        raise unverified("s is not reduced")
    c = _challenge(group, use, X, Z, T, profile, authority)
    if group.multiply(s, base) != group.add(T, group.multiply(c, claimed)):
        raise unverified("the proof does not verify")
