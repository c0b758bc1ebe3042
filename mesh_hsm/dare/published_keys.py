"""Key wrap, payload keys, digest signatures and witness of the published form (dare §2.1-§2.3).

Open this file to check the published form's algebra against its vectors. It hashes with SHA-2-512
for the key wrap and with SHA-2-256 for the payload, whatever the drafts' text says.
"""

from __future__ import annotations

import hashlib
from base64 import b32encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hmac import compare_digest
from operator import itemgetter
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256, SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap

from mesh_hsm.curves import ED448, ED25519, Point, verify_ed25519ctx, verify_prehashed
from mesh_hsm.dare.model import Decryptor
from mesh_hsm.dare.published_header import RecipientEntry, SignatureEntry
from mesh_hsm.errors import DecryptionError, VerificationError
from mesh_hsm.udf import CONTENT_TYPE, OLDER_CONTENT_TYPES, fingerprint, udf_of

SEED_SIZE: Final = 32
MAX_TRIES: Final = 16  # entries for each key: the list is the sender's, each try a device call
INFOS: Final = (b"", b"master", b"dare-master")  # as data, examples and text have it, in this order
_named_first = itemgetter(0)
_SEED_KID_TYPES: Final = b"\x20\x60"  # UDF type E, then that of the digest inside


@dataclass(frozen=True, slots=True)
class PresharedKey:
    """A symmetric key, such as an EARL's: it opens recipient entries without ``epk``."""

    octets: bytes = field(repr=False)


def kek(Z: bytes, info: bytes = INFOS[0]) -> bytes:
    """Key-encryption key, 32 octets, from agreement octets or a pre-shared key."""
    return HKDF(SHA512(), 32, salt=None, info=info).derive(Z)


def payload_keys(seed: bytes, salt: bytes) -> tuple[bytes, bytes]:
    """Key (32 octets) and IV (16) of A256CBC."""
    key = HKDF(SHA256(), 32, salt=salt, info=b"encrypt").derive(seed)
    return key, HKDF(SHA256(), 16, salt=salt, info=b"iv").derive(seed)


def witness(seed: bytes, salt: bytes, signature: bytes) -> bytes:
    """What shows that a signature was made by somebody who knew the seed; 32 octets."""
    return HKDF(SHA256(), 32, salt=salt, info=signature).derive(seed)


def seed_kid(seed: bytes) -> str:
    """The header's ``kid``: a UDF of the seed at 140 bits. Informational (dare §2.2)."""
    digest = hashlib.sha512(b"UDFEncryption:" + seed).digest()
    text = b32encode(_SEED_KID_TYPES + digest).decode("ascii")[:28]
    return "-".join(text[at : at + 4] for at in range(0, len(text), 4))


def unwrap(entries: Sequence[RecipientEntry], keys: Sequence[object]) -> tuple[bytes, str] | None:
    """The base seed and the ``kid`` of the key that opened it, or None if no key at hand does.

    Every key is tried on entries of its curve, those that ``kid`` names first: the wrap's check
    value decides, not a ``kid`` that anybody can write. Raises ``DecryptionError`` if more than
    ``MAX_TRIES`` entries fit a key and none of the first opens, and what the keys raise.
    """
    for entry, name, candidates in _attempts(entries, keys):
        for Z in candidates:
            for info in INFOS:
                try:
                    seed = aes_key_unwrap(kek(Z, info), entry.wmk)
                except InvalidUnwrap:
                    continue
                return seed, name
    return None


def _attempts(
    entries: Sequence[RecipientEntry], keys: Sequence[object]
) -> Iterator[tuple[RecipientEntry, str, Iterable[bytes]]]:
    pairs: list[tuple[bool, RecipientEntry, Decryptor, Point]] = []
    untried = 0
    for key in keys:
        if isinstance(key, PresharedKey):
            for entry in entries:
                if entry.preshared:
                    yield entry, entry.kid or "pre-shared key", (key.octets,)
        elif isinstance(key, Decryptor):
            fitting = [
                (not names(entry.kid, key.public), entry, key, entry.epk)
                for entry in entries
                if entry.epk is not None and entry.epk.curve is key.public.curve
            ]
            pairs += sorted(fitting, key=_named_first)[:MAX_TRIES]
            untried += max(0, len(fitting) - MAX_TRIES)
    for _, entry, key, epk in sorted(pairs, key=_named_first):
        yield entry, udf_of(key.public), key.agreements(epk)
    if untried:
        raise DecryptionError(
            f"no key at hand opens the entries that fit it best; {untried} more were not tried",
            hint="a sender who names your key's UDF as kid has his entry tried first",
        )


def names(kid: str, public: Point) -> bool:
    """Whether ``kid`` is the key's UDF under any content type that published data used (udf §6)."""
    wanted = kid.replace("-", "").upper()
    return any(
        fingerprint(public, content_type).udf().replace("-", "") == wanted
        for content_type in (CONTENT_TYPE, *OLDER_CONTENT_TYPES)
    )


def find_signer(
    entry: SignatureEntry, digest: bytes, trusted: Mapping[bytes, Point]
) -> Point | None:
    """The trusted key that made a signature over the 64-octet payload digest; None if unknown.

    A ``kid`` restricts which keys may have made it; without one, any may. Raises
    ``VerificationError`` if the key that ``kid`` names did not.
    """
    known = [key for key in trusted.values() if key.curve in (ED25519, ED448)]
    if entry.kid:
        known = [key for key in known if names(entry.kid, key)]
    for key in known:
        if _verifies(key, digest, entry.signature):
            return key
    if known and entry.kid:
        raise VerificationError("a signature does not verify: payload or signature was altered")
    return None


def check_witness(entry: SignatureEntry, seed: bytes, salt: bytes) -> None:
    """Refuse a signature by somebody who did not know the seed, or one without witness.

    Otherwise anybody could put his own signature on a ciphertext that he cannot read. Raises
    ``VerificationError``.
    """
    if not compare_digest(entry.witness or b"", witness(seed, salt, entry.signature)):
        raise VerificationError("the witness does not show that the signer knew the content")


def _verifies(public: Point, digest: bytes, signature: bytes) -> bool:
    # Published Ed25519 signatures have an empty context; some libraries can only sign purely.
    if public.curve is ED25519 and verify_ed25519ctx(public, digest, signature):
        return True
    return verify_prehashed(public, digest, signature)
