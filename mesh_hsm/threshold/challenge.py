"""A verifier's challenge to a key that it cannot see: signed, or answered by agreement.

Open this file to ask a device for proof that a key is at hand, or to answer. A signature key signs
the possession message (hsm-1 §6.5). An agreement key authenticates a fresh point E as in hsm-1 §8,
with two differences: the label, so that no answer serves as the other's, and no ConnectionDevice,
since the question is asked of a bare key. Z is the x (u) coordinate on every curve, so that one
call of an x-only device answers; a device that lies about the rest of the point is not found out
here (hsm-1 §9), only one without the key.

The challenge carries one E for each curve that agrees, because the verifier need not know the key,
and what a family of devices is asked beside that (``Question``): a TPM, to open a credential. Its
octets, ``F("mesh-hsm/1 challenge", verifier id, nonce, crv, E, …, "tpm2:", question, …)``, are what
a provider's ``Attests.attest`` takes.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
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
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*\Z")
_SAVED = b"mesh-hsm/1 verifier"


@dataclass(frozen=True, slots=True)
class Question:
    """What devices of one ``scheme`` are asked beside the rest, and the answer that they owe.

    ``octets`` travel. ``expected`` is the verifier's secret until the answer is in.
    """

    scheme: str
    octets: bytes
    expected: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Challenge:
    """The public part: who asks, a nonce of 32 octets, and at most one E for each curve.

    ``questions`` are pairs of a provider's scheme and octets that its devices understand.

    Raises ``FormatError`` for anything else, ``InvalidPointError`` for an E of small order.
    """

    verifier_id: str
    nonce: bytes
    ephemerals: tuple[Point, ...] = ()
    questions: tuple[tuple[str, bytes], ...] = ()

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
        schemes = [scheme for scheme, _ in self.questions]
        if len(set(schemes)) != len(schemes) or not all(map(_SCHEME.match, schemes)):
            raise FormatError("a challenge has one question for each scheme")

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
        pairs = list(zip(names, rest[3::2], strict=True))
        challenge = cls(
            verifier_id,
            rest[1],
            tuple(curve(name).decode(E) for name, E in pairs if not name.endswith(":")),
            tuple((name[:-1], question) for name, question in pairs if name.endswith(":")),
        )
        if challenge.octets != octets:  # a compressed point, or another order
            raise FormatError("not a challenge in its one form")
        return challenge

    @property
    def octets(self) -> bytes:
        """What travels; each E in its full (signed, uncompressed) form."""
        pairs = [(point.curve.name, point.encode()) for point in self.ephemerals]
        pairs += [(f"{scheme}:", question) for scheme, question in self.questions]
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

    def question(self, scheme: str) -> bytes | None:
        """What devices of this scheme are asked beside the rest; None if nothing."""
        return dict(self.questions).get(scheme)

    def ephemeral(self, on: Curve) -> Point:
        """The E of a curve. Raises ``UnsupportedError``."""
        for point in self.ephemerals:
            if point.curve is on:
                return point
        raise UnsupportedError(f"the challenge has no point on {on.name}")


class Verifier:
    """Who asks: the challenge and its secret scalars. Good for one answer of each key.

    Compared by identity, neither pickled nor copied; ``repr`` shows no secret.
    """

    __slots__ = ("_expects", "_secrets", "_spent", "challenge")

    def __init__(
        self,
        verifier_id: str,
        curves: Sequence[Curve] = AGREEING,
        questions: Sequence[Question] = (),
    ) -> None:
        """Ask as ``verifier_id`` (DNS name or UDF), of keys that sign or are on one of ``curves``.

        Raises ``FormatError`` for a name that is not printable ASCII, for a curve or a scheme that
        stands twice.
        """
        scalars = tuple(SecretScalar.random(one) for one in curves)
        self._set(verifier_id, secrets.token_bytes(_NONCE_SIZE), scalars, tuple(questions))

    def _set(
        self,
        verifier_id: str,
        nonce: bytes,
        scalars: tuple[SecretScalar, ...],
        questions: tuple[Question, ...],
    ) -> None:
        self._secrets = scalars
        self._expects = questions
        self._spent: set[bytes] = set()
        asked = tuple((one.scheme, one.octets) for one in questions)
        self.challenge = Challenge(verifier_id, nonce, tuple(k.public() for k in scalars), asked)

    def saved(self) -> bytes:
        """Everything in secret octets, for an owner-only file that ``restored`` reads.

        Whoever restores it removes the file first: a challenge is answered once.
        """
        scalars = ((k.curve.name, k.curve.scalar_octets(k.value)) for k in self._secrets)
        questions = ((one.scheme, one.octets, one.expected) for one in self._expects)
        challenge = self.challenge
        return F(
            _SAVED,
            challenge.verifier_id,
            challenge.nonce,
            F(*(part for pair in scalars for part in pair)),
            F(*(part for triple in questions for part in triple)),
        )

    @classmethod
    def restored(cls, octets: bytes) -> Self:
        """The verifier that ``saved`` gave. Raises ``FormatError``, ``UnsupportedError``."""
        label, *rest = fields(octets) or [b""]
        if label != _SAVED or len(rest) != 4:
            raise FormatError("not a saved challenge")
        scalars, asked = fields(rest[2]), fields(rest[3])
        if len(scalars) % 2 or len(asked) % 3:
            raise FormatError("not a saved challenge")
        try:
            names = [one.decode("ascii") for one in (rest[0], *scalars[::2], *asked[::3])]
        except UnicodeDecodeError as error:
            raise FormatError("not a saved challenge") from error
        curves = [curve(name) for name in names[1 : 1 + len(scalars) // 2]]
        schemes = names[1 + len(curves) :]
        again = cls.__new__(cls)
        again._set(
            names[0],
            rest[1],
            tuple(
                SecretScalar(on, on.scalar(k)) for on, k in zip(curves, scalars[1::2], strict=True)
            ),
            tuple(map(Question, schemes, asked[1::3], asked[2::3])),
        )
        return again

    def expected(self, scheme: str) -> bytes | None:
        """What a device of this scheme owes for its question; None if nothing was asked."""
        return next((one.expected for one in self._expects if one.scheme == scheme), None)

    def verify(self, answer: bytes, public: Point, use: Use, fingerprint: bytes) -> None:
        """Return if the key ``public``, of that ``use``, answered; else ``VerificationError``.

        ``fingerprint`` is computed by the verifier from ``public``. Only the first call for a key
        looks: a second answer is refused, right or wrong.
        """
        if fingerprint in self._spent:
            raise VerificationError("this challenge was answered already", hint="ask anew")
        self._spent.add(fingerprint)
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
