"""The published form: what is written, what is found when altered, and what never is."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha512
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x448 import X448PrivateKey, X448PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256, SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap, aes_key_wrap
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh_hsm.curves import ED448, ED25519, P384, X448, X25519, Curve, Point, SecretScalar
from mesh_hsm.dare import (
    PUBLISHED,
    ContentMeta,
    DoubleRecipient,
    Recipient,
    SignatureStatus,
    decode,
    encode,
    inspect,
    published_agreement,
    published_writing,
    seal,
    unseal,
    verify,
)
from mesh_hsm.dare.jsonb import binary
from mesh_hsm.dare.published_header import MAX_ENTRIES, MAX_SALT
from mesh_hsm.dare.published_keys import MAX_TRIES, PresharedKey, kek, payload_keys
from mesh_hsm.dare.strict_json import b64url
from mesh_hsm.errors import (
    CannotVerifyError,
    DecryptionError,
    DeviceError,
    FormatError,
    InvalidPointError,
    MeshHsmError,
    UnsupportedError,
    VerificationError,
)
from mesh_hsm.udf import CONTENT_TYPE, OLDER_CONTENT_TYPES, fingerprint, udf_of
from mesh_hsm_software.legacy import EdwardsKey

Envelope = list[Any]
CONTENT = b"The CEO told me the product launch is today. Tell no-one! " * 2
REFERENCE = Path(__file__).parents[3] / "docs" / "reference" / "published-form.md"


@dataclass
class Scalar:
    """A ``Decryptor`` on X25519 or X448 that counts how often it is asked."""

    scalar: SecretScalar
    asked: int = 0

    @property
    def public(self) -> Point:
        return self.scalar.public()

    def agreements(self, S: Point) -> Iterator[bytes]:
        self.asked += 1
        yield self.scalar.x_of(S).octets()


@dataclass
class Pure:
    """A ``Signer`` that only signs purely, as devices and ordinary libraries do."""

    key: EdwardsKey

    @property
    def public(self) -> Point:
        return self.key.public

    def sign(self, octets: bytes) -> bytes:
        return self.key.sign(octets)


def new_key(curve: Curve) -> Any:
    if curve.family == "edwards":
        return EdwardsKey(curve, sha512(curve.name.encode()).digest()[: curve.field_size])
    return Scalar(SecretScalar.random(curve))


READER, STRANGER = Scalar(SecretScalar.random(X448)), Scalar(SecretScalar.random(X448))
SIGNER, SECOND = EdwardsKey(ED448, bytes(57)), EdwardsKey(ED25519, bytes(32))
TRUSTED = {fingerprint(one.public).octets: one.public for one in (SIGNER, SECOND)}


def sealed(*, encrypted: bool = True, signed: bool = True, content: bytes = CONTENT) -> Envelope:
    return seal(
        content,
        recipients=[Recipient(READER.public), Recipient(STRANGER.public)] if encrypted else [],
        signers=[SIGNER, SECOND] if signed else [],
        meta=ContentMeta(cty="text/plain", filename="launch.txt", other={"Labels": ["secret"]}),
        dialect=PUBLISHED,
        envelope_id="MESH",
    )


def opened(envelope: Any, **named: Any) -> Any:
    return unseal(envelope, **{"keys": [READER], "trusted": TRUSTED} | named)


# -- what is written -----------------------------------------------------------------------------


@pytest.mark.parametrize("curve", [X448, X25519, ED448, ED25519], ids=str)
@pytest.mark.parametrize("signer", [SIGNER, SECOND], ids=["Ed448", "Ed25519"])
@pytest.mark.parametrize("armor", [True, False])
def test_what_is_written_is_read(curve: Curve, signer: EdwardsKey, armor: bool) -> None:
    key, file, sink = new_key(curve), BytesIO(), BytesIO()
    meta = ContentMeta(cty="text/plain")
    written = encode(
        BytesIO(CONTENT),
        file,
        recipients=[Recipient(key.public)],
        signers=[signer],
        meta=meta,
        dialect=PUBLISHED,
        armor=armor,
        size=len(CONTENT),
    )
    file.seek(0)
    report = decode(file, sink, keys=[key], trusted=TRUSTED)
    assert sink.getvalue() == CONTENT
    assert report == replace(written, opened_by=udf_of(key.public))
    assert (report.form, report.enc, report.meta) == ("published", "A256CBC", meta)
    assert report.recipients == (udf_of(key.public),)
    assert [one.status for one in report.signers] == [SignatureStatus.HEADER_NOT_COVERED]
    assert not report.authenticated
    assert report.unprotected == ("EnvelopeId", "kid", "ContentMetaData")
    file.seek(0)
    assert verify(file, TRUSTED).signers == report.signers


@settings(max_examples=20, deadline=None)
@given(st.binary(max_size=100), st.booleans(), st.booleans())
def test_content_of_any_length(content: bytes, encrypted: bool, signed: bool) -> None:
    envelope = sealed(encrypted=encrypted, signed=signed, content=content)
    result = opened(envelope, allow_unauthenticated=encrypted and not signed)
    assert result.payload == content
    assert result.report.form == ("published" if encrypted or signed else "plain")


@pytest.mark.parametrize("size", [(1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20])
@pytest.mark.parametrize("known", [True, False])
def test_payloads_of_several_blocks_and_chunks(size: int, known: bool) -> None:
    content, file, sink = bytes(range(256)) * (size // 256 + 1), BytesIO(), BytesIO()
    encode(
        BytesIO(content[:size]),
        file,
        recipients=[Recipient(READER.public)],
        signers=[SIGNER],
        dialect=PUBLISHED,
        size=size if known else None,
    )
    file.seek(0)
    decode(file, sink, keys=[READER], trusted=TRUSTED)
    assert sink.getvalue() == content[:size]


def test_another_program_reads_what_is_written() -> None:
    # Nothing of ours but the private octets: dare §2 written down a second time.
    private = X448PrivateKey.generate()
    octets = bytearray(private.private_bytes_raw())
    octets[0] &= 252
    octets[55] |= 128
    scalar = SecretScalar(X448, int.from_bytes(octets, "little") % X448.order)
    envelope = seal(
        CONTENT, recipients=[Recipient(scalar.public())], signers=[SIGNER], dialect=PUBLISHED
    )
    header, payload, trailer = envelope
    (entry,) = header["recipients"]
    u = binary(entry["epk"]["PublicKeyECDH"]["Public"])
    assert len(u) == 57
    Z = private.exchange(X448PublicKey.from_public_bytes(u[:56]))
    wrapping = HKDF(SHA512(), 32, salt=bytes(64), info=b"").derive(Z)
    seed, salt = aes_key_unwrap(wrapping, binary(entry["wmk"])), binary(header["Salt"])
    assert len(salt) == 16
    key = HKDF(SHA256(), 32, salt=salt, info=b"encrypt").derive(seed)
    iv = HKDF(SHA256(), 16, salt=salt, info=b"iv").derive(seed)
    ciphertext = binary(payload)
    decryptor = Cipher(algorithms.AES256(key), modes.CBC(iv)).decryptor()
    padded = decryptor.update(ciphertext)
    assert padded[: -padded[-1]] == CONTENT
    assert padded[-padded[-1] :] == bytes([padded[-1]]) * padded[-1]
    digest = sha512(ciphertext).digest()
    assert binary(trailer["PayloadDigest"]) == digest
    (one,) = trailer["signatures"]
    signature = binary(one["signature"])
    witness = HKDF(SHA256(), 32, salt=salt, info=signature).derive(seed)
    assert binary(one["witness"]) == witness
    assert (header["dig"], one["alg"], one["kid"]) == ("S512", "S512", udf_of(SIGNER.public))


def test_x25519_ephemerals_are_written_without_sign() -> None:
    key = new_key(X25519)
    (header, _, _) = seal(CONTENT, recipients=[Recipient(key.public)], dialect=PUBLISHED)
    assert len(binary(header["recipients"][0]["epk"]["PublicKeyECDH"]["Public"])) == 32


def test_no_two_envelopes_share_a_secret() -> None:
    (one, _, _), (other, _, _) = sealed(), sealed()
    for name in ("Salt", "kid"):
        assert one[name] != other[name]
    epks = {json.dumps(entry["epk"]) for entry in one["recipients"] + other["recipients"]}
    assert len(epks) == 4


def test_the_same_recipient_or_signer_twice_is_written_once() -> None:
    header, _, trailer = seal(
        CONTENT,
        recipients=[Recipient(READER.public)] * 2,
        signers=[SIGNER, Pure(SIGNER)],
        dialect=PUBLISHED,
    )
    assert len(header["recipients"]) == len(trailer["signatures"]) == 1


class Liar(Pure):
    def sign(self, octets: bytes) -> bytes:
        return bytes(114)


REFUSED: dict[str, tuple[dict[str, Any], type[MeshHsmError]]] = {
    "NIST recipient": ({"recipients": [Recipient(P384.base)]}, UnsupportedError),
    "double recipient": (
        {"recipients": [DoubleRecipient(READER.public, STRANGER.public)]},
        UnsupportedError,
    ),
    "neutral recipient": ({"recipients": [Recipient(ED25519.neutral)]}, InvalidPointError),
    "too many recipients": (
        {"recipients": [Recipient(X25519.base.multiply(k)) for k in range(1, MAX_ENTRIES + 2)]},
        UnsupportedError,
    ),
    "NIST signer": ({"signers": [type("", (), {"public": P384.base})()]}, UnsupportedError),
    "agreement key as signer": ({"signers": [READER]}, UnsupportedError),
    "Ed25519 without context": ({"signers": [Pure(SECOND)]}, UnsupportedError),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_written(name: str) -> None:
    given_keys, error = REFUSED[name]
    sink = BytesIO()
    with pytest.raises(error):
        encode(BytesIO(CONTENT), sink, dialect=PUBLISHED, **given_keys)
    assert sink.getvalue() == b""


def test_a_signature_that_does_not_verify_is_not_released() -> None:
    with pytest.raises(DeviceError):
        seal(CONTENT, signers=[Liar(SIGNER)], dialect=PUBLISHED)


@pytest.mark.parametrize("curve", [ED25519, ED448], ids=str)
def test_points_of_small_order_never_meet_the_ephemeral(curve: Curve) -> None:
    ephemeral = published_agreement.Ephemeral(curve)
    for point in (curve.neutral, curve.point(0, curve.field_prime - 1)):
        with pytest.raises(InvalidPointError):
            ephemeral.agree(point)


# -- which alteration is found: the table of the reference ---------------------------------------

Alteration = Callable[[Envelope], None]


def flipped(text: str) -> str:
    octets = bytearray(binary(text))
    octets[0] ^= 1
    return b64url(bytes(octets))


def cut(envelope: Envelope) -> None:
    envelope[1] = b64url(binary(envelope[1])[:-16])


def set_header(name: str, value: Any) -> Alteration:
    return lambda envelope: envelope[0].update({name: value})


def set_trailer(name: str, value: Any) -> Alteration:
    return lambda envelope: envelope[2].update({name: value})


def set_signature(name: str, value: Any) -> Alteration:
    return lambda envelope: [one.update({name: value}) for one in signatures(envelope)] and None


def drop_signature(name: str) -> Alteration:
    return lambda envelope: [one.pop(name) for one in signatures(envelope)] and None


def flip_signature(name: str) -> Alteration:
    return lambda envelope: signatures(envelope)[0].update(
        {name: flipped(signatures(envelope)[0][name])}
    )


def signatures(envelope: Envelope) -> list[dict[str, Any]]:
    return list(envelope[2].get("signatures", []))


def own(envelope: Envelope) -> dict[str, Any]:
    entry: dict[str, Any] = envelope[0]["recipients"][0]
    return entry


def other_point(envelope: Envelope) -> None:
    own(envelope)["epk"] = envelope[0]["recipients"][1]["epk"]


def flip_sign(envelope: Envelope) -> None:
    key = own(envelope)["epk"]["PublicKeyECDH"]
    octets = binary(key["Public"])
    key["Public"] = b64url(octets[:-1] + bytes([octets[-1] ^ 0x80]))


def no_encryption(envelope: Envelope) -> None:
    for name in ("enc", "Salt", "recipients"):
        del envelope[0][name]
    for one in signatures(envelope):
        del one["witness"]


def no_signatures(envelope: Envelope) -> None:
    envelope[2].clear()
    envelope[0].pop("dig")


ALTERATIONS: dict[str, Alteration] = {
    "`EnvelopeId`": set_header("EnvelopeId", "another"),
    "`enc` removed": lambda envelope: envelope[0].pop("enc"),
    "`enc` set to `A256GCM`": set_header("enc", "A256GCM"),
    "all that belongs to encryption removed": no_encryption,
    "`dig` set to its older name": set_header("dig", "SHA2"),
    "`dig` removed": lambda envelope: envelope[0].pop("dig"),
    "`kid` of the seed": set_header("kid", "EBQA"),
    "`Salt`": lambda envelope: envelope[0].update(Salt=flipped(envelope[0]["Salt"])),
    "`annotations`": set_header("annotations", ["AA"]),
    "`ContentMetaData`": set_header("ContentMetaData", b64url(b'{"Filename":"evil"}')),
    "`SequenceInfo`": set_header("SequenceInfo", {"Index": 7}),
    "`SequenceIndex`": set_header("SequenceIndex", {}),
    "`Received`": set_header("Received", "2022-05-03T16:47:09Z"),
    "`policy`": set_header("policy", {"enc": "none"}),
    "`cloaked`": set_header("cloaked", "AA"),
    "`Malt`": set_header("Malt", "AA"),
    "a member of no known name": set_header("Unheard", "of"),
    "`recipients`: `kid`": lambda envelope: own(envelope).update(kid="MAAA"),
    "`recipients`: `epk`": other_point,
    "`recipients`: sign octet of an X448 `epk`": flip_sign,
    "`recipients`: `wmk`": lambda envelope: own(envelope).update(wmk=flipped(own(envelope)["wmk"])),
    "`recipients`: entry of somebody else": lambda envelope: envelope[0]["recipients"][1].update(
        wmk=b64url(bytes(40))
    ),
    "`recipients`: an entry added": lambda envelope: envelope[0]["recipients"].insert(
        0, {"kid": udf_of(READER.public), "epk": own(envelope)["epk"], "wmk": b64url(bytes(40))}
    ),
    "`recipients`: own entry removed": lambda envelope: envelope[0]["recipients"].pop(0),
    "`signatures`: `alg` set to its older name": set_signature("alg", "SHA2"),
    "`signatures`: `kid`": set_signature("kid", "MAAA"),
    "`signatures`: `kid` removed": drop_signature("kid"),
    "`signatures`: `signature`": flip_signature("signature"),
    "`signatures`: `witness`": flip_signature("witness"),
    "`signatures`: `witness` removed": drop_signature("witness"),
    "`signatures`: `cert`": set_signature("cert", "AA"),
    "`signatures`: `path`": set_signature("path", ["AA"]),
    "`signatures`: `Manifest`": set_signature("Manifest", "AA"),
    "`signatures`: one of two removed": lambda envelope: envelope[2]["signatures"].pop(),
    "`signatures`: all removed": no_signatures,
    "`PayloadDigest`": lambda envelope: envelope[2].update(
        PayloadDigest=flipped(envelope[2]["PayloadDigest"])
    ),
    "`PayloadDigest` removed": lambda envelope: envelope[2].pop("PayloadDigest"),
    "`ChainDigest`": set_trailer("ChainDigest", "AA"),
    "`TreeDigest`": set_trailer("TreeDigest", "AA"),
    "`SignedData`": set_trailer("SignedData", "AA"),
    "payload": lambda envelope: envelope.__setitem__(1, flipped(envelope[1])),
    "payload cut to a whole number of blocks": cut,
}

FORMS = {"signed, encrypted": (True, True), "signed": (False, True), "encrypted": (True, False)}


def documented() -> list[Any]:
    rows = [
        [cell.strip() for cell in line.strip("|\n").split("|")]
        for line in REFERENCE.read_text().splitlines()
        if line.startswith("|")
    ]
    assert rows[0] == ["Altered", *FORMS]
    assert [row[0] for row in rows[2:]] == list(ALTERATIONS)
    return [
        pytest.param(row[0], form, claim, id=f"{row[0]}-{form}")
        for row in rows[2:]
        for form, claim in zip(FORMS, row[1:], strict=True)
        if claim != "-"
    ]


@pytest.mark.parametrize(("alteration", "form", "claim"), documented())
def test_the_reference_says_what_is_found(alteration: str, form: str, claim: str) -> None:
    encrypted, signed = FORMS[form]
    envelope = sealed(encrypted=encrypted, signed=signed)
    altered = copy.deepcopy(envelope)
    ALTERATIONS[alteration](altered)
    assert altered != envelope
    sink = BytesIO()
    named: dict[str, Any] = {
        "keys": [READER],
        "trusted": TRUSTED,
        "allow_unauthenticated": not signed,
    }
    source = BytesIO(json.dumps(altered).encode())
    if claim == "yes":
        with pytest.raises(MeshHsmError):
            decode(source, sink, **named)
        assert sink.getvalue() == b""
    elif claim == "chance":
        try:
            decode(source, sink, **named)
        except DecryptionError:
            assert sink.getvalue() == b""
        assert sink.getvalue() != CONTENT
    else:
        assert claim == "no"
        report = decode(source, sink, **named)
        assert report.warnings
        assert not report.authenticated
        if "encryption" in alteration:
            assert sink.getvalue() == binary(envelope[1])
        elif alteration != "payload":
            assert sink.getvalue() == CONTENT


def test_a_clear_envelope_without_claims_says_so() -> None:
    result = opened(sealed(encrypted=False, signed=False))
    assert result.payload == CONTENT
    assert result.report.form == "plain"
    assert "anybody" in result.report.warnings[0]
    assert result.report.unprotected == ("EnvelopeId", "ContentMetaData")
    result = opened([{"dig": "S512"}, "AAAA", {}])
    assert result.report.unprotected == ("dig",)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_flipped_bit_changes_what_a_trusted_signer_signed(data: st.DataObject) -> None:
    octets = bytearray(json.dumps(sealed()).encode())
    at = data.draw(st.integers(0, len(octets) - 1))
    octets[at] ^= 1 << data.draw(st.integers(0, 7))
    sink = BytesIO()
    try:
        decode(BytesIO(bytes(octets)), sink, keys=[READER], trusted=TRUSTED)
    except MeshHsmError:
        assert sink.getvalue() == b""
    else:
        assert sink.getvalue() == CONTENT


@settings(max_examples=30, deadline=None)
@given(st.data(), st.booleans())
def test_a_truncated_file_is_refused(data: st.DataObject, armor: bool) -> None:
    file = BytesIO()
    encode(
        BytesIO(CONTENT),
        file,
        recipients=[Recipient(READER.public)],
        signers=[SIGNER],
        dialect=PUBLISHED,
        armor=armor,
    )
    octets = file.getvalue().rstrip(b"\n")
    end = data.draw(st.integers(0, len(octets) - 1))
    sink = BytesIO()
    with pytest.raises(FormatError):
        decode(BytesIO(octets[:end]), sink, keys=[READER], trusted=TRUSTED)
    assert sink.getvalue() == b""


# -- signatures ----------------------------------------------------------------------------------


def resigned(envelope: Envelope, key: Any, *, witness: str | None = None) -> Envelope:
    """What anybody can do: put his own signature on a payload that he may not be able to read."""
    altered = copy.deepcopy(envelope)
    digest = sha512(binary(altered[1])).digest()
    sign = key.sign if key.public.curve is ED448 else key.sign_ed25519ctx
    entry = {"alg": "S512", "kid": udf_of(key.public), "signature": b64url(sign(digest))}
    altered[2]["signatures"] = [entry | ({"witness": witness} if witness else {})]
    return altered


def test_a_stranger_s_signature_on_a_ciphertext_is_refused_though_trusted() -> None:
    envelope = sealed()
    thief = EdwardsKey(ED448, bytes([9] * 57))
    trusted = {fingerprint(thief.public).octets: thief.public}
    for stolen in (None, envelope[2]["signatures"][0]["witness"]):
        with pytest.raises(VerificationError) as raised:
            opened(resigned(envelope, thief, witness=stolen), trusted=trusted)
        assert not isinstance(raised.value, CannotVerifyError)


def test_a_signature_by_nobody_we_know_vouches_for_nothing() -> None:
    for envelope in (sealed(), sealed(encrypted=False)):
        with pytest.raises(CannotVerifyError):
            opened(envelope, trusted={})
        with pytest.raises(CannotVerifyError):
            verify(BytesIO(json.dumps(envelope).encode()), {})
        result = opened(envelope, trusted={}, allow_unauthenticated=True)
        assert result.payload == CONTENT
        assert [one.status for one in result.report.signers] == [SignatureStatus.UNKNOWN_KEY] * 2
        assert any("trusted" in one or "altered" in one for one in result.report.warnings)


def test_an_unsigned_envelope_cannot_be_verified() -> None:
    for envelope in (sealed(signed=False), sealed(encrypted=False, signed=False)):
        with pytest.raises(CannotVerifyError):
            verify(BytesIO(json.dumps(envelope).encode()), TRUSTED)


def test_one_known_signer_suffices_and_the_other_is_reported() -> None:
    trusted = {fingerprint(SECOND.public).octets: SECOND.public}
    report = opened(sealed(), trusted=trusted).report
    assert [one.status for one in report.signers] == [
        SignatureStatus.UNKNOWN_KEY,
        SignatureStatus.HEADER_NOT_COVERED,
    ]
    assert report.signers[1].fingerprint == fingerprint(SECOND.public).octets


def test_one_bad_signature_spoils_the_good_one() -> None:
    envelope = sealed()
    ALTERATIONS["`signatures`: `signature`"](envelope)
    with pytest.raises(VerificationError):
        opened(envelope)


def test_a_plain_ed25519_signature_is_read() -> None:
    envelope = sealed(encrypted=False)
    digest = sha512(CONTENT).digest()
    envelope[2]["signatures"] = [
        {"kid": udf_of(SECOND.public), "signature": b64url(SECOND.sign(digest))}
    ]
    assert opened(envelope).report.signers[0].status is SignatureStatus.HEADER_NOT_COVERED


@pytest.mark.parametrize("content_type", OLDER_CONTENT_TYPES)
def test_a_signer_is_known_by_its_older_names(content_type: str) -> None:
    envelope = sealed(encrypted=False)
    envelope[2]["signatures"][0]["kid"] = fingerprint(SIGNER.public, content_type).udf().lower()
    assert opened(envelope).report.signers[0].kid == udf_of(SIGNER.public)


def test_a_nist_key_of_that_name_has_signed_nothing() -> None:
    envelope = sealed(encrypted=False)
    envelope[2]["signatures"][0]["kid"] = udf_of(P384.base)
    trusted = TRUSTED | {fingerprint(P384.base).octets: P384.base}
    report = opened(envelope, trusted=trusted).report
    assert report.signers[0].status is SignatureStatus.UNKNOWN_KEY


def test_a_published_signature_is_none_that_covers_the_header() -> None:
    with pytest.raises(VerificationError):
        opened(sealed(), require=[fingerprint(SIGNER.public).octets])


# -- keys ----------------------------------------------------------------------------------------


def test_the_key_that_kid_names_is_asked_first() -> None:
    reader, stranger = Scalar(READER.scalar), Scalar(STRANGER.scalar)
    assert opened(sealed(), keys=[stranger, reader]).report.opened_by == udf_of(stranger.public)
    assert (stranger.asked, reader.asked) == (1, 0)


def named(kid: str, *, ours_at: int, others: int) -> Envelope:
    """An envelope of ours amid entries of our curve that others wrote; every one says ``kid``."""
    envelope = sealed(signed=False)
    [ours] = [one for one in envelope[0]["recipients"] if one["kid"] == udf_of(READER.public)]
    entries = [{**ours, "kid": kid, "wmk": b64url(bytes(40))} for _ in range(others)]
    entries.insert(ours_at, {**ours, "kid": kid})
    envelope[0]["recipients"] = entries
    return envelope


@pytest.mark.parametrize(
    "kid", ["", "MAAA-BBBB", udf_of(READER.public)], ids=["none", "another", "ours"]
)
def test_a_sender_does_not_decide_how_often_a_device_is_asked(kid: str) -> None:
    reader = Scalar(READER.scalar)
    near = named(kid, ours_at=MAX_TRIES - 1, others=MAX_ENTRIES - 1)
    assert opened(near, keys=[reader], allow_unauthenticated=True).payload == CONTENT
    assert reader.asked == MAX_TRIES
    far, reader = named(kid, ours_at=MAX_TRIES, others=MAX_ENTRIES - 1), Scalar(READER.scalar)
    with pytest.raises(DecryptionError, match="240 more were not tried") as caught:
        opened(far, keys=[reader], allow_unauthenticated=True)
    assert "kid" in str(caught.value.hint)
    assert reader.asked == MAX_TRIES


@pytest.mark.parametrize("content_type", [CONTENT_TYPE, *OLDER_CONTENT_TYPES])
def test_an_entry_that_names_the_key_is_tried_however_many_there_are(content_type: str) -> None:
    envelope, reader = named("", ours_at=255, others=255), Scalar(READER.scalar)
    envelope[0]["recipients"][255]["kid"] = fingerprint(READER.public, content_type).udf()
    assert opened(envelope, keys=[reader], allow_unauthenticated=True).payload == CONTENT
    assert reader.asked == 1


def test_a_key_is_never_asked_about_another_curve() -> None:
    other = Scalar(SecretScalar.random(X25519))
    with pytest.raises(DecryptionError):
        opened(sealed(), keys=[other])
    assert other.asked == 0


def test_a_preshared_key_opens_only_entries_without_epk() -> None:
    seed, salt = bytes(32), bytes(16)
    wmk = b64url(aes_key_wrap(kek(b"key"), seed))
    key, iv = payload_keys(seed, salt)
    encryptor = Cipher(algorithms.AES256(key), modes.CBC(iv)).encryptor()
    payload = b64url(encryptor.update(b"content" + bytes([9] * 9)))
    for entry, opens in (({"wmk": wmk}, True), ({"wmk": wmk, "epk": EPK}, False)):
        envelope = [{"enc": "A256CBC", "Salt": b64url(salt), "recipients": [entry]}, payload]
        try:
            result = opened(envelope, keys=[PresharedKey(b"key")], allow_unauthenticated=True)
        except DecryptionError:
            assert not opens
        else:
            assert opens
            assert (result.payload, result.report.opened_by) == (b"content", "pre-shared key")
    assert "key" not in repr(PresharedKey(b"key")).replace("PresharedKey", "")


@pytest.mark.parametrize("info", [b"", b"master", b"dare-master"])
def test_every_info_string_is_tried(info: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = published_writing.kek
    monkeypatch.setattr(published_writing, "kek", lambda Z: honest(Z, info))
    assert opened(sealed()).payload == CONTENT


def test_another_info_string_does_not_open(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = published_writing.kek
    monkeypatch.setattr(published_writing, "kek", lambda Z: honest(Z, b"mesh-hsm/1 kek"))
    with pytest.raises(DecryptionError):
        opened(sealed())


def test_entries_of_curves_we_do_not_have_are_others_business() -> None:
    envelope = sealed()
    for crv in ("P-384", "DH", "X448z"):
        epk = {"PublicKeyECDH": {"crv": crv, "Public": "AQID"}}
        entry = {"kid": "MAAA", "epk": epk, "wmk": b64url(bytes(40))}
        envelope[0]["recipients"].insert(0, entry)
    assert opened(envelope).payload == CONTENT


# -- A256CBC is no oracle, and no back door into hsm-1 -------------------------------------------


def test_every_way_not_to_open_is_the_same() -> None:
    said = set()
    good = sealed(signed=False)
    wrong_key, damaged_wrap, ragged, empty, short = (copy.deepcopy(good) for _ in range(5))
    ALTERATIONS["`recipients`: `wmk`"](damaged_wrap)
    ragged[1] = b64url(b"x" + binary(ragged[1]))  # its last blocks are as they were
    empty[1] = ""
    bad_padding = without_padding()
    short[0].pop("recipients")
    attempts = [
        (wrong_key, [Scalar(SecretScalar.random(X448))]),
        (wrong_key, []),
        (damaged_wrap, [READER]),
        (ragged, [READER]),
        (empty, [READER]),
        (bad_padding, [READER]),
        (short, [READER]),
    ]
    for envelope, keys in attempts:
        with pytest.raises(DecryptionError) as raised:
            opened(envelope, keys=keys, allow_unauthenticated=True)
        said.add((type(raised.value), str(raised.value), raised.value.hint))
    assert len(said) == 1


def without_padding() -> Envelope:
    """An envelope whose last block ends in 0, 3, 3: padding that is wrong in one octet."""
    envelope = sealed(signed=False, content=bytes(16 + 14))
    ciphertext = bytearray(binary(envelope[1]))
    for at in (14, 15):
        ciphertext[at] ^= 2 ^ 3  # flips the same bits of the block after it, which ends in 2, 2
    envelope[1] = b64url(bytes(ciphertext))
    return envelope


@pytest.mark.parametrize("padding", [0, 17, 255])
def test_padding_is_between_one_and_sixteen(padding: int) -> None:
    envelope = sealed(signed=False, content=bytes(31))
    ciphertext = bytearray(binary(envelope[1]))
    ciphertext[15] ^= 1 ^ padding
    envelope[1] = b64url(bytes(ciphertext))
    with pytest.raises(DecryptionError):
        opened(envelope, allow_unauthenticated=True)


def test_an_unsigned_cbc_envelope_is_refused_unless_asked_for() -> None:
    reader = Scalar(READER.scalar)
    with pytest.raises(CannotVerifyError):
        opened(sealed(signed=False), keys=[reader])
    assert reader.asked == 0
    result = opened(sealed(signed=False), allow_unauthenticated=True)
    assert result.payload == CONTENT
    assert any("not authenticated" in one for one in result.report.warnings)


@pytest.mark.parametrize("tail", [0, 16])
def test_a_gcm_payload_does_not_open_as_cbc(tail: int) -> None:
    # Relabelled, an hsm-1 ciphertext would let anybody probe its content (hsm-1 §2).
    header, payload, _ = seal(bytes(64), recipients=[Recipient(READER.public)])
    P = json.loads(binary(header["protected"]))
    relabelled = [
        {"enc": "A256CBC", "Salt": P["Salt"], "recipients": P["recipients"]},
        b64url(binary(payload)[: 64 + tail]),
    ]
    with pytest.raises(DecryptionError):
        opened(relabelled, allow_unauthenticated=True)
    with pytest.raises(FormatError):
        opened([header | {"enc": "A256CBC"}, payload, {}], allow_unauthenticated=True)
    for place in ({"enc": "A256GCM"}, {"enc": "A256GCM", "Salt": P["Salt"]}):
        with pytest.raises(FormatError):
            opened([place | {"recipients": P["recipients"]}, payload], allow_unauthenticated=True)


class Broken(BytesIO):
    def write(self, octets: Any) -> int:
        pytest.fail("something was released")


def test_nothing_is_released_before_everything_is_checked() -> None:
    content, file = bytes(3 << 20), BytesIO()
    encode(
        BytesIO(content),
        file,
        recipients=[Recipient(READER.public)],
        signers=[SIGNER],
        dialect=PUBLISHED,
    )
    octets = file.getvalue()
    at = octets.rindex(b'"witness":"') + 11
    altered = octets[:at] + (b"A" if octets[at : at + 1] != b"A" else b"B") + octets[at + 1 :]
    with pytest.raises(VerificationError):
        decode(BytesIO(altered), Broken(), keys=[READER], trusted=TRUSTED)


# -- hostile headers -----------------------------------------------------------------------------

EPK = {"PublicKeyECDH": {"crv": "X448", "Public": b64url(X448.base.encode())}}
ENTRY = {"kid": "MAAA", "epk": EPK, "wmk": b64url(bytes(40))}
SIGNATURE = {"alg": "S512", "kid": "MAAA", "signature": b64url(bytes(64))}


def header(**members: Any) -> Envelope:
    return [{"enc": "A256CBC", "Salt": b64url(bytes(16)), "recipients": [ENTRY]} | members, "AAAA"]


def epk(public: Any, crv: Any = "X448") -> Envelope:
    return header(recipients=[ENTRY | {"epk": {"PublicKeyECDH": {"crv": crv, "Public": public}}}])


HOSTILE: dict[str, tuple[Envelope, type[MeshHsmError]]] = {
    "an unknown enc": (header(enc="A128CBC"), UnsupportedError),
    "enc that is no text": (header(enc=["A256CBC"]), UnsupportedError),
    "an unknown dig": (header(dig="S256"), UnsupportedError),
    "an unknown alg": (
        header(dig="S512", signatures=[SIGNATURE | {"alg": "MH1"}]),
        UnsupportedError,
    ),
    "no Salt": ([{"enc": "A256CBC", "recipients": [ENTRY]}, "AAAA"], FormatError),
    "an empty Salt": (header(Salt=""), FormatError),
    "an oversized Salt": (header(Salt=b64url(bytes(MAX_SALT + 1))), FormatError),
    "a Salt that is no text": (header(Salt=None), FormatError),
    "recipients that are no list": (header(recipients={}), FormatError),
    "a recipient that is no object": (header(recipients=["x"]), FormatError),
    "too many recipients": (header(recipients=[ENTRY] * (MAX_ENTRIES + 1)), FormatError),
    "too many signatures": (
        header(dig="S512", signatures=[SIGNATURE] * (MAX_ENTRIES + 1)),
        FormatError,
    ),
    "no wmk": (header(recipients=[{"kid": "MAAA", "epk": EPK}]), FormatError),
    "a short wmk": (header(recipients=[ENTRY | {"wmk": b64url(bytes(39))}]), FormatError),
    "a kid that is no text": (header(recipients=[ENTRY | {"kid": 3}]), FormatError),
    "an epk that is no object": (header(recipients=[ENTRY | {"epk": "AA"}]), FormatError),
    "an epk with another tag": (header(recipients=[ENTRY | {"epk": {"RSA": {}}}]), FormatError),
    "an epk without crv": (epk("AA", None), FormatError),
    "an epk without octets": (epk(None), FormatError),
    "a truncated epk": (epk(b64url(bytes(55))), InvalidPointError),
    "an oversized epk": (epk(b64url(bytes(58))), InvalidPointError),
    "an epk with a bad sign octet": (epk(b64url(bytes([5, *bytes(55), 1]))), InvalidPointError),
    "an epk beyond the field": (epk(b64url(b"\xff" * 56 + b"\0")), InvalidPointError),
    "an epk on the twist": (epk(b64url(bytes([7, *bytes(56)]))), InvalidPointError),
    "an epk of small order": (epk(b64url(bytes(57))), InvalidPointError),
    "a signature that is no object": (header(dig="S512", signatures=[3]), FormatError),
    "a signature without octets": (header(dig="S512", signatures=[{"kid": "M"}]), FormatError),
    "a signature's kid that is no text": (
        header(dig="S512", signatures=[SIGNATURE | {"kid": []}]),
        FormatError,
    ),
    "a short PayloadDigest": (header(PayloadDigest="AAAA"), FormatError),
    "another PayloadDigest": (header(PayloadDigest=b64url(bytes(64))), VerificationError),
    "an EnvelopeId that is no text": (header(EnvelopeId=1), FormatError),
    "metadata that is no JSON": (header(ContentMetaData="AAAA"), FormatError),
    "metadata that is no object": (header(ContentMetaData=b64url(b"[]")), FormatError),
    "metadata with a member twice": (
        header(ContentMetaData=b64url(b'{"cty":"a","cty":"b"}')),
        FormatError,
    ),
    "metadata with a type that is no text": (
        header(ContentMetaData=b64url(b'{"cty":1}')),
        FormatError,
    ),
    "a member in header and trailer": (
        [*header(PayloadDigest=b64url(bytes(64))), {"PayloadDigest": b64url(bytes(64))}],
        FormatError,
    ),
    "a member under two names": (header(annotations=[], Annotations=[]), FormatError),
    "two names of SequenceInfo": (header(SequenceInfo={}, ContainerInfo={}), FormatError),
    "two names of EnvelopeId": (header(EnvelopeId="a", EnvelopeID="b"), FormatError),
    "enc in the trailer": ([{}, "AAAA", {"enc": "A256CBC"}], FormatError),
    "protected in the trailer": ([{}, "AAAA", {"protected": "AAAA"}], FormatError),
    "signatures without dig before them": ([{}, "AAAA", {"signatures": [SIGNATURE]}], FormatError),
    "recipients of a clear envelope": ([{"recipients": [ENTRY]}, "AAAA"], FormatError),
    "Salt of a clear envelope": ([{"Salt": "AAAA"}, "AAAA"], FormatError),
    "a witness of a clear envelope": (
        [{"dig": "S512"}, "AAAA", {"signatures": [SIGNATURE | {"witness": "AAAA"}]}],
        FormatError,
    ),
    "a payload that is no text": ([{}, 7], FormatError),
    "a trailer that is no object": ([{}, "AAAA", []], FormatError),
    "a fourth item": ([{}, "AAAA", {}, {}], FormatError),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_envelopes(name: str) -> None:
    envelope, error = HOSTILE[name]
    sink = BytesIO()
    source = BytesIO(json.dumps(envelope).encode())
    with pytest.raises(error) as raised:
        decode(source, sink, keys=[READER], trusted=TRUSTED, allow_unauthenticated=True)
    assert type(raised.value) is error
    assert sink.getvalue() == b""


def test_signatures_and_digest_may_stand_in_the_header() -> None:
    envelope = sealed()
    envelope[0] |= envelope.pop()
    assert opened(envelope).payload == CONTENT


def test_older_names_and_broken_lines_are_read() -> None:
    envelope = sealed()
    fields = envelope[0]
    fields["EnvelopeID"] = fields.pop("EnvelopeId")
    fields |= {"Annotations": ["AA"], "ContainerInfo": {"Index": 1}}
    for name in ("ContentMetaData", "Salt"):
        fields[name] = re.sub("(.{8})", r"\1\n   ", fields[name])
    envelope[1] = re.sub("(.{60})", r"\1\n  ", envelope[1])
    result = opened(envelope)
    assert result.payload == CONTENT
    assert result.report.envelope_id == "MESH"
    assert result.report.meta.filename == "launch.txt"
    assert {"annotations", "SequenceInfo", "EnvelopeId"} <= set(result.report.unprotected)


def test_inspect_checks_nothing_and_says_so() -> None:
    report = inspect(BytesIO(json.dumps(sealed()).encode()))
    assert [one.status for one in report.signers] == [SignatureStatus.NOT_CHECKED] * 2
    assert report.recipients == (udf_of(READER.public), udf_of(STRANGER.public))
    assert any("not been checked" in one for one in report.warnings)
