"""The nouns of envelopes: who can open one, who signs it, what a reader learns from it.

Open this file to see what ``encode`` and ``decode`` take and give. Values only: no octets are made
or read here. dare §2 and hsm-1 §2-§3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from mesh_hsm.curves import Point

JsonObject = dict[str, Any]


@runtime_checkable
class Signer(Protocol):
    """A key that signs. Every ``DeviceKey`` for signatures and every ``DerivedKey`` is one."""

    @property
    def public(self) -> Point:
        """The point under which the signature verifies."""
        ...

    def sign(self, octets: bytes) -> bytes:
        """Sign a digest of the curve's length (ECDSA, r || s) or a message (EdDSA)."""
        ...


@runtime_checkable
class Decryptor(Protocol):
    """A key that agrees. ``CompositeKey`` is one."""

    @property
    def public(self) -> Point:
        """The point that senders encrypt to."""
        ...

    def agreements(self, S: Point) -> Iterable[bytes]:
        """Agreement octets Z that may be right for the ephemeral S, the likeliest first.

        An x-only device leaves a sign open; the key wrap's check value decides (hsm-1 §9).
        """
        ...


@dataclass(frozen=True, slots=True)
class Recipient:
    """Somebody who can open the envelope with one key."""

    public: Point


@dataclass(frozen=True, slots=True)
class DoubleRecipient:
    """Somebody who needs two keys at once; then nobody else is a recipient (hsm-1 §6.3)."""

    device: Point
    once: Point


@dataclass(frozen=True, slots=True)
class DoubleDecryptor:
    """Both keys of a ``DoubleRecipient``."""

    device: Decryptor
    once: Decryptor


@dataclass(frozen=True, slots=True)
class Dialect:
    """A way of writing envelopes. There are two, frozen: ``HSM1`` and ``PUBLISHED``."""

    name: str
    enc: str
    alg: str


HSM1 = Dialect("hsm-1", "A256GCM", "MH1")
PUBLISHED = Dialect("published", "A256CBC", "S512")


@dataclass(frozen=True, slots=True)
class ContentMeta:
    """What the envelope says of its content (dare §2, ``ContentMetaData``).

    ``created`` is RFC 3339 text in UTC. ``other`` keeps members without a name of their own here.
    An unauthenticated ``filename`` never becomes an output path.
    """

    cty: str | None = None
    filename: str | None = None
    created: str | None = None
    unique_id: str | None = None
    message_type: str | None = None
    other: Mapping[str, Any] = field(default_factory=dict)


class SignatureStatus(StrEnum):
    """How far one signature has been checked."""

    VERIFIED = "verified"
    HEADER_NOT_COVERED = "verified, header not covered"
    UNKNOWN_KEY = "key not known"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True, slots=True)
class SignatureReport:
    """One signature. ``fingerprint`` is the 64-octet fp, None where only ``kid`` is known."""

    kid: str
    status: SignatureStatus
    fingerprint: bytes | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What a reader learned, and what it is worth.

    ``form`` is ``hsm-1``, ``published`` or ``plain``; ``enc`` is ``none`` for clear payloads.
    ``authenticated`` is true once tag or signatures of *this run* have vouched for header and
    payload both. ``unprotected`` lists header members whose alteration this form does not detect.
    ``opened_by`` is the ``kid`` of the key that decrypted.
    """

    form: str
    enc: str
    armored: bool = False
    envelope_id: str | None = None
    meta: ContentMeta = field(default_factory=ContentMeta)
    recipients: tuple[str, ...] = ()
    signers: tuple[SignatureReport, ...] = ()
    countersigners: tuple[SignatureReport, ...] = ()
    opened_by: str | None = None
    authenticated: bool = False
    unprotected: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def to_json(self) -> JsonObject:
        """The documented JSON form: what is empty or unknown is left out."""
        shown: JsonObject = {
            "form": self.form,
            "enc": self.enc,
            "armored": self.armored,
            "authenticated": self.authenticated,
            "envelope_id": self.envelope_id,
            "cty": self.meta.cty,
            "filename": self.meta.filename,
            "created": self.meta.created,
            "unique_id": self.meta.unique_id,
            "message_type": self.meta.message_type,
            "recipients": list(self.recipients),
            "signers": [_signature_json(one) for one in self.signers],
            "countersigners": [_signature_json(one) for one in self.countersigners],
            "opened_by": self.opened_by,
            "unprotected": list(self.unprotected),
            "warnings": list(self.warnings),
        }
        return {name: value for name, value in shown.items() if value not in (None, [])}


def _signature_json(one: SignatureReport) -> JsonObject:
    shown = {"kid": one.kid, "status": str(one.status)}
    if one.fingerprint is not None:
        shown["fingerprint"] = one.fingerprint.hex()
    return shown


@dataclass(frozen=True, slots=True)
class Opened:
    """A small envelope, opened."""

    payload: bytes
    report: Report
