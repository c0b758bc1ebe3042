"""Write the newest published form, for peers that know no other (``--interop``; dare §2).

Open this file to see what leaves us in that form: A256CBC, a key wrap with empty info, signatures
of the SHA-2-512 payload digest by Ed448, or Ed25519 with an empty context, each with its witness.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from typing import BinaryIO, Final, Protocol, runtime_checkable

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.keywrap import aes_key_wrap
from cryptography.hazmat.primitives.padding import PKCS7

from mesh_hsm.curves import ED448, ED25519, Point, verify_ed25519ctx, verify_prehashed
from mesh_hsm.dare.container import Writer
from mesh_hsm.dare.model import (
    PUBLISHED,
    ContentMeta,
    DoubleRecipient,
    JsonObject,
    Recipient,
    Signer,
)
from mesh_hsm.dare.payload import blocks_of
from mesh_hsm.dare.protected import meta_text
from mesh_hsm.dare.published_agreement import Ephemeral
from mesh_hsm.dare.published_header import MAX_ENTRIES, tagged_key
from mesh_hsm.dare.published_keys import SEED_SIZE, kek, payload_keys, seed_kid, witness
from mesh_hsm.dare.stream import copy
from mesh_hsm.dare.strict_json import b64url
from mesh_hsm.errors import DeviceError, UnsupportedError
from mesh_hsm.udf import udf_of

_SALT_SIZE: Final = 16
_BLOCK: Final = 16


@runtime_checkable
class SignsEd25519ctx(Protocol):
    """An Ed25519 ``Signer`` that can also sign with an empty context, which few libraries do."""

    def sign_ed25519ctx(self, message: bytes) -> bytes:
        """Ed25519ctx, RFC 8032 §5.1, over the message, context empty."""
        ...


def write(
    source: BinaryIO,
    sink: BinaryIO,
    *,
    recipients: Sequence[Recipient | DoubleRecipient],
    signers: Sequence[Signer],
    meta: ContentMeta,
    envelope_id: str,
    armor: bool,
    size: int | None,
) -> tuple[JsonObject, JsonObject]:
    """Encrypt and sign ``source`` to ``sink`` in bounded memory; the header and trailer written.

    Recipients have X448, X25519, Ed448 or Ed25519 keys, signers Ed448 or Ed25519 ones; anything
    else raises ``UnsupportedError`` before a single octet is written. ``size`` is that of
    ``source`` if known. Raises what the signers raise.
    """
    publics = list(dict.fromkeys(_recipient_key(one) for one in recipients))
    by_key = {one.public: one for one in signers}
    for signer in by_key.values():
        _check_signer(signer)
    if max(len(publics), len(by_key)) > MAX_ENTRIES:
        raise UnsupportedError(f"a published envelope has at most {MAX_ENTRIES} recipients")
    seed, salt = secrets.token_bytes(SEED_SIZE), secrets.token_bytes(_SALT_SIZE)
    entries = [_recipient(public, seed) for public in publics]
    header: JsonObject = {"EnvelopeId": envelope_id}
    if entries:
        header["enc"] = PUBLISHED.enc
    if by_key:
        header["dig"] = PUBLISHED.alg
    if entries:
        header |= {"kid": seed_kid(seed), "Salt": b64url(salt), "recipients": entries}
    if meta != ContentMeta():
        header["ContentMetaData"] = meta_text(meta)
    if entries and size is not None:
        size += _BLOCK - size % _BLOCK
    writer = Writer(sink, header, armor=armor, size=size)
    digest = _write_payload(source, writer, payload_keys(seed, salt) if entries else None)
    trailer: JsonObject = {}
    if by_key:
        signatures = [_signature(one, digest) for one in by_key.values()]
        if entries:
            for entry, octets in signatures:
                entry["witness"] = b64url(witness(seed, salt, octets))
        trailer["signatures"] = [entry for entry, _ in signatures]
        trailer["PayloadDigest"] = b64url(digest)
    writer.finish(trailer)
    return header, trailer


def _recipient_key(recipient: Recipient | DoubleRecipient) -> Point:
    if isinstance(recipient, DoubleRecipient):
        raise UnsupportedError("the published form cannot require two keys of one recipient")
    if recipient.public.curve.family == "weierstrass":
        raise _no_nist_keys(recipient.public)
    return recipient.public


def _check_signer(signer: Signer) -> None:
    group = signer.public.curve
    if group.family == "weierstrass":
        raise _no_nist_keys(signer.public)
    if group.family == "montgomery":
        raise UnsupportedError(f"{group.name} does not sign")
    if group is ED25519 and not isinstance(signer, SignsEd25519ctx):
        raise UnsupportedError(
            "published Ed25519 signatures have an empty context, which this key cannot sign with",
            hint="sign with an Ed448 key, or leave out --interop",
        )


def _no_nist_keys(public: Point) -> UnsupportedError:
    return UnsupportedError(
        f"the published form has no {public.curve.name} keys",
        hint="leave out --interop: the default form has them",
    )


def _recipient(public: Point, seed: bytes) -> JsonObject:
    ephemeral = Ephemeral(public.curve)
    wrapped = aes_key_wrap(kek(ephemeral.agree(public)), seed)
    return {
        "kid": udf_of(public),
        "epk": tagged_key(public.curve.name, b64url(ephemeral.octets())),
        "wmk": b64url(wrapped),
    }


def _write_payload(source: BinaryIO, writer: Writer, keys: tuple[bytes, bytes] | None) -> bytes:
    """Write the payload, encrypted if there are keys; the digest of what was written."""
    if keys is None:
        return copy(source, writer)
    hashed = hashlib.sha512()
    encryptor = Cipher(AES256(keys[0]), CBC(keys[1])).encryptor()
    padder = PKCS7(8 * _BLOCK).padder()
    for block in blocks_of(source):
        octets = encryptor.update(padder.update(block))
        hashed.update(octets)
        writer.write(octets)
    octets = encryptor.update(padder.finalize()) + encryptor.finalize()
    hashed.update(octets)
    writer.write(octets)
    return hashed.digest()


def _signature(signer: Signer, digest: bytes) -> tuple[JsonObject, bytes]:
    public = signer.public
    if public.curve is ED448:
        octets = signer.sign(digest)
        verifies = verify_prehashed(public, digest, octets)
    else:
        assert isinstance(signer, SignsEd25519ctx)  # noqa: S101  _check_signer has seen to it
        octets = signer.sign_ed25519ctx(digest)
        verifies = verify_ed25519ctx(public, digest, octets)
    if not verifies:
        raise DeviceError("the signer's signature does not verify")
    entry = {"alg": PUBLISHED.alg, "kid": udf_of(public), "signature": b64url(octets)}
    return entry, octets
