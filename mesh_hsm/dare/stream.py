"""A protected payload in and out, block by block: open this to see when plaintext is released.

Writing: read, encrypt, hash, write. Reading: a first pass checks signatures, commitment and tag; a
second one releases. ``Payload`` sees to it that both passes read the same octets.
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import GCM

from mesh_hsm.dare.container import Writer
from mesh_hsm.dare.payload import BLOCK, Payload, blocks_of, changed, write_all
from mesh_hsm.dare.suite import MAX_PLAINTEXT, TAG_SIZE, PayloadKeys
from mesh_hsm.errors import DecryptionError, FormatError, StorageError, UnsupportedError

_SPOOL_FOLDER: Final = "/var/tmp" if os.path.isdir("/var/tmp") else None  # noqa: S108  unnamed file


def copy(source: BinaryIO, writer: Writer) -> bytes:
    """Write a clear payload; its SHA-512."""
    hashed = hashlib.sha512()
    for block in blocks_of(source):
        writer.write(block)
        hashed.update(block)
    return hashed.digest()


def encrypt(
    source: BinaryIO, writer: Writer, keys: PayloadKeys, protected: str, *, digest: bool
) -> bytes:
    """Write the ciphertext and its tag; the SHA-512 of both if ``digest`` asks for it, else b""."""
    encryptor = Cipher(AES256(keys.key), GCM(keys.iv)).encryptor()
    encryptor.authenticate_additional_data(protected.encode("ascii"))
    hashed = hashlib.sha512()
    out = memoryview(bytearray(BLOCK + TAG_SIZE))
    total = 0
    for block in blocks_of(source):
        total += len(block)
        if total > MAX_PLAINTEXT:
            raise UnsupportedError("one envelope holds at most 2^36 - 32 octets")
        ciphertext = out[: encryptor.update_into(block, out)]
        writer.write(ciphertext)
        if digest:
            hashed.update(ciphertext)
    encryptor.finalize()
    writer.write(encryptor.tag)
    if not digest:
        return b""
    hashed.update(encryptor.tag)
    return hashed.digest()


def check(payload: Payload, keys: PayloadKeys, protected: str, *, digest: bool) -> bytes:
    """Check the tag and release nothing; the payload's SHA-512 if asked for, else b"".

    Raises ``DecryptionError``.
    """
    hashed = hashlib.sha512()
    for ciphertext, _ in _decrypted(payload, keys, protected):
        if digest:
            hashed.update(ciphertext)
    return hashed.digest() if digest else b""


def release(payload: Payload, keys: PayloadKeys, protected: str, sink: BinaryIO) -> None:
    """Write the plaintext of a payload that ``check`` has passed."""
    for _, plaintext in _decrypted(payload, keys, protected):
        write_all(sink, plaintext)


def release_clear(payload: Payload, sink: BinaryIO) -> None:
    """Write a clear payload whose signatures have been verified over ``payload_digest``."""
    for block in payload.blocks():
        write_all(sink, block)


def payload_digest(payload: Payload) -> bytes:
    """SHA-512 of the payload octets as they stand in the envelope."""
    hashed = hashlib.sha512()
    for block in payload.blocks():
        hashed.update(block)
    return hashed.digest()


@contextmanager
def seekable(source: BinaryIO) -> Iterator[BinaryIO]:
    """The source itself, or its octets (ciphertext still) in a file without a name.

    The file lies in ``TMPDIR`` or ``/var/tmp``, as large files do. Raises ``StorageError``.
    """
    if source.seekable():
        yield source
        return
    with _spooled(source) as spool:
        yield spool


def _spooled(source: BinaryIO) -> BinaryIO:
    folder = None if "TMPDIR" in os.environ else _SPOOL_FOLDER
    try:
        raw = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115  outlives this
        try:
            for block in blocks_of(source):
                write_all(raw, block)
            raw.seek(0)
        except BaseException:
            raw.close()
            raise
    except OSError as error:
        raise StorageError(
            f"cannot keep the ciphertext of a pipe: {error.strerror}",
            hint="free some space, or name another folder by TMPDIR",
        ) from error
    return io.BufferedReader(raw)


def _decrypted(
    payload: Payload, keys: PayloadKeys, protected: str
) -> Iterator[tuple[memoryview, memoryview]]:
    """Blocks of the payload with the plaintext in them; at the end, ``DecryptionError`` if the
    tag, which is the payload's last 16 octets, is wrong.
    """
    left = payload.size - TAG_SIZE
    if not 0 <= left <= MAX_PLAINTEXT:
        raise FormatError("the payload is shorter than its tag, or longer than 2^36 - 16 octets")
    decryptor = Cipher(AES256(keys.key), GCM(keys.iv)).decryptor()
    decryptor.authenticate_additional_data(protected.encode("ascii"))
    out = memoryview(bytearray(BLOCK + TAG_SIZE))
    tag = b""
    for block in payload.blocks():
        ciphertext = block[:left]
        left -= len(ciphertext)
        tag += block[len(ciphertext) :]
        yield block, out[: decryptor.update_into(ciphertext, out)]
    if len(tag) != TAG_SIZE:
        raise changed()
    try:
        decryptor.finalize_with_tag(tag)
    except InvalidTag:
        raise DecryptionError(
            "the envelope has been altered or damaged: its authentication tag is wrong"
        ) from None
