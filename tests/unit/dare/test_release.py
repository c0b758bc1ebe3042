"""No plaintext before everything has been checked, whatever goes wrong and when."""

from __future__ import annotations

import io
import json
import os
import resource
import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mesh_hsm import dare
from mesh_hsm.curves import Point, curve
from mesh_hsm.dare import suite
from mesh_hsm.dare.payload import BLOCK
from mesh_hsm.dare.protected import Protected
from mesh_hsm.dare.recipients import wrap
from mesh_hsm.dare.strict_json import b64url, compact, un_b64url
from mesh_hsm.errors import (
    DecryptionError,
    FormatError,
    InvalidPointError,
    StorageError,
    UnsupportedError,
    VerificationError,
)
from mesh_hsm.udf import fingerprint

CONTENT = secrets.token_bytes(3 * BLOCK + 100)


class Sink(io.BytesIO):
    """Remembers that it was written to at all."""

    writes = 0

    def write(self, octets: Any) -> int:
        self.writes += 1
        return super().write(octets)


def file_for(key: Any, *, signers: Any = (), armor: bool = False) -> bytes:
    sink = io.BytesIO()
    dare.encode(
        io.BytesIO(CONTENT),
        sink,
        recipients=[dare.Recipient(key.public)],
        signers=signers,
        armor=armor,
        size=len(CONTENT),
    )
    return sink.getvalue()


@pytest.mark.parametrize("from_the_end", [5, 20, BLOCK, 3 * BLOCK])
def test_an_altered_payload_releases_nothing(decryptor: Any, from_the_end: int) -> None:
    key = decryptor("P-256")
    octets = bytearray(file_for(key))
    octets[-from_the_end] ^= 1
    sink = Sink()
    with pytest.raises((DecryptionError, FormatError)):
        dare.decode(io.BytesIO(octets), sink, keys=[key])
    assert sink.writes == 0


@pytest.mark.parametrize("encrypted", [True, False])
def test_a_bad_signature_releases_nothing(decryptor: Any, signer: Any, encrypted: bool) -> None:
    key, one = decryptor("P-256"), signer("P-256")
    recipients = [dare.Recipient(key.public)] if encrypted else []
    envelope = dare.seal(b"content", recipients=recipients, signers=[one])
    entry = envelope[2]["signatures"][0]
    entry["signature"] = b64url(bytes(64))
    sink = Sink()
    with pytest.raises(VerificationError):
        dare.decode(
            io.BytesIO(compact(envelope)),
            sink,
            keys=[key],
            trusted={fingerprint(one.public).octets: one.public},
        )
    assert sink.writes == 0


class Shifting(io.BytesIO):
    """A file that somebody changes once so many octets of it have been read."""

    def __init__(self, octets: bytes, after: int, change: Callable[[Shifting], None]) -> None:
        super().__init__(octets)
        self._left = after
        self._change = change

    def readinto(self, view: Any) -> int:
        got = super().readinto(view)
        self._left -= got
        if self._left <= 0 and self._left + got > 0:
            place = self.tell()
            self._change(self)
            self.seek(place)
        return got


@pytest.mark.parametrize("armor", [False, True])
def test_a_file_changed_between_the_passes_releases_none_of_the_change(
    decryptor: Any, armor: bool
) -> None:
    key = decryptor("P-256")
    octets = file_for(key, armor=armor)

    def change(file: Shifting) -> None:
        file.seek(-BLOCK - 1000, 2)
        old = file.read(4)
        file.seek(-4, 1)
        file.write(b"AAAA" if old != b"AAAA" else b"BBBB")

    # Text is read through once more before the first pass, to find its end.
    source = Shifting(octets, len(CONTENT) + 100, change)
    if armor:
        source = ReadShifting(octets, 2 * len(octets) + BLOCK, change)
    sink = Sink()
    with pytest.raises(StorageError):
        dare.decode(source, sink, keys=[key])
    released = sink.getvalue()
    assert len(released) < len(CONTENT)
    assert CONTENT.startswith(released)


class ReadShifting(Shifting):
    """The same for ``read``."""

    def read(self, size: int | None = -1) -> bytes:
        octets = super().read(size)
        self._left -= len(octets)
        if self._left <= 0 and self._left + len(octets) > 0:
            place = self.tell()
            self._change(self)
            self.seek(place)
        return octets


def test_a_payload_shorter_than_its_tag_is_refused(decryptor: Any) -> None:
    key = decryptor("P-256")
    envelope = dare.seal(b"content", recipients=[dare.Recipient(key.public)])
    envelope[1] = b64url(bytes(15))
    with pytest.raises(FormatError):
        dare.unseal(envelope, keys=[key])


def test_a_file_cut_in_its_tag_meanwhile_is_noticed(decryptor: Any) -> None:
    key = decryptor("P-256")
    octets = file_for(key)

    def change(file: Shifting) -> None:
        file.truncate(len(octets) - 20)

    with pytest.raises(StorageError):
        dare.decode(Shifting(octets, 2 * BLOCK, change), Sink(), keys=[key])


def test_text_cut_in_its_tag_meanwhile_is_noticed(decryptor: Any) -> None:
    key = decryptor("P-256")
    octets = file_for(key, armor=True)

    def change(file: Shifting) -> None:
        file.seek(-13, 2)  # seven characters, five octets, before the old quote
        file.write(b'"')

    # Past the header and the search for the payload's end, before the first pass.
    start = octets.index(b',"') + 1
    source = ReadShifting(octets, BLOCK + len(octets) - start - 20, change)
    with pytest.raises(StorageError):
        dare.decode(source, Sink(), keys=[key])


def test_one_ciphertext_with_two_plaintexts_is_refused(decryptor: Any) -> None:
    """Two recipients, two keys: each would read something else without the commitment."""
    alice, bob = decryptor("P-256"), decryptor("X25519")
    seeds, salt = [secrets.token_bytes(32) for _ in range(2)], secrets.token_bytes(32)
    one, other = (suite.payload_keys(seed, salt) for seed in seeds)
    entries = wrap(seeds[0], [dare.Recipient(alice.public)]) + wrap(
        seeds[1], [dare.Recipient(bob.public)]
    )
    protected = Protected("NAAA", salt=salt, commit=one.commit, recipients=tuple(entries))
    header = protected.header()
    P = header["protected"].encode()
    for keys, reader, other_reader in ((one, alice, bob), (other, bob, alice)):
        ciphertext = AESGCM(keys.key).encrypt(keys.iv, b"content", P)
        envelope = [header, b64url(ciphertext), {}]
        if keys is one:
            assert dare.unseal(envelope, keys=[reader]).payload == b"content"
        else:
            with pytest.raises(DecryptionError, match="commitment"):
                dare.unseal(envelope, keys=[reader])
        with pytest.raises(DecryptionError):
            dare.unseal(envelope, keys=[other_reader])


HOSTILE_POINTS: dict[str, tuple[str, bytes]] = {
    "P-256-off-the-curve": ("P-256", b"\4" + bytes(31) + b"\1" + bytes(31) + b"\1"),
    "P-256-compressed": ("P-256", b"\2" + curve("P-256").base.encode()[1:33]),
    "P-256-short": ("P-256", curve("P-256").base.encode()[:-1]),
    "P-256-neutral": ("P-256", b"\0"),
    "P-521-too-large": ("P-521", b"\4" + b"\xff" * 132),
    "X25519-unsigned": ("X25519", curve("X25519").base.encode()[:32]),
    "X25519-small-order": ("X25519", bytes(33)),
    "X25519-order-eight": (
        "X25519",
        bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800") + b"\0",
    ),
    "X25519-twist": ("X25519", b"\2" + bytes(32)),
    "X25519-not-canonical": ("X25519", b"\xf6" + b"\xff" * 30 + b"\x7f" + b"\0"),
    "X25519-sign-bits": ("X25519", curve("X25519").base.encode()[:32] + b"\x01"),
    "X448-unsigned": ("X448", curve("X448").base.encode()[:56]),
    "X448-small-order": ("X448", bytes(57)),
    "X448-long": ("X448", curve("X448").base.encode() + b"\0"),
}


@pytest.mark.parametrize(("name", "octets"), HOSTILE_POINTS.values(), ids=HOSTILE_POINTS)
def test_hostile_ephemeral_points_never_reach_a_key(
    decryptor: Any, name: str, octets: bytes
) -> None:
    key = decryptor(name, "Hostile")
    envelope = dare.seal(b"content", recipients=[dare.Recipient(key.public)])
    P = json.loads(un_b64url(envelope[0]["protected"], "P"))
    P["recipients"][0]["epk"]["PublicKeyECDH"]["Public"] = b64url(octets)
    envelope[0]["protected"] = b64url(compact(P))
    with pytest.raises((InvalidPointError, FormatError)):
        dare.unseal(envelope, keys=[key])
    assert key.asked == 0


class SigningDecryptor:
    """A key of the wrong kind."""

    def __init__(self, public: Point) -> None:
        self.public = public

    def agreements(self, S: Point) -> list[bytes]:
        raise AssertionError("asked")


def test_a_signature_key_never_agrees(decryptor: Any, signer: Any) -> None:
    wrong = SigningDecryptor(signer("Ed448").public)
    envelope = dare.seal(b"content", recipients=[dare.Recipient(decryptor("X448").public)])
    P = json.loads(un_b64url(envelope[0]["protected"], "P"))
    P["recipients"][0]["kid"] = fingerprint(wrong.public).udf()
    envelope[0]["protected"] = b64url(compact(P))
    with pytest.raises(UnsupportedError):
        dare.unseal(envelope, keys=[wrong])


def test_a_pipe_that_does_not_fit_on_the_disk_is_a_storage_error(decryptor: Any) -> None:
    octets = file_for(decryptor("P-256"))
    reading, writing = os.pipe()

    def feed() -> None:
        with suppress(BrokenPipeError), os.fdopen(writing, "wb", buffering=0) as end:
            end.write(octets)

    thread = threading.Thread(target=feed)
    thread.start()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (BLOCK, hard))
    try:
        with os.fdopen(reading, "rb") as end, pytest.raises(StorageError):
            dare.decode(end, Sink(), keys=[decryptor("P-256")])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        thread.join()


class Full(io.BytesIO):
    """A sink that takes one block."""

    def write(self, octets: Any) -> int:
        if self.tell() + len(octets) > BLOCK:
            raise OSError("full")
        return super().write(octets)


def test_a_full_sink_is_reported_by_whoever_writes(decryptor: Any) -> None:
    key = decryptor("P-256")
    with pytest.raises(OSError, match="full"):
        dare.decode(io.BytesIO(file_for(key)), Full(), keys=[key])
    with pytest.raises(OSError, match="full"):
        dare.encode(io.BytesIO(CONTENT), Full(), recipients=[dare.Recipient(key.public)])


def test_more_than_gcm_bears_is_refused_when_written(
    decryptor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mesh_hsm.dare.stream.MAX_PLAINTEXT", len(CONTENT) - 1)
    with pytest.raises(UnsupportedError):
        file_for(decryptor("P-256"))


def test_more_than_gcm_bears_is_refused_when_read(
    decryptor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    octets = file_for(decryptor("P-256"))
    monkeypatch.setattr("mesh_hsm.dare.stream.MAX_PLAINTEXT", len(CONTENT) - 1)
    with pytest.raises(FormatError):
        dare.decode(io.BytesIO(octets), Sink(), keys=[decryptor("P-256")])
