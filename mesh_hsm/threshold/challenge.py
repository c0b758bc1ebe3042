"""A verifier's challenge to a key that it cannot see: signed, or answered by agreement.

Open this file to ask a device for proof that a key is at hand, or to answer. A signature key signs
the possession message (hsm-1 §6.5). An agreement key authenticates a fresh point E as in hsm-1 §8,
with two differences: the label, so that no answer serves as the other's, and no ConnectionDevice,
since the question is asked of a bare key. Z is the x (u) coordinate on every curve, so that one
call of an x-only device answers; a device that lies about the rest of the point is not found out
here (hsm-1 §9), only one without the key.

The challenge carries one E for each curve that agrees, because the verifier need not know the key.
Its octets, ``F("mesh-hsm/1 challenge", verifier id, nonce, crv, E, crv, E, …)``, are what a
provider's ``Attests.attest`` takes.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NoReturn, Self

from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mesh_hsm.curves import CURVES, Curve, Point, SecretScalar, XOnly, curve
from mesh_hsm.errors import FormatError, UnsupportedError, VerificationError
from mesh_hsm.framing import F, fields
from mesh_hsm.provider import DeviceKey, Use
from mesh_hsm.threshold.possession import prove_possession, verify_possession

AGREEING: Final = tuple(one for one in CURVES.values() if one.family != "edwards")
"""The curves whose keys agree."""

_LABEL = b"mesh-hsm/1 challenge"
_ANSWER_LABEL = "mesh-hsm/1 possession by agreement"
_NONCE_SIZE = 32
_FINGERPRINT_SIZE = 64


@dataclass(frozen=True, slots=True)
class Challenge:
    """The public part: who asks, a nonce of 32 octets, and at most one E for each curve.

    Raises ``FormatError`` for anything else, ``InvalidPointError`` for an E of small order.
    """

    verifier_id: str
    nonce: bytes
    ephemerals: tuple[Point, ...] = ()

    def __post_init__(self) -> None:
        if not self.verifier_id or not self.verifier_id.isascii():
            raise FormatError("a verifier is named in ASCII")
        if not self.verifier_id.isprintable():
            raise FormatError("a verifier's name is printable")
        if len(self.nonce) != _NONCE_SIZE:
            raise FormatError(f"a challenge has a nonce of {_NONCE_SIZE} octets")
        if len({point.curve.name for point in self.ephemerals}) != len(self.ephemerals):
            raise FormatError("a challenge has one point for each curve")
        for point in self.ephemerals:
            if point.curve not in AGREEING:
                raise FormatError(f"keys on {point.curve.name} do not agree")
            point.check_foreign()

    @classmethod
    def parse(cls, octets: bytes) -> Self:
        """Read ``octets`` again. Raises ``FormatError``, ``UnsupportedError`` for a curve."""
        label, *rest = fields(octets) or [b""]
        if label != _LABEL or len(rest) < 2 or len(rest) % 2:
            raise FormatError("not a challenge")
        try:
            verifier_id, names = (
                rest[0].decode("ascii"),
                [one.decode("ascii") for one in rest[2::2]],
            )
        except UnicodeDecodeError as error:
            raise FormatError("a verifier and a curve are named in ASCII") from error
        points = (curve(name).decode(E) for name, E in zip(names, rest[3::2], strict=True))
        challenge = cls(verifier_id, rest[1], tuple(points))
        if challenge.octets != octets:  # a compressed point
            raise FormatError("not a challenge in its one form")
        return challenge

    @property
    def octets(self) -> bytes:
        """What travels; each E in its full (signed, uncompressed) form."""
        pairs = ((point.curve.name, point.encode()) for point in self.ephemerals)
        return F(_LABEL, self.verifier_id, self.nonce, *(one for pair in pairs for one in pair))

    def answer(self, key: DeviceKey, fingerprint: bytes) -> bytes:
        """What shows that ``key`` is at hand: a signature, or 64 octets of HMAC.

        ``fingerprint`` is the key's 64-octet fp. One call of the device. Raises
        ``UnsupportedError`` where no E is on the key's curve, and what the device raises.
        """
        if key.use is Use.SIGN:
            return prove_possession(key, fingerprint, self.verifier_id, self.nonce)
        E = self.ephemeral(key.public.curve)
        _check_fingerprint(fingerprint)
        shared = key.agree(E)
        Z = shared.octets() if isinstance(shared, XOnly) else shared.agreement_octets()
        return _mac(Z, self, fingerprint, E)

    def ephemeral(self, on: Curve) -> Point:
        """The E of a curve. Raises ``UnsupportedError``."""
        for point in self.ephemerals:
            if point.curve is on:
                return point
        raise UnsupportedError(f"the challenge has no point on {on.name}")


class Verifier:
    """Who asks: the challenge and its secret scalars. Good for one answer.

    Compared by identity, neither pickled nor copied; ``repr`` shows no secret.
    """

    __slots__ = ("_secrets", "_spent", "challenge")

    def __init__(self, verifier_id: str, curves: Sequence[Curve] = AGREEING) -> None:
        """Ask as ``verifier_id`` (DNS name or UDF), of keys that sign or are on one of ``curves``.

        Raises ``FormatError`` for a name that is not printable ASCII, or a curve that stands twice.
        """
        self._secrets = tuple(SecretScalar.random(one) for one in curves)
        self._spent = False
        self.challenge = Challenge(
            verifier_id, secrets.token_bytes(_NONCE_SIZE), tuple(k.public() for k in self._secrets)
        )

    def verify(self, answer: bytes, public: Point, use: Use, fingerprint: bytes) -> None:
        """Return if the key ``public``, of that ``use``, answered; else ``VerificationError``.

        ``fingerprint`` is computed by the verifier from ``public``. Only the first call looks: a
        second answer is refused, right or wrong.
        """
        if self._spent:
            raise VerificationError("this challenge was answered already", hint="ask anew")
        self._spent = True
        if use is Use.SIGN:
            asked = self.challenge
            verify_possession(answer, public, fingerprint, asked.verifier_id, asked.nonce)
            return
        try:
            expected = self._expected(public, fingerprint)
        except (FormatError, UnsupportedError) as error:
            raise VerificationError(f"the challenge is void for this key: {error}") from error
        if not hmac.compare_digest(expected, answer):
            raise VerificationError("the answer to the agreement challenge does not verify")

    def _expected(self, public: Point, fingerprint: bytes) -> bytes:
        E = self.challenge.ephemeral(public.curve)
        _check_fingerprint(fingerprint)
        e = next(k for k in self._secrets if k.curve is public.curve)
        return _mac(e.x_of(public).octets(), self.challenge, fingerprint, E)

    def __repr__(self) -> str:
        return f"<challenge of {self.challenge.verifier_id}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a verifier's challenge is neither pickled nor copied")


def _check_fingerprint(fingerprint: bytes) -> None:
    if len(fingerprint) != _FINGERPRINT_SIZE:
        raise FormatError(f"a fingerprint has {_FINGERPRINT_SIZE} octets")


def _mac(Z: bytes, challenge: Challenge, fingerprint: bytes, E: Point) -> bytes:
    info = F(_ANSWER_LABEL, challenge.verifier_id, fingerprint, challenge.nonce)
    key = HKDF(SHA512(), 64, salt=None, info=info).derive(Z)
    return hmac.digest(key, F(E.encode(), challenge.nonce), hashlib.sha512)
