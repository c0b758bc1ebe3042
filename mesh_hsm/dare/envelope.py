"""Envelopes whole: encode, decode, inspect and verify files; seal and unseal small objects.

Open this file for what happens in which order. The octets of hsm-1 are made in ``suite``, P in
``protected``; envelopes without P are the business of ``published``.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from io import BytesIO
from types import MappingProxyType
from typing import Any, BinaryIO, Final

from mesh_hsm.curves import Point
from mesh_hsm.dare import published, signatures, stream, suite
from mesh_hsm.dare import recipients as wrapping
from mesh_hsm.dare.container import Writer, read
from mesh_hsm.dare.model import (
    HSM1,
    PUBLISHED,
    ContentMeta,
    Decryptor,
    Dialect,
    DoubleDecryptor,
    DoubleRecipient,
    JsonObject,
    Opened,
    Recipient,
    Report,
    SignatureStatus,
    Signer,
)
from mesh_hsm.dare.protected import NONE, Protected, meta_text, read_protected
from mesh_hsm.dare.published_keys import PresharedKey
from mesh_hsm.dare.strict_json import compact, parse
from mesh_hsm.errors import (
    CannotVerifyError,
    ConflictError,
    DecryptionError,
    FormatError,
    UnsupportedError,
    VerificationError,
)
from mesh_hsm.udf import fingerprint, nonce, udf_of

Envelope = list[Any]
"""The text form, parsed: ``[header, payload as base64url, trailer]``."""
Key = Decryptor | DoubleDecryptor | PresharedKey
Trusted = Mapping[bytes, Point]
"""Public keys whose signatures count, by fingerprint (64 octets)."""

NOBODY: Final[Trusted] = MappingProxyType({})
UNSIGNED: Final = "not signed: whoever knows the recipients' public keys can have made it"
UNKNOWN_SIGNER: Final = "signed by a key that is not known here: who wrote it was not checked"


def encode(
    source: BinaryIO,
    sink: BinaryIO,
    *,
    recipients: Sequence[Recipient | DoubleRecipient] = (),
    signers: Sequence[Signer] = (),
    meta: ContentMeta | None = None,
    dialect: Dialect = HSM1,
    armor: bool = False,
    size: int | None = None,
    envelope_id: str | None = None,
) -> Report:
    """Write ``source`` as an envelope: encrypted if it has recipients, signed if it has signers.

    ``size`` is the number of octets in ``source`` if known; without it the payload is written in
    chunks. ``envelope_id`` is a fresh nonce unless given. Uses a few MiB for any size. Raises
    ``UnsupportedError`` and ``InvalidPointError`` for keys that cannot serve, ``StorageError`` if
    the source has another size than announced, and what signers raise; discard the sink then.
    """
    meta = meta or ContentMeta()
    envelope_id = envelope_id or nonce()
    if dialect == PUBLISHED:
        return published.encode(
            source,
            sink,
            recipients=recipients,
            signers=signers,
            meta=meta,
            envelope_id=envelope_id,
            armor=armor,
            size=size,
        )
    if not recipients and not signers:
        header = {"EnvelopeId": envelope_id, "ContentMetaData": meta_text(meta)}
        writer = Writer(sink, header, armor=armor, size=size)
        stream.copy(source, writer)
        writer.finish({})
        return published.inspect(header, {}, armored=armor)
    by_fp = {fingerprint(one.public).octets: one for one in signers}
    for one in by_fp.values():
        suite.to_be_signed(one.public, b"")  # refuses keys that do not sign before anything is done
    protected = Protected(envelope_id, meta, signers=tuple(by_fp))
    if recipients:
        seed, salt = secrets.token_bytes(suite.SEED_SIZE), secrets.token_bytes(suite.SALT_SIZE)
        keys = suite.payload_keys(seed, salt)
        entries = tuple(wrapping.wrap(seed, recipients))
        protected = replace(protected, salt=salt, commit=keys.commit, recipients=entries)
    P = protected.text()
    trailer: JsonObject = {}
    stored = size + suite.TAG_SIZE if recipients and size is not None else size
    writer = Writer(sink, protected.header(), armor=armor, size=stored)
    if recipients:
        digest = stream.encrypt(source, writer, keys, P, digest=bool(by_fp))
    else:
        digest = stream.copy(source, writer)
    if by_fp:
        trailer["signatures"] = [signatures.sign(one, P, digest) for one in by_fp.values()]
    writer.finish(trailer)
    trusted = {fp: one.public for fp, one in by_fp.items()}
    found = signatures.read_signatures(trailer, protected.signers)
    checked = signatures.verify(found, P, digest, trusted)
    return _report(protected, armor, checked, authenticated=True)


def decode(
    source: BinaryIO,
    sink: BinaryIO,
    *,
    keys: Sequence[Key],
    trusted: Trusted = NOBODY,
    allow_unauthenticated: bool = False,
    allow_unknown_signers: bool = False,
) -> Report:
    """Verify and decrypt; nothing reaches ``sink`` before everything has been checked.

    A seekable source is read twice, from where it stands. Another is first spooled, as ciphertext,
    to a file without a name. Every signer that the envelope requires must be ``trusted``.
    ``allow_unauthenticated`` also opens published-form envelopes whose payload nothing vouches for;
    ``allow_unknown_signers`` opens hsm-1 ones whose author nobody here can check, and warns.

    Raises ``FormatError``, ``DecryptionError`` (no key fits, or altered), ``VerificationError``,
    ``CannotVerifyError`` (a signer is not known), ``StorageError``, and what keys raise.
    """
    with stream.seekable(source) as file:
        container = read(file)
        if published.is_published(container.header):
            return published.decode(
                container.header,
                container.trailer,
                container.payload,
                sink,
                armored=container.armored,
                keys=keys,
                trusted=trusted,
                allow_unauthenticated=allow_unauthenticated,
            )
        protected = read_protected(container.header)
        P = container.header["protected"]
        found = signatures.read_signatures(container.trailer, protected.signers)
        if not allow_unknown_signers:
            signatures.require_known(found, trusted)  # before a device is asked
        check_all = partial(signatures.verify, found, P, allow_unknown=allow_unknown_signers)
        if protected.enc == NONE:
            checked = check_all(stream.payload_digest(container.payload), trusted)
            stream.release_clear(container.payload, sink)
            known = all(one.status is SignatureStatus.VERIFIED for one in checked[0])
            return _report(protected, container.armored, checked, authenticated=known)
        payload_keys, kid = _payload_keys(protected, keys)
        digest = stream.check(container.payload, payload_keys, P, digest=bool(protected.signers))
        checked = check_all(digest, trusted)
        stream.release(container.payload, payload_keys, P, sink)
        report = _report(protected, container.armored, checked, authenticated=True)
        return replace(report, opened_by=kid)


def inspect(source: BinaryIO) -> Report:
    """What an envelope says of itself, without a key. Nothing of it has been verified."""
    with stream.seekable(source) as file:
        container = read(file)
        if published.is_published(container.header):
            return published.inspect(container.header, container.trailer, armored=container.armored)
        protected = read_protected(container.header)
        found = signatures.read_signatures(container.trailer, protected.signers)
        return _report(
            protected, container.armored, signatures.unchecked(found), authenticated=False
        )


def verify(source: BinaryIO, trusted: Trusted) -> Report:
    """Check the signatures, of ciphertext as it is if it is encrypted.

    Raises ``VerificationError``; ``CannotVerifyError`` if nobody signed or a signer is not known.
    """
    with stream.seekable(source) as file:
        container = read(file)
        if published.is_published(container.header):
            return published.verify(
                container.header,
                container.trailer,
                container.payload,
                armored=container.armored,
                trusted=trusted,
            )
        protected = read_protected(container.header)
        found = signatures.read_signatures(container.trailer, protected.signers)
        if not protected.signers:
            raise CannotVerifyError(
                "nobody has signed this envelope", hint="only its recipients can check it: decode"
            )
        signatures.require_known(found, trusted)
        digest = stream.payload_digest(container.payload)
        checked = signatures.verify(found, container.header["protected"], digest, trusted)
        return _report(protected, container.armored, checked, authenticated=True)


def seal(
    payload: bytes,
    *,
    recipients: Sequence[Recipient | DoubleRecipient] = (),
    signers: Sequence[Signer] = (),
    meta: ContentMeta | None = None,
    dialect: Dialect = HSM1,
    envelope_id: str | None = None,
) -> Envelope:
    """A small object as a JSON array in text form. Raises as ``encode``."""
    sink = BytesIO()
    encode(
        BytesIO(payload),
        sink,
        recipients=recipients,
        signers=signers,
        meta=meta,
        dialect=dialect,
        armor=True,
        size=len(payload),
        envelope_id=envelope_id,
    )
    envelope: Envelope = parse(sink.getvalue(), limit=1 << 31)
    return envelope


def unseal(
    envelope: Envelope | bytes,
    *,
    keys: Sequence[Key] = (),
    trusted: Trusted = NOBODY,
    require: Iterable[bytes] = (),
    allow_unauthenticated: bool = False,
    allow_unknown_signers: bool = False,
) -> Opened:
    """Open a small object, parsed or not. Raises as ``decode``.

    Each fingerprint in ``require`` must moreover have a verified signature, from the envelope's
    required signers or added later: else ``VerificationError``.
    """
    sink = BytesIO()
    report = decode(
        _octets(envelope),
        sink,
        keys=keys,
        trusted=trusted,
        allow_unauthenticated=allow_unauthenticated,
        allow_unknown_signers=allow_unknown_signers,
    )
    verified = {
        one.fingerprint
        for one in report.signers + report.countersigners
        if one.status is SignatureStatus.VERIFIED
    }
    if not verified.issuperset(require):
        raise VerificationError("a signature that must be there is missing")
    return Opened(sink.getvalue(), report)


def countersign(envelope: Envelope, signer: Signer) -> Envelope:
    """Add a signature to a signed envelope; header and payload stay as they are (hsm-1 §3).

    The signatures that are there are not checked: verify first. Raises ``UnsupportedError`` for
    an envelope without signers, ``ConflictError`` if this key has signed it already.
    """
    container = read(_octets(envelope))
    if published.is_published(container.header):
        raise UnsupportedError("only envelopes in the form of hsm-1 are countersigned")
    protected = read_protected(container.header)
    found = signatures.read_signatures(container.trailer, protected.signers)
    if not protected.signers:
        raise UnsupportedError("an envelope that nobody has signed is not countersigned")
    fp = fingerprint(signer.public).octets
    if fp in protected.signers or udf_of(signer.public) in dict(found.later):
        raise ConflictError("this key has signed the envelope already")
    digest = stream.payload_digest(container.payload)
    entry = signatures.sign(signer, container.header["protected"], digest)
    header, payload, trailer = envelope
    return [header, payload, {"signatures": [*trailer["signatures"], entry]}]


def peek_payload(envelope: Envelope | bytes) -> bytes:
    """The payload of an unencrypted envelope before anything has been verified.

    For objects that name their own signer: read the key, decide whether to trust it, ``unseal``.
    """
    container = read(_octets(envelope))
    clear = container.header.get("enc", NONE) == NONE
    if not clear:
        raise DecryptionError("the payload is encrypted")
    return b"".join(bytes(block) for block in container.payload.blocks())


def _octets(envelope: Envelope | bytes) -> BytesIO:
    if isinstance(envelope, bytes):
        return BytesIO(envelope)
    try:
        return BytesIO(compact(envelope))
    except (TypeError, ValueError, RecursionError) as error:
        raise FormatError("not a DARE envelope in text form") from error


def _payload_keys(protected: Protected, keys: Sequence[Key]) -> tuple[suite.PayloadKeys, str]:
    """Keys of the payload and the ``kid`` that opened it, once the commitment fits."""
    own = [key for key in keys if not isinstance(key, PresharedKey)]
    for seed, kid in wrapping.unwrap(protected.recipients, own):
        payload_keys = suite.payload_keys(seed, protected.salt)
        if hmac.compare_digest(payload_keys.commit, protected.commit):
            return payload_keys, kid
    raise DecryptionError(
        "the wrapped key does not open, or does not fit its commitment",
        hint="the envelope has been altered, or was made for another key of that name",
    )


def _report(
    protected: Protected,
    armored: bool,
    checked: tuple[tuple[Any, ...], ...],
    *,
    authenticated: bool,
) -> Report:
    signers, countersigners = checked
    unknown = any(one.status is SignatureStatus.UNKNOWN_KEY for one in signers)
    return Report(
        form=HSM1.name,
        enc=protected.enc,
        armored=armored,
        envelope_id=protected.envelope_id,
        meta=protected.meta,
        recipients=wrapping.kids(protected.recipients),
        signers=signers,
        countersigners=countersigners,
        authenticated=authenticated,
        warnings=(UNKNOWN_SIGNER,) if unknown else () if signers else (UNSIGNED,),
    )
