"""A public key on the wire, and the check that a person confirmed the right one.

Open this file for ``KeyData`` (schema §1) and for what counts as a confirmed UDF (hsm-1 §6).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from mesh_hsm.curves import Point, curve
from mesh_hsm.dare.strict_json import b64url
from mesh_hsm.errors import FormatError, InvalidPointError, UnsupportedError, VerificationError
from mesh_hsm.mesh.wire import Json, Members
from mesh_hsm.provider import Use
from mesh_hsm.udf import fingerprint, matches, udf_of

CONFIRMED_CHARACTERS: Final = 28
"""140 bits: the form that ``device init`` shows. Shorter forms can be searched for (udf §1)."""

MAX_KEYS: Final = 64
"""In one list. Checking a point takes milliseconds, and is done before any signature."""


@dataclass(frozen=True, slots=True)
class KeyData:
    """A public key with its UDF, which is never taken from the wire but computed."""

    public: Point

    @property
    def udf(self) -> str:
        """The key's UDF at 140 bits, as people see it."""
        return udf_of(self.public)

    def to_json(self) -> dict[str, Json]:
        """``{"Udf":…,"PublicParameters":{"PublicKeyECDH":{"crv":…,"Public":…}}}``.

        ``Public`` is base64url of the full form: NIST 04 || x || y, X25519 33 octets, X448 57.
        """
        key = {"crv": self.public.curve.name, "Public": b64url(self.public.encode())}
        return {"Udf": self.udf, "PublicParameters": {"PublicKeyECDH": key}}

    @classmethod
    def from_json(cls, value: Json, where: str, use: Use) -> KeyData:
        """Read a key that must be able to do ``use``.

        Raises ``FormatError``, ``InvalidPointError``, ``UnsupportedError`` for an unknown curve,
        and ``VerificationError`` if its ``Udf`` is not that of the key.
        """
        members = Members.of(value, where)
        inner = members.inner("PublicParameters").inner("PublicKeyECDH")
        octets = inner.octets("Public")
        public = curve(inner.text("crv")).decode(octets)
        if public.encode() != octets:
            raise FormatError(f"{where} is not in the full uncompressed form")
        check_use(public, use, where)
        key = cls(public)
        if members.text("Udf") != key.udf:
            raise VerificationError(f"the Udf of {where} is not that of its key")
        return key


def read_key(members: Members, name: str, use: Use) -> Point:
    """A member that is a key."""
    return KeyData.from_json(members.any(name), name, use).public


def read_keys(members: Members, name: str, use: Use) -> tuple[Point, ...]:
    """A member that is a list of keys; one key without a list is read too (schema §3.2)."""
    value = members.any(name)
    listed = value if isinstance(value, list) else [value]
    if len(listed) > MAX_KEYS:
        raise FormatError(f"{name} has at most {MAX_KEYS} keys")
    return tuple(KeyData.from_json(one, name, use).public for one in listed)


def check_use(public: Point, use: Use, where: str) -> None:
    """Refuse a curve that cannot do ``use``, and points outside the prime-order subgroup."""
    cannot = "montgomery" if use is Use.SIGN else "edwards"
    if public.curve.family == cannot:
        raise UnsupportedError(f"{where} cannot be a key on {public.curve.name}")
    if public.is_neutral or not public.in_prime_subgroup:
        raise InvalidPointError(f"{where} is neutral or outside the prime-order subgroup")


def check_distinct(keys: Iterable[Point], where: str) -> None:
    """Refuse one key in two roles (a key with two uses is refused)."""
    listed = list(keys)
    if len(set(listed)) != len(listed):
        raise FormatError(f"{where} has one key in two roles")


def confirm(text: str, public: Point) -> None:
    """Check that what a person typed or scanned is the UDF of a key, at 140 bits or more.

    Case, dashes and spaces do not matter. Raises ``VerificationError``; ``FormatError`` for text
    too short to prove anything.
    """
    typed = "".join(text.split()).replace("-", "")
    if len(typed) < CONFIRMED_CHARACTERS:
        raise FormatError(
            f"a UDF is confirmed by all its {CONFIRMED_CHARACTERS} characters",
            hint="compare it with the other device's screen, in full",
        )
    if not matches(fingerprint(public).udf(440), typed):
        raise VerificationError(
            f"the confirmed UDF is not {udf_of(public)}",
            hint="the file may come from another device: compare with that device's own screen",
        )
