"""Whose signatures an envelope needs, and which ones are believed."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from mesh_hsm import dare
from mesh_hsm.curves import curve
from mesh_hsm.dare.strict_json import b64url, compact, un_b64url
from mesh_hsm.errors import CannotVerifyError, FormatError, UnsupportedError, VerificationError
from mesh_hsm.udf import fingerprint, udf_of


def trust(*keys: Any) -> dict[bytes, Any]:
    return {fingerprint(one.public).octets: one.public for one in keys}


def negated_s(name: str, signature: bytes) -> bytes:
    half = len(signature) // 2
    s = curve(name).order - int.from_bytes(signature[half:], "big")
    return signature[:half] + s.to_bytes(half, "big")


def test_every_signer_must_have_signed(signer: Any) -> None:
    one, two = signer("P-384"), signer("Ed448", "Two")
    envelope = dare.seal(b"x", signers=[one, two])
    report = dare.unseal(envelope, trusted=trust(one, two)).report
    assert [entry.kid for entry in report.signers] == [udf_of(one.public), udf_of(two.public)]
    with pytest.raises(CannotVerifyError):
        dare.unseal(envelope, trusted=trust(one))
    for at in (0, 1):
        less = [*envelope[:2], {"signatures": envelope[2]["signatures"][at : at + 1]}]
        with pytest.raises(VerificationError):
            dare.unseal(less, trusted=trust(one, two))


def test_the_order_of_entries_says_nothing(signer: Any) -> None:
    one, two = signer("P-384"), signer("Ed448", "Two")
    header, payload, trailer = dare.seal(b"x", signers=[one, two])
    turned = [header, payload, {"signatures": trailer["signatures"][::-1]}]
    assert dare.unseal(turned, trusted=trust(one, two)).payload == b"x"


def test_a_signer_named_twice_signs_once(signer: Any) -> None:
    one = signer("P-384")
    assert len(dare.seal(b"x", signers=[one, one])[2]["signatures"]) == 1


def test_keys_are_found_by_their_own_fingerprint(signer: Any) -> None:
    """A table that puts a stranger's key under the signer's name convinces nobody."""
    one, stranger = signer("P-384"), signer("P-384", "Stranger")
    envelope = dare.seal(b"x", signers=[one])
    with pytest.raises(CannotVerifyError):
        dare.unseal(envelope, trusted={fingerprint(one.public).octets: stranger.public})


@pytest.mark.parametrize("name", ["P-256", "P-384", "P-521"])
def test_low_s_is_written_and_high_s_refused(signer: Any, name: str) -> None:
    one = signer(name)
    half = curve(name).order // 2
    for _ in range(4):  # the library gives either
        envelope = dare.seal(b"x", signers=[one])
        entry = envelope[2]["signatures"][0]
        signature = un_b64url(entry["signature"], "x")
        assert int.from_bytes(signature[len(signature) // 2 :], "big") <= half
    entry["signature"] = b64url(negated_s(name, signature))
    with pytest.raises(VerificationError, match="high s"):
        dare.unseal(envelope, trusted=trust(one))


@pytest.mark.parametrize("name", ["P-384", "Ed25519"])
def test_a_bad_signature_is_not_released(signer: Any, name: str) -> None:
    one = signer(name)
    one.tweak = lambda signature: bytes([signature[0] ^ 1]) + signature[1:]
    with pytest.raises(VerificationError):
        dare.seal(b"x", signers=[one])


def test_a_countersignature_is_reported_apart(signer: Any) -> None:
    one, late = signer("P-384"), signer("P-256", "Late")
    envelope = dare.seal(b"x", signers=[one])
    both = dare.countersign(envelope, late)
    assert both[:2] == envelope[:2]
    report = dare.unseal(both, trusted=trust(one, late)).report
    assert [entry.kid for entry in report.signers] == [udf_of(one.public)]
    (counter,) = report.countersigners
    assert counter.kid == udf_of(late.public)
    assert counter.fingerprint == fingerprint(late.public).octets
    assert counter.status is dare.SignatureStatus.VERIFIED
    assert report.to_json()["countersigners"][0]["kid"] == counter.kid


def test_a_countersigner_does_not_stand_in_for_a_signer(signer: Any) -> None:
    one, late = signer("P-384"), signer("P-256", "Late")
    header, payload, trailer = dare.countersign(dare.seal(b"x", signers=[one]), late)
    alone = [header, payload, {"signatures": trailer["signatures"][1:]}]
    with pytest.raises(VerificationError):
        dare.unseal(alone, trusted=trust(one, late))


def test_required_fingerprints_are_required(signer: Any) -> None:
    one, late = signer("P-384"), signer("P-256", "Late")
    fps = [fingerprint(key.public).octets for key in (one, late)]
    envelope = dare.seal(b"x", signers=[one])
    with pytest.raises(VerificationError):
        dare.unseal(envelope, trusted=trust(one, late), require=fps)
    both = dare.countersign(envelope, late)
    assert dare.unseal(both, trusted=trust(one, late), require=fps).payload == b"x"
    with pytest.raises(VerificationError):
        dare.unseal(both, trusted=trust(one), require=fps)


def test_only_signed_envelopes_of_ours_are_countersigned(decryptor: Any, signer: Any) -> None:
    recipients = [dare.Recipient(decryptor("P-256").public)]
    for envelope in (dare.seal(b"x", recipients=recipients), dare.seal(b"x")):
        with pytest.raises(UnsupportedError):
            dare.countersign(envelope, signer("P-256"))


def test_an_encrypted_envelope_is_countersigned_without_its_key(
    decryptor: Any, signer: Any
) -> None:
    key, one, late = decryptor("P-256"), signer("P-384"), signer("P-256", "Late")
    envelope = dare.seal(b"x", recipients=[dare.Recipient(key.public)], signers=[one])
    both = dare.countersign(envelope, late)
    known = trust(one, late)
    assert dare.unseal(both, keys=[key], trusted=known, require=known).payload == b"x"


def test_nothing_signed_is_nothing_verified(decryptor: Any) -> None:
    key = decryptor("P-256")
    sealed = dare.seal(b"x", recipients=[dare.Recipient(key.public)])
    for envelope in (sealed, dare.seal(b"x")):
        with pytest.raises(CannotVerifyError):
            dare.verify(io.BytesIO(compact(envelope)), {})


def test_an_unknown_signer_is_said_before_a_device_is_asked(decryptor: Any, signer: Any) -> None:
    key = decryptor("P-256", "Counted")
    envelope = dare.seal(b"x", recipients=[dare.Recipient(key.public)], signers=[signer("P-256")])
    with pytest.raises(CannotVerifyError):
        dare.unseal(envelope, keys=[key])
    assert key.asked == 0


def test_a_key_that_does_not_sign_is_no_signer(decryptor: Any, signer: Any) -> None:
    one, late = signer("P-256"), decryptor("X448")
    envelope = dare.seal(b"x", signers=[one])
    forged = {"alg": "MH1", "kid": udf_of(late.public), "signature": b64url(bytes(64))}
    envelope[2]["signatures"].append(forged)
    with pytest.raises(UnsupportedError):
        dare.unseal(envelope, trusted=trust(one, late))


def test_a_protected_header_that_protects_nothing_is_refused(signer: Any) -> None:
    envelope = dare.seal(b"x", signers=[signer("P-256")])
    P = json.loads(un_b64url(envelope[0]["protected"], "P"))
    del P["signers"]
    with pytest.raises(FormatError):
        dare.unseal([{"protected": b64url(compact(P))}, envelope[1], {}])


@pytest.mark.parametrize(
    "envelope", [[], [1], {}, [{}, "", {}, {}], [{}, b"", {}], [{}, float("nan")], [{}, {}], b"x"]
)
def test_what_is_no_envelope_is_refused(envelope: Any) -> None:
    with pytest.raises(FormatError):
        dare.unseal(envelope)
