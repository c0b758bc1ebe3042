"""Read the published form of envelopes, and say what it does not protect (dare §2, hsm-1 §2-§3).

Open this file to see in which order a published envelope is checked. A256CBC is encryption without
authentication; a published signature covers the payload octets and nothing of the header. Which
alteration is found and which is not stands in docs/reference/published-form.md, field by field.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from hmac import compare_digest
from typing import Any, BinaryIO, Final, NamedTuple

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CBC

from mesh_hsm.curves import Point
from mesh_hsm.dare.model import (
    ContentMeta,
    DoubleRecipient,
    Recipient,
    Report,
    SignatureReport,
    SignatureStatus,
    Signer,
)
from mesh_hsm.dare.payload import Payload, write_all
from mesh_hsm.dare.published_header import ENC, PublishedHeader, SignatureEntry, parse
from mesh_hsm.dare.published_keys import (
    PresharedKey,
    check_witness,
    find_signer,
    payload_keys,
    unwrap,
)
from mesh_hsm.dare.published_writing import write
from mesh_hsm.errors import CannotVerifyError, DecryptionError, VerificationError
from mesh_hsm.udf import fingerprint, udf_of

__all__ = ["PresharedKey", "decode", "encode", "inspect", "is_published", "verify"]

_BLOCK: Final = 16
# Altered members that a reader with the right keys finds; every other member may say anything.
_DETECTED: Final = frozenset({"enc", "dig", "Salt", "recipients", "signatures", "PayloadDigest"})
_NO_CLAIM: Final = "neither encrypted nor signed: anybody can have made or changed it"
_CBC: Final = f"{ENC} is not authenticated: without a signature the payload can have been altered"
_NOT_COVERED: Final = "the signature covers the payload alone: header not covered"
_NOT_CHECKED: Final = "signatures have not been checked"
_UNKNOWN: Final = "no signature is by a key that is trusted here"
_NO_WITNESS: Final = "whether the signers knew the content is only known after decryption"


def is_published(header: Mapping[str, Any]) -> bool:
    """Whether an envelope is to be read by these rules: it has no ``protected``."""
    return "protected" not in header


def inspect(header: Mapping[str, Any], trailer: Mapping[str, Any], armored: bool) -> Report:
    """What an envelope says of itself; nothing is checked. Raises as ``parse`` does."""
    read = parse(header, trailer)
    signers = tuple(
        SignatureReport(one.kid, SignatureStatus.NOT_CHECKED) for one in read.signatures
    )
    warnings = [_NOT_CHECKED] if signers else []
    return _report(read, armored, signers=signers, warnings=warnings)


def verify(
    header: Mapping[str, Any],
    trailer: Mapping[str, Any],
    payload: Payload,
    *,
    armored: bool,
    trusted: Mapping[bytes, Point],
) -> Report:
    """Check digest and signatures over the payload octets, without a decryption key.

    Raises ``VerificationError`` for a signature or ``PayloadDigest`` that does not fit,
    ``CannotVerifyError`` if no signature is by a trusted key, and as ``parse`` does.
    """
    read = parse(header, trailer)
    signers = _check_signatures(read, _scan(payload).digest, trusted)
    if not _vouched(signers):
        raise CannotVerifyError(
            _UNKNOWN,
            hint="name the signer's key, if you have it from a source that you trust",
        )
    warnings = [_NO_WITNESS] if read.encrypted else []
    return _report(read, armored, signers=signers, warnings=warnings)


def decode(
    header: Mapping[str, Any],
    trailer: Mapping[str, Any],
    payload: Payload,
    sink: BinaryIO,
    *,
    armored: bool,
    keys: Sequence[object],
    trusted: Mapping[bytes, Point],
    allow_unauthenticated: bool = False,
) -> Report:
    """Check all that can be checked, then write the content to ``sink``.

    The order: header, digest and signatures, seed, witnesses, padding, and only then the first
    octet of plaintext. ``keys`` are ``Decryptor`` or ``PresharedKey``. What is encrypted or signed
    is refused without a signature by a trusted key, unless ``allow_unauthenticated``; what is
    neither is released, and reported as such.

    Raises as ``verify``, and ``DecryptionError``, the same for every way in which an envelope does
    not open.
    """
    read = parse(header, trailer)
    scan = _scan(payload)
    signers = _check_signatures(read, scan.digest, trusted)
    claims = read.encrypted or bool(signers)
    if claims and not _vouched(signers) and not allow_unauthenticated:
        raise CannotVerifyError(
            f"{_UNKNOWN}; {ENC} is not authenticated" if read.encrypted else _UNKNOWN,
            hint="trust the signer's key, or allow unauthenticated content by name",
        )
    if not read.encrypted:
        for block in payload.blocks():
            write_all(sink, block)
        warnings = [_UNKNOWN] if signers and not _vouched(signers) else []
        return _report(read, armored, signers=signers, warnings=warnings)
    found = unwrap(read.recipients, keys)
    if found is None:
        raise _does_not_open()
    seed, opened_by = found
    for one in read.signatures:
        check_witness(one, seed, read.salt)
    key, iv = payload_keys(seed, read.salt)
    size = _content_size(payload.size, scan.tail, key, iv)
    for octets in _decrypted(payload, key, iv, size):
        write_all(sink, octets)
    return _report(read, armored, signers=signers, opened_by=opened_by)


def encode(
    source: BinaryIO,
    sink: BinaryIO,
    *,
    recipients: Sequence[Recipient | DoubleRecipient],
    signers: Sequence[Signer],
    meta: ContentMeta,
    envelope_id: str,
    armor: bool,
    size: int | None,
) -> Report:
    """Write the newest published form (``--interop``). Arguments and errors as ``write``."""
    header, trailer = write(
        source,
        sink,
        recipients=recipients,
        signers=signers,
        meta=meta,
        envelope_id=envelope_id,
        armor=armor,
        size=size,
    )
    signed = tuple(_signed_by(key) for key in dict.fromkeys(one.public for one in signers))
    return _report(parse(header, trailer), armor, signers=signed)


class _Scan(NamedTuple):
    """What one pass over the payload gave. Later passes see the same octets or fail."""

    digest: bytes
    tail: bytes  # the last two cipher blocks, or what there is


def _scan(payload: Payload) -> _Scan:
    hashed, tail = hashlib.sha512(), b""
    for block in payload.blocks():
        hashed.update(block)
        tail = (tail + bytes(block[-2 * _BLOCK :]))[-2 * _BLOCK :]
    return _Scan(hashed.digest(), tail)


def _check_signatures(
    read: PublishedHeader, digest: bytes, trusted: Mapping[bytes, Point]
) -> tuple[SignatureReport, ...]:
    if read.payload_digest is not None and not compare_digest(read.payload_digest, digest):
        raise VerificationError("the payload does not have the digest that the envelope states")
    return tuple(_signature_report(one, digest, trusted) for one in read.signatures)


def _signature_report(
    entry: SignatureEntry, digest: bytes, trusted: Mapping[bytes, Point]
) -> SignatureReport:
    key = find_signer(entry, digest, trusted)
    if key is None:
        return SignatureReport(entry.kid, SignatureStatus.UNKNOWN_KEY)
    return _signed_by(key)


def _signed_by(key: Point) -> SignatureReport:
    status = SignatureStatus.HEADER_NOT_COVERED
    return SignatureReport(udf_of(key), status, fingerprint(key).octets)


def _vouched(signers: Sequence[SignatureReport]) -> bool:
    return any(one.status is SignatureStatus.HEADER_NOT_COVERED for one in signers)


def _content_size(size: int, tail: bytes, key: bytes, iv: bytes) -> int:
    """Octets of content, from the last cipher block alone, before anything is released."""
    if not size or size % _BLOCK:
        raise _does_not_open()
    chained = (iv + tail)[-2 * _BLOCK : -_BLOCK]
    decryptor = Cipher(AES256(key), CBC(chained)).decryptor()
    padded = decryptor.update(tail[-_BLOCK:]) + decryptor.finalize()
    padding = padded[-1]
    if not 1 <= padding <= _BLOCK or padded[-padding:] != bytes([padding]) * padding:
        raise _does_not_open()
    return size - padding


def _decrypted(payload: Payload, key: bytes, iv: bytes, size: int) -> Iterator[bytes]:
    decryptor = Cipher(AES256(key), CBC(iv)).decryptor()
    left = size
    for block in payload.blocks():
        octets = decryptor.update(block)[:left]
        left -= len(octets)
        yield octets


def _does_not_open() -> DecryptionError:
    # One error, whatever failed: a reader that tells bad padding from a wrong key is an oracle.
    return DecryptionError("no key at hand opens this envelope, or it has been altered")


def _report(
    read: PublishedHeader,
    armored: bool,
    *,
    signers: tuple[SignatureReport, ...] = (),
    warnings: Sequence[str] = (),
    opened_by: str | None = None,
) -> Report:
    plain = not read.encrypted and not read.signatures
    said = list(warnings)
    if plain:
        said.append(_NO_CLAIM)
    elif read.signatures:
        said.append(_NOT_COVERED)
    if read.encrypted and not _vouched(signers):
        said.append(_CBC)
    return Report(
        form="plain" if plain else "published",
        enc=ENC if read.encrypted else "none",
        armored=armored,
        envelope_id=read.envelope_id,
        meta=read.meta,
        recipients=tuple(one.kid for one in read.recipients),
        signers=signers,
        opened_by=opened_by,
        unprotected=tuple(name for name in read.members if plain or name not in _DETECTED),
        warnings=tuple(said),
    )
