"""Signatures ``MH1`` (hsm-1 §3): open this to see what is signed and when it is believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mesh_hsm.curves import Point, verify_prehashed
from mesh_hsm.dare import suite
from mesh_hsm.dare.model import JsonObject, SignatureReport, SignatureStatus, Signer
from mesh_hsm.dare.strict_json import b64url, require_members, un_b64url
from mesh_hsm.errors import CannotVerifyError, FormatError, VerificationError
from mesh_hsm.udf import ContentDigest, fingerprint, is_canonical, udf_of

ALG: Final = "MH1"
MAX_SIGNATURES: Final = 256
_MEMBERS = frozenset({"alg", "kid", "signature"})


@dataclass(frozen=True, slots=True)
class Signatures:
    """A trailer's signatures, those asked for by P apart from those added later."""

    required: tuple[tuple[bytes, bytes], ...]  # (fp, signature)
    later: tuple[tuple[str, bytes], ...]  # (kid, signature)


def sign(signer: Signer, protected: str, payload_digest: bytes) -> JsonObject:
    """A trailer entry, verified as a reader would. Raises ``VerificationError`` if it is bad."""
    public = signer.public
    fp = fingerprint(public).octets
    M = suite.signed_octets(fp, protected.encode("ascii"), payload_digest)
    signature = suite.low_s(public, signer.sign(suite.to_be_signed(public, M)))
    _verify(public, M, signature)
    return {"alg": ALG, "kid": udf_of(public), "signature": b64url(signature)}


def read_signatures(trailer: Mapping[str, Any], signers: Sequence[bytes]) -> Signatures:
    """Sort a trailer's entries. Raises ``VerificationError`` if a required one is missing."""
    entries = _entries(trailer)
    if not signers and "signatures" in trailer:
        raise FormatError("signatures on an envelope that names no signer")
    required = []
    for fp in signers:
        kid = ContentDigest.of_sha2(fp).udf()
        if kid not in entries:
            raise VerificationError(f"the signature of {kid} is missing")
        required.append((fp, entries.pop(kid)))
    return Signatures(tuple(required), tuple(entries.items()))


def unchecked(signatures: Signatures) -> tuple[tuple[SignatureReport, ...], ...]:
    """Reports on required and later signatures of which none was checked."""
    status = SignatureStatus.NOT_CHECKED
    return (
        tuple(
            SignatureReport(ContentDigest.of_sha2(fp).udf(), status, fp)
            for fp, _ in signatures.required
        ),
        tuple(SignatureReport(kid, status) for kid, _ in signatures.later),
    )


def verify(
    signatures: Signatures,
    protected: str,
    payload_digest: bytes,
    trusted: Mapping[bytes, Point],
    *,
    allow_unknown: bool = False,
) -> tuple[tuple[SignatureReport, ...], ...]:
    """Check them all; reports on required and later ones.

    Every required signature must verify under a trusted key: ``CannotVerifyError`` if the key is
    not among them and ``allow_unknown`` is not set, ``VerificationError`` if it is bad. A later
    signature by an unknown key is reported as that; a bad one by a known key is an error too.
    """
    if not allow_unknown:
        require_known(signatures, trusted)
    octets = protected.encode("ascii")
    by_fp = _by_fingerprint(trusted)
    by_kid = {udf_of(key): key for key in trusted.values()}

    def check(key: Point, signature: bytes) -> SignatureReport:
        fp = fingerprint(key).octets
        _verify(key, suite.signed_octets(fp, octets, payload_digest), signature)
        return SignatureReport(udf_of(key), SignatureStatus.VERIFIED, fp)

    required = tuple(
        check(by_fp[fp], signature)
        if fp in by_fp
        else SignatureReport(ContentDigest.of_sha2(fp).udf(), SignatureStatus.UNKNOWN_KEY, fp)
        for fp, signature in signatures.required
    )
    later = tuple(
        check(by_kid[kid], signature)
        if kid in by_kid
        else SignatureReport(kid, SignatureStatus.UNKNOWN_KEY)
        for kid, signature in signatures.later
    )
    return required, later


def require_known(signatures: Signatures, trusted: Mapping[bytes, Point]) -> None:
    """Raise ``CannotVerifyError`` if a required signer's key is not among the trusted ones."""
    known = _by_fingerprint(trusted)
    for fp, _ in signatures.required:
        if fp not in known:
            kid = ContentDigest.of_sha2(fp).udf()
            raise CannotVerifyError(
                f"the key of the signer {kid} is not known",
                hint="compare this UDF with its owner's, then name the key with --signer",
            )


def _by_fingerprint(trusted: Mapping[bytes, Point]) -> dict[bytes, Point]:
    # The caller's labels are not relied upon: a key is found by its own fingerprint.
    return {fingerprint(key).octets: key for key in trusted.values()}


def _verify(public: Point, M: bytes, signature: bytes) -> None:
    kid = udf_of(public)
    if suite.is_high(public, signature):
        raise VerificationError(f"the signature of {kid} has a high s")
    if not verify_prehashed(public, suite.to_be_signed(public, M), signature):
        raise VerificationError(f"the signature of {kid} does not verify")


def _entries(trailer: Mapping[str, Any]) -> dict[str, bytes]:
    require_members(trailer, "the trailer", frozenset(), frozenset({"signatures"}))
    entries = trailer.get("signatures", [])
    if not isinstance(entries, list) or len(entries) > MAX_SIGNATURES:
        raise FormatError(f"signatures is not a list of at most {MAX_SIGNATURES}")
    found: dict[str, bytes] = {}
    for entry in entries:
        require_members(entry, "a signature", _MEMBERS)
        if entry["alg"] != ALG:
            raise FormatError("a signature's alg is not MH1")
        if not isinstance(entry["kid"], str) or not is_canonical(entry["kid"]):
            raise FormatError("a signature's kid is not a UDF")
        if entry["kid"] in found:
            raise FormatError("two signatures by one key")
        found[entry["kid"]] = un_b64url(entry["signature"], "a signature")
    return found
