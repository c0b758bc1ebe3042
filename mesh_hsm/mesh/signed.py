"""A Mesh object together with the envelope whose signatures vouch for it.

Open this file to see how objects are signed and read back, and what is checked on every read: the
signatures (hsm-1 §3), exactly one signer, and that ``MessageType`` and ``EnvelopeId`` fit the
payload (schema §1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha512
from typing import Any, ClassVar, Final, Generic, Protocol, Self, TypeVar

from mesh_hsm import dare
from mesh_hsm.curves import Point
from mesh_hsm.dare import ContentMeta, Signer
from mesh_hsm.dare.strict_json import compact, parse
from mesh_hsm.errors import CannotVerifyError, FormatError, VerificationError
from mesh_hsm.mesh.wire import Json, Members, decode, encode, to_time
from mesh_hsm.udf import fingerprint

Envelope = list[Any]
"""A DARE envelope in text form: the JSON array ``[header, payload, trailer]``."""

CONTENT_TYPE: Final = "application/mmm/object"
ENVELOPE_LIMIT: Final = 1 << 21  # twice the largest payload


class MeshObject(Protocol):
    """What every signed object can do: name itself, be written, be read."""

    TAG: ClassVar[str]

    @property
    def envelope_id(self) -> str:
        """The ``EnvelopeId`` of its envelope: the UDF of whom it is about."""
        ...

    def members(self) -> dict[str, Json]:
        """Its members on the wire."""
        ...

    @classmethod
    def read(cls, members: Members) -> Self:
        """The object again. Raises ``FormatError`` and ``VerificationError``."""
        ...


T = TypeVar("T")
O = TypeVar("O", bound=MeshObject)  # noqa: E741  O for object, beside T


@dataclass(frozen=True, slots=True)
class Signed(Generic[T]):
    """``value`` was read from ``envelope`` after its signatures were verified.

    ``digest`` is SHA-512 of the payload octets, by which other objects refer to this one.
    ``signer`` vouches for it, by its signature or as ``Vouched`` says; ``countersigners`` were
    added to it later and verified.
    """

    value: T
    envelope: Envelope
    digest: bytes
    signer: Point
    countersigners: tuple[Point, ...] = ()

    @property
    def text(self) -> bytes:
        """The envelope as a file's content."""
        return compact(self.envelope) + b"\n"


@dataclass(frozen=True, slots=True)
class Vouched:
    """``by`` answers for the payload of SHA-512 ``digest`` elsewhere: its signer need not be known.

    The protected header is covered then only by countersigners, if there are any.
    """

    digest: bytes
    by: Point


def seal_object(
    value: MeshObject,
    signer: Signer,
    now: datetime,
    *,
    recipients: Sequence[dare.Recipient | dare.DoubleRecipient] = (),
) -> Envelope:
    """Write an object, encrypted if it has recipients, and signed."""
    meta = ContentMeta(cty=CONTENT_TYPE, message_type=value.TAG, created=to_time(now))
    return dare.seal(
        encode(value.TAG, value.members()),
        recipients=recipients,
        signers=[signer],
        meta=meta,
        envelope_id=value.envelope_id,
    )


def sign_object(value: O, signer: Signer, now: datetime) -> Signed[O]:
    """Write and sign an object, and read it back: nothing leaves that we would not accept."""
    return open_object(seal_object(value, signer, now), type(value), [signer.public])


def open_object(
    envelope: Envelope | bytes,
    kind: type[O],
    signers: Iterable[Point],
    *,
    keys: Sequence[dare.Decryptor | dare.DoubleDecryptor] = (),
    countersigners: Iterable[Point] = (),
    vouched: Vouched | None = None,
    why: str = "",
) -> Signed[O]:
    """Verify and read an object that one of ``signers`` must have signed, and nobody else.

    ``keys`` open an encrypted one. Of ``countersigners`` those whose signature is there are
    reported. Where its one signer is unknown, ``vouched`` stands in if it is for this very
    payload. ``why`` is said of a wrong signer. Raises ``VerificationError``, ``FormatError``,
    ``DecryptionError``.
    """
    envelope = as_envelope(envelope)
    allowed = {fingerprint(public).octets: public for public in signers}
    others = {fingerprint(public).octets: public for public in countersigners}
    try:
        opened = dare.unseal(
            envelope,
            keys=keys,
            trusted=others | allowed,
            allow_unknown_signers=vouched is not None,
        )
    except CannotVerifyError as error:  # we know who may sign, so an unknown key is a wrong one
        raise _wrong_signer(kind, why) from error
    report = opened.report
    digest = sha512(opened.payload).digest()
    signer = _signer(report.signers, allowed, digest, vouched)
    if signer is None:
        raise _wrong_signer(kind, why)
    value = kind.read(decode(opened.payload, kind.TAG))
    if report.meta.message_type != kind.TAG or report.meta.cty != CONTENT_TYPE:
        raise VerificationError(f"the envelope does not say that it holds a {kind.TAG}")
    if report.envelope_id != value.envelope_id:
        raise VerificationError(f"the EnvelopeId is not that of the {kind.TAG} in it")
    counter = tuple(others[one] for one in _verified(report.countersigners) if one in others)
    return Signed(value, envelope, digest, signer, counter)


def open_claimed(
    envelope: Envelope | bytes, kind: type[O], signers: Callable[[O], Iterable[Point]]
) -> Signed[O]:
    """Verify an object by keys that it names itself: that makes it consistent, not trusted."""
    envelope = as_envelope(envelope)
    claimed = kind.read(decode(dare.peek_payload(envelope), kind.TAG))
    return open_object(envelope, kind, signers(claimed))


def as_envelope(envelope: Envelope | bytes) -> Envelope:
    """The JSON array, from a file's content if need be, of an envelope in the form of hsm-1.

    Published forms, whose metadata nothing protects, are no Mesh objects. ``FormatError``.
    """
    value = parse(envelope, ENVELOPE_LIMIT) if isinstance(envelope, bytes) else envelope
    match value:
        case [{"protected": _}, _, _]:
            return list(value)
    raise FormatError("not a signed object in the text form of hsm-1")


def _signer(
    signatures: Sequence[dare.SignatureReport],
    allowed: Mapping[bytes, Point],
    digest: bytes,
    vouched: Vouched | None,
) -> Point | None:
    """Who answers for an object with these required signatures, of which there must be one.

    A countersigner is trusted to add a signature, not to be the signer.
    """
    if len(signatures) != 1:
        return None
    if verified := _verified(signatures):
        return allowed.get(verified[0])
    return vouched.by if vouched is not None and vouched.digest == digest else None


def _verified(signatures: Iterable[dare.SignatureReport]) -> list[bytes]:
    """Fingerprints of those who signed payload and header both."""
    status = dare.SignatureStatus.VERIFIED
    return [one.fingerprint for one in signatures if one.status is status and one.fingerprint]


def _wrong_signer(kind: type[MeshObject], why: str) -> VerificationError:
    return VerificationError(f"this {kind.TAG} is not signed by whom it has to be{why}")
