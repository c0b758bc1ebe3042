"""The members of a published envelope's header and trailer, read once and checked (dare §2).

Open this file to see what a published envelope may say and under which names. Nothing here is
authenticated: see ``mesh_hsm.dare.published`` for what is checked, and against what.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from mesh_hsm.curves import CURVES, X448, X25519, Point
from mesh_hsm.dare.jsonb import binary
from mesh_hsm.dare.model import ContentMeta
from mesh_hsm.dare.protected import read_meta
from mesh_hsm.dare.strict_json import b64url
from mesh_hsm.errors import FormatError, UnsupportedError

ENC: Final = "A256CBC"
DIGESTS: Final = ("S512", "SHA2")  # the same digest by its newer and its older name

# One entry costs at most one device call for each key of its curve.
MAX_ENTRIES: Final = 256
MAX_SALT: Final = 1024

_TRAILER: Final = frozenset(
    {"signatures", "SignedData", "PayloadDigest", "ChainDigest", "TreeDigest"}
)
_ALIASES: Final = {
    "annotations": "Annotations",  # before dare-11
    "SequenceInfo": "ContainerInfo",  # up to dare-09
    "EnvelopeId": "EnvelopeID",  # schema-06
}
_OLDER: Final = {older: newer for newer, older in _ALIASES.items()}


@dataclass(frozen=True, slots=True)
class RecipientEntry:
    """One wrapped seed. ``epk`` is None for a pre-shared key or a curve that we do not know.

    ``wmk`` has 40 octets. ``preshared`` says that there was no ``epk`` at all.
    """

    kid: str
    epk: Point | None
    wmk: bytes
    preshared: bool


@dataclass(frozen=True, slots=True)
class SignatureEntry:
    """One signature. ``kid`` may be empty; ``witness`` is None where there is none."""

    kid: str
    signature: bytes
    witness: bytes | None


@dataclass(frozen=True, slots=True)
class PublishedHeader:
    """Header and trailer together. ``members`` are the names of all members, in order."""

    encrypted: bool
    salt: bytes
    recipients: tuple[RecipientEntry, ...]
    signatures: tuple[SignatureEntry, ...]
    payload_digest: bytes | None
    envelope_id: str | None
    meta: ContentMeta
    members: tuple[str, ...]


def parse(header: Mapping[str, Any], trailer: Mapping[str, Any]) -> PublishedHeader:
    """Read header and trailer of a published envelope.

    Raises ``FormatError`` for members of the wrong shape, one that stands in both (or twice under
    two names), ``A256GCM``, which always means suite hsm-1, and for what only belongs to encrypted
    envelopes in one that is not; ``UnsupportedError`` for another ``enc``, ``dig`` or ``alg``.
    """
    if "protected" in header or header.get("enc") == "A256GCM":
        raise FormatError("A256GCM means suite hsm-1, with all that is protected in `protected`")
    both = _merged(header, trailer)
    enc = both.get("enc", "none")
    if enc not in ("none", ENC):
        raise UnsupportedError(f"published envelopes are encrypted with {ENC}, not with this")
    encrypted = enc == ENC
    dig = both.get("dig")
    if dig is not None and dig not in DIGESTS:
        raise UnsupportedError("the payload digest of published envelopes is SHA-2-512")
    if "signatures" in trailer and "dig" not in header:
        raise FormatError("signatures that follow the payload without `dig` before it")
    signatures = tuple(_signature(entry) for entry in _entries(both, "signatures"))
    recipients = tuple(_recipient(entry) for entry in _entries(both, "recipients"))
    salt = binary(both["Salt"]) if "Salt" in both else b""
    if len(salt) > MAX_SALT or (encrypted and not salt):
        raise FormatError(f"an encrypted envelope has a Salt of at most {MAX_SALT} octets")
    if not encrypted and (recipients or salt or any(one.witness for one in signatures)):
        # Else dropping `enc` alone would pass the ciphertext off as what was signed.
        raise FormatError("what belongs to an encrypted envelope, without `enc`")
    digest = binary(both["PayloadDigest"]) if "PayloadDigest" in both else None
    if digest is not None and len(digest) != 64:
        raise FormatError("PayloadDigest has 64 octets")
    return PublishedHeader(
        encrypted=encrypted,
        salt=salt,
        recipients=recipients,
        signatures=signatures,
        payload_digest=digest,
        envelope_id=_text(both, "EnvelopeId"),
        meta=_meta(both),
        members=tuple(both),
    )


def tagged_key(crv: str, octets: str) -> dict[str, Any]:
    """A public key as envelopes carry it; ``octets`` are base64url."""
    return {"PublicKeyECDH": {"crv": crv, "Public": octets}}


def _merged(header: Mapping[str, Any], trailer: Mapping[str, Any]) -> dict[str, Any]:
    """Every member under its newest name; none may stand twice (dare §2)."""
    if not trailer.keys() <= _TRAILER:
        raise FormatError("a trailer member that belongs in the header, or nowhere")
    both: dict[str, Any] = {}
    for name, value in (*header.items(), *trailer.items()):
        newest = _OLDER.get(name, name)
        if newest in both:
            raise FormatError("a member stands twice in header and trailer")
        both[newest] = value
    return both


def _entries(both: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    entries = both.get(name, [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise FormatError(f"{name} is a list of objects")
    if len(entries) > MAX_ENTRIES:
        raise FormatError(f"more than {MAX_ENTRIES} {name}")
    return entries


def _signature(entry: Mapping[str, Any]) -> SignatureEntry:
    if any(entry.get(name, "S512") not in DIGESTS for name in ("alg", "dig")):
        raise UnsupportedError("published signatures are over SHA-2-512 (`S512`)")
    return SignatureEntry(
        kid=_text(entry, "kid") or "",
        signature=binary(entry.get("signature")),
        witness=binary(entry["witness"]) if "witness" in entry else None,
    )


def _recipient(entry: Mapping[str, Any]) -> RecipientEntry:
    wmk = binary(entry.get("wmk"))
    if len(wmk) != 40:
        raise FormatError("a wrapped seed has 40 octets")
    epk = _point(entry["epk"]) if "epk" in entry else None
    return RecipientEntry(_text(entry, "kid") or "", epk, wmk, preshared="epk" not in entry)


def _point(tagged: object) -> Point | None:
    key = tagged.get("PublicKeyECDH") if isinstance(tagged, dict) else None
    if not isinstance(key, dict) or not isinstance(key.get("crv"), str):
        raise FormatError("an ephemeral key that is not a tagged public key")
    group, octets = CURVES.get(key["crv"]), binary(key.get("Public"))
    if group is None or group.family == "weierstrass":
        return None  # somebody else's entry: the published form has no such keys
    if group in (X25519, X448) and len(octets) == group.field_size:
        return group.decode_x(octets)
    return group.decode(octets)


def _text(entry: Mapping[str, Any], name: str) -> str | None:
    value = entry.get(name)
    if value is not None and not isinstance(value, str):
        raise FormatError(f"{name} is text")
    return value


def _meta(both: Mapping[str, Any]) -> ContentMeta:
    if "ContentMetaData" not in both:
        return ContentMeta()
    # Some break the text into lines; what it says is then read as strictly as our own.
    return read_meta(b64url(binary(both["ContentMetaData"])))
