"""P, the protected header of hsm-1 §2: every statement that an envelope makes, as one octet string.

Open this file for its members. P is both the GCM's additional data and what signatures cover;
nothing outside it is believed but the ciphertext and the signatures themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mesh_hsm.dare import suite
from mesh_hsm.dare.model import ContentMeta, JsonObject
from mesh_hsm.dare.recipients import check_entries
from mesh_hsm.dare.strict_json import (
    b64url,
    compact,
    parse_object,
    require_members,
    un_b64url,
)
from mesh_hsm.errors import FormatError

VERSION: Final = "hsm-1"
NONE: Final = "none"
DIG: Final = "S512"
FINGERPRINT_SIZE: Final = 64
MAX_SIGNERS: Final = 64

_COMMON = frozenset({"v", "enc", "EnvelopeId", "ContentMetaData"})
_ENCRYPTED = frozenset({"Salt", "Commit", "recipients"})
_OPTIONAL = frozenset({"SequenceInfo", "signers"})
_META = {
    "cty": "cty",
    "Filename": "filename",
    "Created": "created",
    "UniqueId": "unique_id",
    "MessageType": "message_type",
}


@dataclass(frozen=True, slots=True)
class Protected:
    """The members of P. ``signers`` are the 64-octet fp of everybody who must have signed."""

    envelope_id: str
    meta: ContentMeta = field(default_factory=ContentMeta)
    salt: bytes = b""
    commit: bytes = b""
    recipients: tuple[JsonObject, ...] = ()
    signers: tuple[bytes, ...] = ()
    sequence_info: JsonObject | None = None

    @property
    def enc(self) -> str:
        """``A256GCM``, or ``none`` for an envelope that is only signed."""
        return suite.ENC if self.recipients else NONE

    def text(self) -> str:
        """P: base64url of the JSON object."""
        members: JsonObject = {
            "v": VERSION,
            "enc": self.enc,
            "EnvelopeId": self.envelope_id,
            "ContentMetaData": meta_text(self.meta),
        }
        if self.sequence_info is not None:
            members["SequenceInfo"] = self.sequence_info
        if self.recipients:
            members["Salt"] = b64url(self.salt)
            members["Commit"] = b64url(self.commit)
            members["recipients"] = list(self.recipients)
        if self.signers:
            members["signers"] = [b64url(one) for one in self.signers]
        return b64url(compact(members))

    def header(self) -> JsonObject:
        """The envelope's header around P."""
        header: JsonObject = {"enc": suite.ENC} if self.recipients else {}
        if self.signers:
            header["dig"] = DIG
        return {**header, "protected": self.text()}


def read_protected(header: Mapping[str, Any]) -> Protected:
    """Read a header that has ``protected``. ``FormatError`` for anything but hsm-1's form."""
    octets = un_b64url(header["protected"], "protected")
    members = parse_object(octets)
    if members.get("v") != VERSION:
        raise FormatError("this version of the protected header is not known")
    encrypted = members.get("enc") == suite.ENC
    if not encrypted and members.get("enc") != NONE:
        raise FormatError("the protected header's enc is neither A256GCM nor none")
    required = _COMMON | _ENCRYPTED if encrypted else _COMMON
    require_members(members, "the protected header", required, _OPTIONAL)
    if not isinstance(members["EnvelopeId"], str):
        raise FormatError("EnvelopeId is not text")
    sequence_info = members.get("SequenceInfo")
    if "SequenceInfo" in members and not isinstance(sequence_info, dict):
        raise FormatError("SequenceInfo is not an object")
    protected = Protected(
        envelope_id=members["EnvelopeId"],
        meta=read_meta(members["ContentMetaData"]),
        salt=un_b64url(members["Salt"], "Salt", suite.SALT_SIZE) if encrypted else b"",
        commit=un_b64url(members["Commit"], "Commit", suite.COMMIT_SIZE) if encrypted else b"",
        recipients=tuple(check_entries(members["recipients"])) if encrypted else (),
        signers=_signers(members.get("signers", [])),
        sequence_info=sequence_info,
    )
    if not encrypted and not protected.signers:
        raise FormatError("a protected header that nothing protects")
    expected = protected.header() | {"protected": header["protected"]}
    if dict(header) != expected:
        raise FormatError("the header lacks a member or has one too many")
    return protected


def meta_text(meta: ContentMeta) -> str:
    """``ContentMetaData``: base64url of the JSON object (dare §2)."""
    named = {wire: getattr(meta, name) for wire, name in _META.items()}
    members = {wire: value for wire, value in named.items() if value is not None}
    return b64url(compact(members | dict(meta.other)))


def read_meta(text: Any) -> ContentMeta:
    """The content's description. Raises ``FormatError``."""
    members = parse_object(un_b64url(text, "ContentMetaData"))
    known = {name: members.pop(wire, None) for wire, name in _META.items()}
    if any(value is not None and not isinstance(value, str) for value in known.values()):
        raise FormatError("a member of ContentMetaData is not text")
    return ContentMeta(**known, other=members)


def _signers(value: Any) -> tuple[bytes, ...]:
    if not isinstance(value, list) or len(value) > MAX_SIGNERS:
        raise FormatError(f"signers is not a list of at most {MAX_SIGNERS}")
    signers = tuple(un_b64url(one, "a signer", FINGERPRINT_SIZE) for one in value)
    if len(set(signers)) != len(signers):
        raise FormatError("a signer stands twice")
    return signers
