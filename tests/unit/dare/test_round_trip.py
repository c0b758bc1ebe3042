"""What goes in comes out: curves, signers, forms, sizes, pipes."""

from __future__ import annotations

import io
import json
import os
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh_hsm import dare
from mesh_hsm.curves import Point
from mesh_hsm.dare.payload import BLOCK
from mesh_hsm.dare.strict_json import b64url, compact, un_b64url
from mesh_hsm.errors import (
    ConflictError,
    DecryptionError,
    FormatError,
    InvalidPointError,
    StorageError,
    UnsupportedError,
)
from mesh_hsm.udf import fingerprint, udf_of

AGREEING = ["P-256", "P-384", "P-521", "X25519", "X448"]
SIGNING = ["P-256", "P-384", "P-521", "Ed25519", "Ed448"]
SIZES = [0, 1, 15, 16, 17, BLOCK - 16, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK - 16, 3 * BLOCK + 5]


def trust(*keys: Any) -> dict[bytes, Point]:
    return {fingerprint(one.public).octets: one.public for one in keys}


def written(content: bytes, **options: Any) -> bytes:
    sink = io.BytesIO()
    dare.encode(io.BytesIO(content), sink, **options)
    return sink.getvalue()


def opened(octets: bytes, **options: Any) -> bytes:
    sink = io.BytesIO()
    dare.decode(io.BytesIO(octets), sink, **options)
    return sink.getvalue()


@pytest.mark.parametrize("name", AGREEING)
def test_every_agreement_curve(decryptor: Any, name: str) -> None:
    key = decryptor(name)
    envelope = dare.seal(b"content", recipients=[dare.Recipient(key.public)])
    result = dare.unseal(envelope, keys=[key])
    assert result.payload == b"content"
    assert result.report.opened_by == udf_of(key.public)
    assert result.report.recipients == (udf_of(key.public),)
    assert result.report.authenticated
    assert "not signed" in result.report.warnings[0]


@pytest.mark.parametrize("name", SIGNING)
def test_every_signature_curve(signer: Any, name: str) -> None:
    one = signer(name)
    envelope = dare.seal(b"content", signers=[one])
    result = dare.unseal(envelope, trusted=trust(one))
    assert result.payload == b"content"
    (report,) = result.report.signers
    assert (report.kid, report.status) == (udf_of(one.public), dare.SignatureStatus.VERIFIED)
    assert result.report.enc == "none"
    assert result.report.warnings == ()


@settings(deadline=None, max_examples=25)
@given(content=st.binary(max_size=4000), armor=st.booleans(), known=st.booleans())
def test_any_content(decryptor: Any, signer: Any, content: bytes, armor: bool, known: bool) -> None:
    key, one = decryptor("P-256"), signer("Ed25519")
    octets = written(
        content,
        recipients=[dare.Recipient(key.public)],
        signers=[one],
        armor=armor,
        size=len(content) if known else None,
    )
    assert opened(octets, keys=[key], trusted=trust(one)) == content


@pytest.mark.parametrize("armor", [False, True])
@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_sizes_about_the_edges_of_blocks(
    decryptor: Any, signer: Any, size: int, known: bool, armor: bool
) -> None:
    key, one = decryptor("P-256"), signer("P-256")
    content = (bytes(range(251)) * (size // 251 + 1))[:size]
    options = {"armor": armor, "size": size if known else None}
    octets = written(content, recipients=[dare.Recipient(key.public)], **options)
    assert opened(octets, keys=[key]) == content
    clear = written(content, signers=[one], **options)
    assert opened(clear, keys=[], trusted=trust(one)) == content


def test_each_of_several_recipients_opens_it(decryptor: Any) -> None:
    everybody = [decryptor(name) for name in AGREEING]
    octets = written(b"content", recipients=[dare.Recipient(one.public) for one in everybody])
    for key in everybody:
        assert opened(octets, keys=[key]) == b"content"


def test_only_keys_that_are_named_are_asked(decryptor: Any) -> None:
    named, other = decryptor("P-384"), decryptor("P-384", "Other")
    octets = written(b"content", recipients=[dare.Recipient(named.public)])
    before = other.asked
    assert opened(octets, keys=[other, named]) == b"content"
    assert other.asked == before


@pytest.mark.parametrize("first", [0, 1])
def test_the_first_key_that_is_named_is_asked(decryptor: Any, first: int) -> None:
    """Whatever the order of recipients: a reader puts the key first that costs least to use."""
    keys = [decryptor("P-384", f"order {number}") for number in (0, 1)]
    envelope = dare.seal(b"x", recipients=[dare.Recipient(key.public) for key in keys])
    one, other = keys[first], keys[1 - first]
    asked = other.asked
    assert dare.unseal(envelope, keys=[one, other]).report.opened_by == udf_of(one.public)
    assert other.asked == asked


def test_nobody_else_opens_it(decryptor: Any) -> None:
    octets = written(b"content", recipients=[dare.Recipient(decryptor("X448").public)])
    with pytest.raises(DecryptionError) as caught:
        opened(octets, keys=[decryptor("X448", "Other")])
    assert udf_of(decryptor("X448").public) in str(caught.value.hint)
    with pytest.raises(DecryptionError):
        opened(octets, keys=[])


def test_a_recipient_named_twice_has_one_entry(decryptor: Any) -> None:
    point = decryptor("P-256").public
    report = dare.seal(b"", recipients=[dare.Recipient(point), dare.Recipient(point)])
    assert len(dare.inspect(io.BytesIO(dare_octets(report))).recipients) == 1


def test_a_double_recipient_needs_both_keys(decryptor: Any) -> None:
    device, once = decryptor("P-384"), decryptor("X25519")
    both = dare.DoubleRecipient(device.public, once.public)
    envelope = dare.seal(b"seed", recipients=[both])
    result = dare.unseal(envelope, keys=[dare.DoubleDecryptor(device, once)])
    assert result.payload == b"seed"
    assert result.report.recipients == (f"{udf_of(device.public)}+{udf_of(once.public)}",)
    stranger = decryptor("X25519", "Other")
    for keys in (
        [device],
        [once],
        [device, once],
        [dare.DoubleDecryptor(once, device)],
        [dare.DoubleDecryptor(device, stranger)],
        [dare.DoubleDecryptor(decryptor("P-384", "Other"), once)],
    ):
        with pytest.raises(DecryptionError):
            dare.unseal(envelope, keys=keys)


def test_either_ephemeral_of_a_double_recipient_counts(decryptor: Any) -> None:
    device, once = decryptor("P-384"), decryptor("P-384", "Once")
    both = dare.DoubleRecipient(device.public, once.public)
    envelope = dare.seal(b"seed", recipients=[both])
    P = json.loads(un_b64url(envelope[0]["protected"], "P"))
    (entry,) = P["recipients"]
    entry["epk"], entry["epk2"] = entry["epk2"], entry["epk"]
    envelope[0]["protected"] = b64url(compact(P))
    with pytest.raises(DecryptionError):
        dare.unseal(envelope, keys=[dare.DoubleDecryptor(device, once)])


def test_a_double_recipient_is_alone(decryptor: Any) -> None:
    device, once = decryptor("P-384").public, decryptor("X25519").public
    with pytest.raises(UnsupportedError):
        dare.seal(b"", recipients=[dare.DoubleRecipient(device, once), dare.Recipient(device)])


def test_a_double_key_does_not_open_a_single_entry(decryptor: Any) -> None:
    device, once = decryptor("P-384"), decryptor("X25519")
    envelope = dare.seal(b"", recipients=[dare.Recipient(device.public)])
    with pytest.raises(DecryptionError):
        dare.unseal(envelope, keys=[dare.DoubleDecryptor(device, once)])


def test_the_description_comes_back(signer: Any) -> None:
    one = signer("Ed448")
    meta = dare.ContentMeta(
        "text/plain", "ä.txt", "2026-01-01T00:00:00Z", "u", "T", {"Labels": [1]}
    )
    envelope = dare.seal(b"", signers=[one], meta=meta, envelope_id="MAAA")
    report = dare.unseal(envelope, trusted=trust(one)).report
    assert report.meta == meta
    assert report.envelope_id == "MAAA"
    assert report.to_json()["filename"] == "ä.txt"
    assert report.to_json()["signers"][0]["status"] == "verified"


def test_what_is_neither_encrypted_nor_signed_says_so() -> None:
    octets = written(b"content", meta=dare.ContentMeta(filename="a"), envelope_id="NAAA")
    sink = io.BytesIO()
    report = dare.decode(io.BytesIO(octets), sink, keys=[])
    assert sink.getvalue() == b"content"
    assert (report.form, report.enc, report.authenticated) == ("plain", "none", False)
    assert "anybody" in report.warnings[0]
    assert report.envelope_id == "NAAA"


def test_every_envelope_has_its_own_seed_salt_and_name(decryptor: Any) -> None:
    recipients = [dare.Recipient(decryptor("P-256").public)]
    one, other = (dare.seal(b"content", recipients=recipients) for _ in range(2))
    assert one[0]["protected"] != other[0]["protected"]
    assert one[1] != other[1]


class Pipe(io.RawIOBase):
    """Octets that cannot be sought in."""

    def __init__(self, octets: bytes) -> None:
        self._inner = io.BytesIO(octets)

    def readable(self) -> bool:
        return True

    def readinto(self, view: Any) -> int:
        return self._inner.readinto(view)


def test_a_pipe_is_read(decryptor: Any, signer: Any) -> None:
    key, one = decryptor("P-256"), signer("P-256")
    content = bytes(2 * BLOCK + 3)
    octets = written(content, recipients=[dare.Recipient(key.public)], signers=[one])
    sink = io.BytesIO()
    dare.decode(Pipe(octets), sink, keys=[key], trusted=trust(one))
    assert sink.getvalue() == content
    assert dare.inspect(Pipe(octets)).enc == "A256GCM"
    assert dare.verify(Pipe(octets), trust(one)).authenticated


def test_a_file_is_read_from_where_it_stands(decryptor: Any) -> None:
    """As a shell leaves standard input to the next command: what came before is not ours."""
    reader, sink = decryptor("X448"), io.BytesIO()
    sink.write(b"a line that somebody else has read\n")
    dare.encode(io.BytesIO(b"content"), sink, recipients=[dare.Recipient(reader.public)])
    for read in (dare.inspect, lambda source: dare.decode(source, io.BytesIO(), keys=[reader])):
        sink.seek(0)
        with pytest.raises(FormatError):
            read(sink)
        sink.seek(35)
        assert read(sink).enc == "A256GCM"


def test_a_real_pipe_is_read_while_it_is_written(decryptor: Any) -> None:
    key = decryptor("P-256")
    content = bytes(300_000)
    octets = written(content, recipients=[dare.Recipient(key.public)])
    reading, writing = os.pipe()

    def feed() -> None:
        with os.fdopen(writing, "wb") as end:
            end.write(octets)

    thread = threading.Thread(target=feed)
    thread.start()
    sink = io.BytesIO()
    with os.fdopen(reading, "rb") as end:
        dare.decode(end, sink, keys=[key])
    thread.join()
    assert sink.getvalue() == content


def test_a_source_of_another_size_than_announced_is_an_error(decryptor: Any) -> None:
    recipients = [dare.Recipient(decryptor("P-256").public)]
    for size in (6, 8):
        with pytest.raises(StorageError):
            written(b"content", recipients=recipients, size=size)


@pytest.mark.parametrize("name", ["Ed25519", "Ed448"])
def test_signature_keys_are_not_encrypted_to(signer: Any, name: str) -> None:
    with pytest.raises(UnsupportedError):
        dare.seal(b"", recipients=[dare.Recipient(signer(name).public)])


def test_agreement_keys_do_not_sign(decryptor: Any) -> None:
    sink = io.BytesIO()
    with pytest.raises(UnsupportedError):
        dare.encode(io.BytesIO(b""), sink, signers=[decryptor("X448")])
    assert not sink.getvalue()


@pytest.mark.parametrize("name", AGREEING)
def test_the_neutral_point_is_not_encrypted_to(decryptor: Any, name: str) -> None:
    with pytest.raises(InvalidPointError):
        dare.seal(b"", recipients=[dare.Recipient(decryptor(name).public.curve.neutral)])


def test_too_many_recipients_are_refused(decryptor: Any) -> None:
    with pytest.raises(UnsupportedError):
        dare.seal(b"", recipients=[dare.Recipient(decryptor("P-256").public)] * 1025)


def test_verify_checks_ciphertext(decryptor: Any, signer: Any) -> None:
    key, one = decryptor("P-256"), signer("P-521")
    octets = written(b"x", recipients=[dare.Recipient(key.public)], signers=[one])
    report = dare.verify(io.BytesIO(octets), trust(one))
    assert report.authenticated
    assert report.signers[0].status is dare.SignatureStatus.VERIFIED


def test_inspect_verifies_nothing(decryptor: Any, signer: Any) -> None:
    key, one, late = decryptor("P-256"), signer("P-521"), signer("P-256", "Late")
    envelope = dare.seal(b"x", recipients=[dare.Recipient(key.public)], signers=[one])
    report = dare.inspect(io.BytesIO(dare_octets(dare.countersign(envelope, late))))
    assert not report.authenticated
    assert [two.status for two in report.signers + report.countersigners] == [
        dare.SignatureStatus.NOT_CHECKED
    ] * 2
    assert report.countersigners[0].kid == udf_of(late.public)


def test_a_clear_payload_can_be_looked_at_before_it_is_believed(signer: Any) -> None:
    envelope = dare.seal(b"content", signers=[signer("P-256")])
    assert dare.peek_payload(envelope) == b"content"
    assert dare.peek_payload(dare_octets(envelope)) == b"content"


def test_an_encrypted_payload_cannot(decryptor: Any) -> None:
    with pytest.raises(DecryptionError):
        dare.peek_payload(dare.seal(b"", recipients=[dare.Recipient(decryptor("X448").public)]))


def test_the_interop_dialect_is_written_and_read(decryptor: Any) -> None:
    key = decryptor("X448")
    envelope = dare.seal(
        b"content", recipients=[dare.Recipient(key.public)], dialect=dare.PUBLISHED
    )
    assert envelope[0]["enc"] == "A256CBC"
    opened_ = dare.unseal(envelope, keys=[key], allow_unauthenticated=True)
    assert opened_.payload == b"content"
    assert not opened_.report.authenticated
    assert dare.inspect(io.BytesIO(dare_octets(envelope))).form == "published"


def test_signing_twice_is_a_conflict(signer: Any) -> None:
    one, late = signer("P-256"), signer("P-256", "Late")
    envelope = dare.seal(b"", signers=[one])
    with pytest.raises(ConflictError):
        dare.countersign(envelope, one)
    with pytest.raises(ConflictError):
        dare.countersign(dare.countersign(envelope, late), late)


def dare_octets(envelope: list[Any]) -> bytes:
    return compact(envelope)
