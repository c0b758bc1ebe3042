"""Envelopes made on purpose by somebody who holds every key: valid signatures, tags and wraps.

What an alteration could not reach, a maker can: readers refuse these by form alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mesh_hsm import dare
from mesh_hsm.dare import signatures, suite
from mesh_hsm.dare.recipients import wrap
from mesh_hsm.dare.strict_json import b64url, compact
from mesh_hsm.errors import DecryptionError, FormatError
from mesh_hsm.udf import fingerprint

SEED, SALT = bytes(range(32)), bytes(range(32, 64))
CONTENT = b"content"


def signed(signer: Any, change: Callable[[dict[str, Any]], Any]) -> list[Any]:
    fp = b64url(fingerprint(signer.public).octets)
    members = {
        "v": "hsm-1",
        "enc": "none",
        "EnvelopeId": "NAAA",
        "ContentMetaData": "e30",
        "signers": [fp],
    }
    change(members)
    P = b64url(compact(members))
    entry = signatures.sign(signer, P, hashlib.sha512(CONTENT).digest())
    return [{"dig": "S512", "protected": P}, b64url(CONTENT), {"signatures": [entry]}]


def encrypted(entries: list[Any], change: Callable[[dict[str, Any]], Any]) -> list[Any]:
    keys = suite.payload_keys(SEED, SALT)
    members = {
        "v": "hsm-1",
        "enc": "A256GCM",
        "EnvelopeId": "NAAA",
        "ContentMetaData": "e30",
        "Salt": b64url(SALT),
        "Commit": b64url(keys.commit),
        "recipients": entries,
    }
    change(members)
    P = b64url(compact(members))
    ciphertext = AESGCM(keys.key).encrypt(keys.iv, CONTENT, P.encode())
    return [{"enc": "A256GCM", "protected": P}, b64url(ciphertext), {}]


def nothing(members: dict[str, Any]) -> None:
    pass


def test_the_crafting_itself_is_right(decryptor: Any, signer: Any) -> None:
    one, key = signer("P-256"), decryptor("P-256")
    trusted = {fingerprint(one.public).octets: one.public}
    assert dare.unseal(signed(one, nothing), trusted=trusted).payload == CONTENT
    entries = wrap(SEED, [dare.Recipient(key.public)])
    assert dare.unseal(encrypted(entries, nothing), keys=[key]).payload == CONTENT


SIGNED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another-version": lambda P: P.update(v="hsm-2"),
    "version-is-a-number": lambda P: P.update(v=1),
    "another-enc": lambda P: P.update(enc="A128GCM"),
    "claims-encryption": lambda P: P.update(enc="A256GCM"),
    "signer-twice": lambda P: P["signers"].append(P["signers"][0]),
    "signers-no-list": lambda P: P.update(signers=P["signers"][0]),
    "signers-not-text": lambda P: P.update(signers=[1]),
    "another-member": lambda P: P.update(note=""),
    "member-of-encryption": lambda P: P.update(Salt=b64url(SALT)),
    "recipients-on-clear-content": lambda P: P.update(recipients=[]),
    "no-name": lambda P: P.pop("EnvelopeId"),
    "no-description": lambda P: P.pop("ContentMetaData"),
    "description-not-base64url": lambda P: P.update(ContentMetaData="e3 0"),
    "description-no-object": lambda P: P.update(ContentMetaData=b64url(b"[]")),
    "description-member-twice": lambda P: P.update(ContentMetaData=b64url(b'{"a":1,"a":2}')),
    "description-with-an-infinite-number": lambda P: P.update(
        ContentMetaData=b64url(b'{"a":1e999}')
    ),
    "sequence-info-no-object": lambda P: P.update(SequenceInfo=None),
}


@pytest.mark.parametrize("change", SIGNED.values(), ids=SIGNED)
def test_a_signed_malformed_header_is_refused(
    signer: Any, change: Callable[[dict[str, Any]], Any]
) -> None:
    one = signer("P-256")
    trusted = {fingerprint(one.public).octets: one.public}
    with pytest.raises(FormatError):
        dare.unseal(signed(one, change), trusted=trusted)


def test_sequence_info_is_a_member_that_may_be_there(signer: Any) -> None:
    one = signer("P-256")
    envelope = signed(one, lambda P: P.update(SequenceInfo={"Index": 1}))
    trusted = {fingerprint(one.public).octets: one.public}
    assert dare.unseal(envelope, trusted=trusted).payload == CONTENT


ENCRYPTED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another-version": lambda P: P.update(v="hsm-2"),
    "salt-of-16": lambda P: P.update(Salt=b64url(SALT[:16])),
    "no-commitment": lambda P: P.pop("Commit"),
    "nobody": lambda P: P.update(recipients=[]),
    "too-many": lambda P: P.update(recipients=P["recipients"] * 1025),
    # Each entry that names a key costs its device a call, on a point of the sender's choice.
    "recipient-twice": lambda P: P["recipients"].append(P["recipients"][0]),
    "kid-steers-the-terminal": lambda P: P["recipients"][0].update(kid="M\x1b[2J"),
    "kid-on-two-lines": lambda P: P["recipients"][0].update(kid="MAAA\n"),
    "kid-without-end": lambda P: P["recipients"][0].update(kid="MAAA" + "-AAAA" * 22),
    "entry-no-object": lambda P: P["recipients"].append("x"),
    "entry-with-more": lambda P: P["recipients"][0].update(rkd=""),
    "crv-of-another-curve": lambda P: P["recipients"][0]["epk"]["PublicKeyECDH"].update(
        crv="P-384"
    ),
    "epk-with-more": lambda P: P["recipients"][0]["epk"].update(note=""),
    "wrapped-key-of-48": lambda P: P["recipients"][0].update(wmk=b64url(bytes(48))),
    "double-beside-single": lambda P: P["recipients"].append(
        P["recipients"][0] | {"kid2": "MAAA", "epk2": P["recipients"][0]["epk"]}
    ),
}


@pytest.mark.parametrize("change", ENCRYPTED.values(), ids=ENCRYPTED)
def test_an_encrypted_malformed_header_is_refused(
    decryptor: Any, change: Callable[[dict[str, Any]], Any]
) -> None:
    key = decryptor("P-256")
    entries = wrap(SEED, [dare.Recipient(key.public)])
    with pytest.raises(FormatError):
        dare.unseal(encrypted(entries, change), keys=[key])


def test_a_wrong_commitment_is_refused_although_the_tag_is_right(decryptor: Any) -> None:
    key = decryptor("P-256")
    entries = wrap(SEED, [dare.Recipient(key.public)])
    envelope = encrypted(entries, lambda P: P.update(Commit=b64url(bytes(32))))
    with pytest.raises(DecryptionError, match="commitment"):
        dare.unseal(envelope, keys=[key])


def test_one_key_of_two_is_not_even_asked(decryptor: Any) -> None:
    device, once = decryptor("P-384", "Device"), decryptor("X25519", "Once")
    envelope = dare.seal(b"", recipients=[dare.DoubleRecipient(device.public, once.public)])
    with pytest.raises(DecryptionError):
        dare.unseal(envelope, keys=[device, once])
    assert device.asked == once.asked == 0


@pytest.mark.parametrize("kid", ["", "M\x1b[2J", "MAAA\n", "maaa-aaaa", "MAAA" + "-AAAA" * 22])
def test_who_adds_a_signature_is_named_by_a_udf(signer: Any, kid: str) -> None:
    one = signer("P-256")
    envelope = signed(one, nothing)
    entry = envelope[2]["signatures"][0]
    envelope[2]["signatures"].append(entry | {"kid": kid})
    with pytest.raises(FormatError):
        dare.unseal(envelope, trusted={fingerprint(one.public).octets: one.public})
