"""Attestation from end to end: the card's word against what F9 signed, and evidence for others."""

from __future__ import annotations

import json

import pytest
from own_yubikey import PIN, Own, Person, padded

from mesh_hsm.custody import CustodyClass, Hardware, PinPolicy, TouchPolicy
from mesh_hsm.errors import (
    CannotVerifyError,
    DeviceError,
    FormatError,
    UnsupportedError,
    VerificationError,
)
from mesh_hsm.provider import Attests, DeviceKey, KeySpec, Use
from mesh_hsm.secret_source import SecretKind
from mesh_hsm.testing.virtual_yubikey.device import AttestationFault
from mesh_hsm.testing.virtual_yubikey.piv.keys import Policies, generate
from mesh_hsm.testing.virtual_yubikey.piv.names import Ins, ObjectId, Operation, Origin
from mesh_hsm.testing.virtual_yubikey.piv.names import PinPolicy as CardPin
from mesh_hsm.testing.virtual_yubikey.piv.names import TouchPolicy as CardTouch
from mesh_hsm.threshold import Verifier
from mesh_hsm_yubikey import evidence
from mesh_hsm_yubikey.attestation import Attestation
from mesh_hsm_yubikey.judge import YubiKeyJudge
from mesh_hsm_yubikey.roots import Roots, trusted
from mesh_hsm_yubikey.statements import UNATTESTED

ROOT = "mesh-hsm virtual YubiKey SIMULATOR root"
FIRMWARES = [(5, 7, 1), (5, 4, 3), (4, 3, 5)]
KINDS = [
    ("P-256", Use.SIGN),
    ("P-384", Use.SIGN),
    ("P-384", Use.ENCRYPT),
    ("Ed25519", Use.SIGN),
    ("X25519", Use.AUTHENTICATE),
]


@pytest.fixture
def key(own: Own) -> DeviceKey:
    """A key that wants PIN and touch, on a YubiKey whose root is known."""
    own.trust()
    return own.make(PinPolicy.ONCE, TouchPolicy.CACHED)


def slot_of(own: Own) -> int:
    return next(slot for slot in own.state.keys if slot != 0xF9)


def proof(own: Own, key: DeviceKey, asked: Verifier, person: Person | None = None) -> bytes:
    token = own.open(person)
    assert isinstance(token, Attests)
    return token.attest(key.uri, asked.challenge.octets)


def verified(
    own: Own, octets: bytes, key: DeviceKey, asked: Verifier, roots: Roots | None = None
) -> Attestation:
    return evidence.verify(
        octets, key.public, key.use, asked, roots or trusted(own.records / "piv-roots")
    )


# -- the custody statement -------------------------------------------------------------------------


@pytest.mark.parametrize("firmware", FIRMWARES, ids=str)
def test_a_statement_is_checked_against_the_attestation(new_yubikey, firmware) -> None:
    own = new_yubikey(firmware)
    own.set_up()
    own.trust()
    key = own.make(PinPolicy.ALWAYS, TouchPolicy.CACHED)
    own.forget()
    said = key.custody()
    assert (said.custody, said.pin, said.touch) == (
        CustodyClass.GENERATED,
        PinPolicy.ALWAYS,
        TouchPolicy.CACHED,
    )
    assert f"attested by a simulator, under {ROOT}: proves nothing about hardware" in said.notes
    assert said.firmware == ".".join(map(str, firmware))
    assert f"serial number {own.device.serial}, slot 9c" in said.device
    assert said.known_by == ()
    assert said.hardware is Hardware.SIMULATOR
    assert own.sent(Ins.ATTEST)
    assert not own.secrets_sent


def test_without_its_root_nothing_is_claimed_to_have_been_checked(own: Own) -> None:
    said = own.make().custody()
    assert [note for note in said.notes if note.startswith("attestation not verified")]
    assert not [note for note in said.notes if ROOT in note and "not verified" not in note]
    assert said.hardware is Hardware.SIMULATOR


@pytest.mark.parametrize("fault", list(AttestationFault))
def test_what_is_wrong_with_an_attestation_refuses_statement_and_evidence(
    own: Own, key: DeviceKey, fault: AttestationFault
) -> None:
    own.device.attestation_fault = fault
    with pytest.raises(VerificationError) as caught:
        key.custody()
    assert not isinstance(caught.value, CannotVerifyError)
    asked = Verifier("verifier.example")
    octets = proof(own, key, asked)
    with pytest.raises(VerificationError) as caught:
        verified(own, octets, key, asked)
    assert not isinstance(caught.value, CannotVerifyError)


def altered_metadata(own: Own, old: bytes, new: bytes) -> None:
    """A card whose metadata of slots says something else than it signs: no simulator's fault."""
    transmit = own.device.transmit

    def lie(command: bytes) -> bytes:
        answer = transmit(command)
        if command[1] == Ins.METADATA and command[3] == slot_of(own):
            assert old in answer
            return answer.replace(old, new)
        return answer

    own.device.transmit = lie


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        (b"\x02\x02\x02\x03", b"\x02\x02\x01\x03", "PIN policy"),
        (b"\x02\x02\x02\x03", b"\x02\x02\x02\x02", "touch policy"),
        (b"\x03\x01\x01", b"\x03\x01\x02", "origin"),
    ],
)
def test_metadata_that_disagrees_refuses_the_statement(
    own: Own, key: DeviceKey, old: bytes, new: bytes, field: str
) -> None:
    key.custody()
    altered_metadata(own, old, new)
    with pytest.raises(VerificationError, match=f"disagree on the {field}"):
        key.custody()


@pytest.mark.parametrize("policies", ["0403", "0200"])
def test_metadata_with_policies_that_none_of_our_keys_has(
    own: Own, key: DeviceKey, policies: str
) -> None:
    altered_metadata(own, b"\x02\x02\x02\x03", b"\x02\x02" + bytes.fromhex(policies))
    with pytest.raises(DeviceError, match="none of ours has"):
        key.custody()


@pytest.mark.parametrize("field", ["firmware", "serial number"])
def test_another_device_s_attestation_refuses_the_statement(
    own: Own, key: DeviceKey, field: str
) -> None:
    """The management application says one thing, and F9 signs another."""
    transmit = own.device.transmit
    honest = {
        "firmware": (b"\x05\x03\x05\x07\x01", b"\x05\x03\x05\x07\x02"),
        "serial number": (
            b"\x02\x04" + own.device.serial.to_bytes(4, "big"),
            b"\x02\x04" + (own.device.serial + 1).to_bytes(4, "big"),
        ),
    }[field]

    def lie(command: bytes) -> bytes:
        answer = transmit(command)
        return answer.replace(*honest) if command[1] == 0x1D else answer

    own.card.release()
    own.device.transmit = lie
    uri, provider = own.uri, own.provider
    if field == "serial number":
        uri = uri.without("serial").with_attribute("serial", str(own.device.serial + 1))
    with (
        provider.open(uri, own.person()) as token,
        pytest.raises(VerificationError, match=f"disagree on the {field}"),
    ):
        token.keys()[0].custody()


def test_a_key_that_the_card_calls_its_own_and_does_not_attest_says_so(
    own: Own, key: DeviceKey
) -> None:
    own.device.fail_next(Ins.ATTEST, 0x6A80)
    said = key.custody()
    assert UNATTESTED in said.notes
    assert not [note for note in said.notes if ROOT in note and "not verified" not in note]


@pytest.mark.parametrize("content", [None, b"", b"\x70\x03\x01\x02\x03", b"junk"], ids=repr)
def test_a_yubikey_whose_f9_certificate_somebody_replaced_still_opens(
    own: Own, key: DeviceKey, content: bytes | None
) -> None:
    if content is None:
        own.state.objects.pop(ObjectId.ATTESTATION)
    else:
        own.state.objects[ObjectId.ATTESTATION] = content
    with own.open() as token:
        assert token.info.hardware is Hardware.CLAIMED
        again = token.key(key.uri)
        again.sign(bytes(32))
        assert UNATTESTED in again.custody().notes
        with pytest.raises(UnsupportedError):
            token.attest(key.uri, Verifier("verifier.example").challenge.octets)


# -- evidence --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("algorithm", "use"), KINDS)
def test_evidence_over_a_challenge_verifies(own: Own, algorithm: str, use: Use) -> None:
    own.trust()
    key = own.make(PinPolicy.ONCE, algorithm=algorithm, use=use)
    asked = Verifier("verifier.example")
    person = own.person()
    proved = verified(own, proof(own, key, asked, person), key, asked)
    assert (proved.slot, proved.pin_policy, proved.touch_policy) == (
        key.uri.get("slot"),
        PinPolicy.ONCE,
        TouchPolicy.NONE,
    )
    assert (proved.serial, proved.firmware) == (own.device.serial, own.device.firmware)
    assert proved.root == ROOT
    assert proved.hardware is Hardware.SIMULATOR
    assert person.kinds == [SecretKind.PIN]
    assert own.sent(Ins.VERIFY) == [padded(PIN)]
    used = own.device.operations
    slot = slot_of(own)
    assert used[slot, Operation.SIGN] + used[slot, Operation.AGREE] == 1


def test_a_provider_judges_evidence_for_a_verifier_far_away(own: Own, key: DeviceKey) -> None:
    asked = Verifier("verifier.example")
    octets = proof(own, key, asked)
    own.device.remove()
    judge = YubiKeyJudge(own.records)
    assert judge.ask(b"") is None
    with pytest.raises(FormatError):
        judge.ask(b"a TPM")
    said = judge.judge(octets, key.public, key.use, asked)
    assert (said.custody, said.hardware) == (CustodyClass.GENERATED, Hardware.SIMULATOR)
    assert (said.pin, said.touch) == (PinPolicy.ONCE, TouchPolicy.CACHED)
    assert str(own.device.serial) in said.device
    stranger = YubiKeyJudge(own.records / "elsewhere")
    with pytest.raises(CannotVerifyError):
        stranger.judge(octets, key.public, key.use, asked)


def test_evidence_answers_one_challenge_of_one_verifier_about_one_key(
    own: Own, key: DeviceKey
) -> None:
    asked = Verifier("verifier.example")
    octets = proof(own, key, asked)
    with pytest.raises(VerificationError, match="another challenge"):
        verified(own, octets, key, Verifier("verifier.example"))
    with pytest.raises(VerificationError, match="another challenge"):
        verified(own, octets, key, Verifier("other.example"))
    with own.open() as token:
        other = token.generate(KeySpec("P-256", Use.SIGN, "other"))
    with pytest.raises(VerificationError, match="another key"):
        verified(own, octets, other, asked)
    verified(own, octets, key, asked)
    with pytest.raises(VerificationError, match="already"):
        verified(own, octets, key, asked)


def test_an_answer_by_another_key_than_the_attested_is_refused(own: Own, key: DeviceKey) -> None:
    """A certificate copied from somebody, beside the answer of a key of one's own."""
    with own.open() as token:
        other = token.generate(KeySpec("P-256", Use.SIGN, "other"))
    asked = Verifier("verifier.example")
    copied = json.loads(proof(own, key, asked))
    copied["answer"] = json.loads(proof(own, other, asked))["answer"]
    with pytest.raises(VerificationError, match="does not verify"):
        verified(own, json.dumps(copied, separators=(",", ":")).encode(), key, asked)


def test_an_altered_nonce_does_not_help(own: Own, key: DeviceKey) -> None:
    octets = json.loads(proof(own, key, Verifier("verifier.example")))
    asked = Verifier("verifier.example")
    octets["nonce"] = json.loads(proof(own, key, asked))["nonce"]
    with pytest.raises(VerificationError, match="does not verify"):
        verified(own, json.dumps(octets, separators=(",", ":")).encode(), key, asked)


def test_yubico_s_roots_alone_refuse_a_simulator(own: Own, key: DeviceKey) -> None:
    asked = Verifier("verifier.example")
    octets = proof(own, key, asked)
    with pytest.raises(CannotVerifyError, match="simulator"):
        verified(own, octets, key, asked, Roots.yubico())


def test_imported_keys_are_not_attested(own: Own) -> None:
    own.trust()
    with own.open() as token:
        key = token.import_scalar(KeySpec("P-256", Use.SIGN, "key"), 12345, ("a dealer",))
        own.wire.clear()
        with pytest.raises(UnsupportedError, match="made itself"):
            token.attest(key.uri, Verifier("verifier.example").challenge.octets)
    assert not own.sent(Ins.AUTHENTICATE)
    assert not own.secrets_sent


def test_a_key_that_another_program_put_into_the_slot_is_not_attested_as_ours(
    own: Own, key: DeviceKey
) -> None:
    policies = Policies(CardPin.ONCE, CardTouch.CACHED)
    own.state.keys[slot_of(own)] = type(own.state.keys[slot_of(own)])(
        own.state.keys[slot_of(own)].algorithm,
        generate(own.state.keys[slot_of(own)].algorithm),
        policies,
        Origin.GENERATED,
    )
    with pytest.raises(Exception, match="slot"):
        proof(own, key, Verifier("verifier.example"))
    with pytest.raises(Exception, match="slot"):
        key.custody()


@pytest.mark.parametrize("octets", [b"", b"a raw digest of thirty-two octets", bytes(32)])
def test_what_is_no_challenge_is_not_signed(own: Own, key: DeviceKey, octets: bytes) -> None:
    with own.open() as token, pytest.raises(FormatError):
        token.attest(key.uri, octets)
    assert not own.sent(Ins.AUTHENTICATE)
    assert not own.secrets_sent
