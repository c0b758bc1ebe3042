"""Administrators come and go: what each version of ProfileMaster makes void, and what outlives it.

The administrator who is removed here is dishonest afterwards, and still holds the key.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from mesh_hsm import dare, udf
from mesh_hsm.dare import ContentMeta
from mesh_hsm.dare.strict_json import b64url
from mesh_hsm.errors import (
    CannotVerifyError,
    ConflictError,
    FormatError,
    MeshHsmError,
    NotFoundError,
    VerificationError,
)
from mesh_hsm.mesh import (
    SIGNATURES_PER_DEVICE,
    Composite,
    ConnectionDevice,
    Pins,
    ProfileMaster,
    Seen,
    Signed,
    add_administrator,
    connect,
    create_profile_master,
    open_connection,
    open_profile_master,
    remove_administrator,
    verify_connection,
    verify_own_connection,
)
from mesh_hsm.mesh.signed import CONTENT_TYPE, Vouched, open_object, seal_object, sign_object
from mesh_hsm.mesh.wire import encode
from tests.unit.mesh.conftest import NOW


@dataclass(frozen=True)
class History:
    """Version 1 has ``old`` alone, 2 adds ``new``, 3 removes ``old``; one connection survives."""

    old: Any
    new: Any
    first: Signed[ProfileMaster]
    second: Signed[ProfileMaster]
    third: Signed[ProfileMaster]
    survivor: Any


@pytest.fixture(scope="module")
def history(mesh: Any, activated: Any, make_signer: Any) -> History:
    new = make_signer("second administrator")
    second = add_administrator(mesh.profile, new.public, mesh.master, now=NOW)
    third = remove_administrator(
        second,
        mesh.administrator.public,
        mesh.master,
        surviving=[activated.connection],
        now=NOW,
    )
    return History(mesh.administrator, new, mesh.profile, second, third, activated.connection)


@pytest.fixture
def check(device: Any, history: History) -> Callable[..., Any]:
    """``verify_connection`` by whoever has seen version 3, and never the removed key."""

    def verify(envelope: Any, **changes: Any) -> Any:
        given = {"master": history.third, "device": device.request.value.device, "now": NOW}
        return verify_connection(envelope, **given | changes)

    return verify


# -- the chain -------------------------------------------------------------------------------------


def test_each_change_is_the_next_version(mesh: Any, history: History) -> None:
    second, third = history.second.value, history.third.value
    assert [one.version for one in (second, third)] == [2, 3]
    assert second.previous_digest == history.first.digest
    assert third.previous_digest == history.second.digest
    assert second.administrator_signature == (history.old.public, history.new.public)
    assert third.administrator_signature == (history.new.public,)
    assert second.escrow_encryption == third.escrow_encryption == (mesh.escrow,)
    assert (second.surviving_connections, third.surviving_connections) == (
        (),
        (history.survivor.digest,),
    )
    assert {one.value.udf for one in (history.second, history.third)} == {mesh.udf}


def test_what_cannot_be_signed(
    mesh: Any, stranger: Any, history: History, connected: Any, make_signer: Any
) -> None:
    anybody = make_signer("anybody").public
    old, new = history.old.public, history.new.public
    with pytest.raises(ConflictError, match="already"):
        add_administrator(history.second, new, mesh.master, now=NOW)
    with pytest.raises(FormatError, match="two roles"):
        add_administrator(history.second, mesh.master.public, mesh.master, now=NOW)
    with pytest.raises(VerificationError, match="another master key"):
        add_administrator(history.second, anybody, stranger.master, now=NOW)
    with pytest.raises(VerificationError, match="another master key"):
        remove_administrator(history.second, old, stranger.master, surviving=[], now=NOW)
    with pytest.raises(NotFoundError):
        remove_administrator(history.second, anybody, mesh.master, surviving=[], now=NOW)
    with pytest.raises(ConflictError, match="last administrator"):
        remove_administrator(history.third, new, mesh.master, surviving=[], now=NOW)
    with pytest.raises(VerificationError, match="another administrator"):
        remove_administrator(
            history.second, new, mesh.master, surviving=[connected.connection], now=NOW
        )


def test_survivors_stay_until_they_are_dropped(
    mesh: Any, history: History, other_device: Any, make_signer: Any
) -> None:
    newest = make_signer("third administrator").public
    fourth = add_administrator(history.third, newest, mesh.master, now=NOW)
    issued = connect(
        other_device.request.envelope,
        confirm_udf=other_device.udf,
        master=fourth,
        administrator=history.new,
        now=NOW,
    ).connection
    fifth = remove_administrator(
        fourth, history.new.public, mesh.master, surviving=[issued, issued], now=NOW
    )
    assert fifth.value.surviving_connections == (history.survivor.digest, issued.digest)
    dropped = remove_administrator(
        fourth,
        history.new.public,
        mesh.master,
        surviving=[issued],
        dropped=[history.survivor.digest],
        now=NOW,
    )
    assert dropped.value.surviving_connections == (issued.digest,)


# -- what a verifier of version 3 believes ---------------------------------------------------------


def test_a_survivor_needs_nobody_who_knew_its_administrator(
    mesh: Any, history: History, check: Callable[..., Any]
) -> None:
    verified = check(history.survivor.envelope)
    assert (verified.composite, verified.voucher_udf) == (Composite.PROVED, mesh.udf)
    assert verified.connection.signer == mesh.master.public


def test_what_the_removed_administrator_signs_is_void(
    history: History, check: Callable[..., Any], device: Any, other_device: Any
) -> None:
    value = history.survivor.value
    backdated = replace(value, serial=udf.nonce(), created=value.created - timedelta(days=100))
    longer = replace(value, not_on_or_after=value.not_on_or_after + timedelta(days=1))
    claims_newer = replace(value, serial=udf.nonce(), profile_master_version=3)
    for forged in (backdated, longer, claims_newer):
        envelope = dare.countersign(seal_object(forged, history.old, NOW), device.keys.profile)
        with pytest.raises(VerificationError, match=r"not signed by whom.* version 3"):
            check(envelope)
        if forged is not claims_newer:
            assert check(envelope, master=history.second).composite is Composite.PROVED
    for master in (history.first, history.second):
        issued = connect(
            other_device.request.envelope,
            confirm_udf=other_device.udf,
            master=master,
            administrator=history.old,
            now=NOW,
        )
        with pytest.raises(VerificationError, match="not signed by whom"):
            open_connection(issued.connection.envelope, history.third.value)
    with pytest.raises(VerificationError, match="not an administrator"):
        connect(
            other_device.request.envelope,
            confirm_udf=other_device.udf,
            master=history.third,
            administrator=history.old,
            now=NOW,
        )


def test_a_response_of_the_removed_administrator_connects_nobody(
    mesh: Any, history: History, device: Any, connected: Any
) -> None:
    """Not even with a surviving connection in it: the activation has his signature, too."""
    assert history.third.value.surviving_connections == (connected.connection.digest,)
    response = replace(connected.response.value, master=history.third)
    envelope = seal_object(response, history.old, NOW)
    with pytest.raises(VerificationError):
        device.activate(envelope, confirm_master_udf=mesh.udf)
    pins = device.activate(connected.response.envelope, confirm_master_udf=mesh.udf).pins.value
    newer = sign_object(pins.advanced(history.third), device.keys.profile, NOW)
    with pytest.raises(VerificationError, match="older than version 3"):
        device.activate(connected.response.envelope, pins=newer.envelope)


def test_a_survivor_s_countersignature_is_still_checked(
    history: History, check: Callable[..., Any], other_device: Any
) -> None:
    bare = copy.deepcopy(history.survivor.envelope)
    (other,) = bare[2]["signatures"][1:]
    del bare[2]["signatures"][1:]
    assert check(bare).composite is Composite.CLAIMED
    by_another = dare.countersign(bare, other_device.keys.profile)
    assert check(by_another).composite is Composite.CLAIMED
    wrong = copy.deepcopy(by_another)
    wrong[2]["signatures"][1]["kid"] = other["kid"]
    with pytest.raises(VerificationError, match="does not verify"):
        check(wrong)


def _payload(envelope: Any) -> bytes:
    return dare.peek_payload(envelope)


def _sealed_again(envelope: Any, *signers: Any, **meta: Any) -> Any:
    given = {"cty": CONTENT_TYPE, "message_type": "ConnectionDevice"} | meta
    subject = open_subject(envelope)
    return dare.seal(
        _payload(envelope),
        recipients=[],
        signers=signers,
        meta=ContentMeta(**given),
        envelope_id=subject,
    )


def open_subject(envelope: Any) -> str:
    from mesh_hsm.mesh.wire import decode

    return decode(_payload(envelope), "ConnectionDevice").text("SubjectUdf")


def test_around_a_survivor_s_payload_another_envelope_proves_nothing(
    history: History, check: Callable[..., Any], device: Any, make_signer: Any
) -> None:
    """The digest binds the payload; the header is the countersignature's business."""
    anybody, envelope = make_signer("anybody"), history.survivor.envelope
    assert check(_sealed_again(envelope, anybody)).composite is Composite.CLAIMED
    copied = copy.deepcopy(_sealed_again(envelope, anybody))
    copied[2]["signatures"] += envelope[2]["signatures"][1:]
    with pytest.raises(VerificationError, match="does not verify"):
        check(copied)
    refused = {
        "two signers": _sealed_again(envelope, anybody, make_signer("somebody")),
        "the device as the signer": _sealed_again(envelope, device.keys.profile),
        "another type": _sealed_again(envelope, anybody, message_type="ProfileDevice"),
    }
    for name, one in refused.items():
        with pytest.raises(VerificationError):
            pytest.fail(f"{name}: {check(one)}")


def test_a_voucher_for_another_payload_is_none(mesh: Any, history: History) -> None:
    envelope = history.survivor.envelope
    vouched = Vouched(history.survivor.digest, mesh.master.public)
    assert open_object(envelope, ConnectionDevice, (), vouched=vouched).signer == vouched.by
    with pytest.raises(VerificationError, match="not signed by whom"):
        open_object(envelope, ConnectionDevice, (), vouched=replace(vouched, digest=bytes(64)))


def test_an_altered_survivor_is_void(history: History, check: Callable[..., Any]) -> None:
    envelope = copy.deepcopy(history.survivor.envelope)
    for altered in (
        _payload(envelope).replace(b'"ProfileMasterVersion":1', b'"ProfileMasterVersion":2'),
        _payload(envelope) + b" ",
        _payload(envelope).replace(b'{"ConnectionDevice"', b'{"ProfileDevice"'),
    ):
        envelope[1] = b64url(altered)
        with pytest.raises(MeshHsmError) as caught:
            check(envelope)
        assert isinstance(caught.value, VerificationError | FormatError)


def test_a_listed_digest_lets_no_other_object_in(
    mesh: Any, history: History, device: Any, connected: Any, check: Callable[..., Any]
) -> None:
    """The list names connections: whatever else has such a digest is not believed for it."""
    response = connected.response
    master = create_profile_master(
        mesh.master,
        [history.new.public],
        [],
        now=NOW,
        previous=history.second,
        surviving_connections=[response.digest, device.request.digest],
    )
    for other in (response.envelope, device.request.envelope):
        with pytest.raises(FormatError, match="not a ConnectionDevice"):
            open_connection(other, master.value)
    with pytest.raises(VerificationError, match="not signed by whom"):
        check(connected.connection.envelope, master=master)


HOSTILE: dict[str, Any] = {
    "a digest too short": [b64url(bytes(63))],
    "a digest too long": [b64url(bytes(65))],
    "an empty digest": [""],
    "padding": [b64url(bytes(64)) + "=="],
    "no text": [7],
    "nothing": [None],
    "a list in the list": [[b64url(bytes(64))]],
    "an object": {"digest": b64url(bytes(64))},
    "no list": b64url(bytes(64)),
    "null": None,
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_lists_of_survivors(mesh: Any, history: History, case: str) -> None:
    members = history.third.value.members() | {"SurvivingConnections": HOSTILE[case]}
    meta = ContentMeta(cty=CONTENT_TYPE, message_type="ProfileMaster")
    envelope = dare.seal(
        encode("ProfileMaster", members),
        recipients=[],
        signers=[mesh.master],
        meta=meta,
        envelope_id=mesh.udf,
    )
    with pytest.raises(FormatError):
        open_profile_master(envelope)


def test_an_altered_list_is_not_the_master_s(history: History, connected: Any) -> None:
    survivor = b64url(history.survivor.digest).encode()
    for altered in (
        _payload(history.third.envelope).replace(b'"' + survivor + b'"', b""),
        _payload(history.third.envelope).replace(survivor, b64url(bytes(64)).encode()),
    ):
        envelope = copy.deepcopy(history.third.envelope)
        envelope[1] = b64url(altered)
        with pytest.raises(VerificationError):
            open_profile_master(envelope)


# -- what has been seen ----------------------------------------------------------------------------


def test_what_was_seen_is_not_unlearned(mesh: Any, history: History, make_signer: Any) -> None:
    anybody = make_signer("anybody").public
    fork = add_administrator(history.first, anybody, mesh.master, now=NOW)
    after_fork = add_administrator(fork, history.new.public, mesh.master, now=NOW)
    beyond = add_administrator(after_fork, make_signer("more").public, mesh.master, now=NOW)
    seen = Seen.of(history.second)
    for good in (history.second, history.third, beyond):  # across a gap nothing shows
        seen.check(good)
    for bad, why in (
        (history.first, "older than version 2"),
        (fork, "two ProfileMasters of version 2"),
        (after_fork, "two ProfileMasters of version 2"),
    ):
        with pytest.raises(VerificationError, match=why) as caught:
            seen.check(bad)
        assert caught.value.hint


def test_another_mesh_was_not_seen(stranger: Any, history: History, activated: Any) -> None:
    with pytest.raises(VerificationError, match="was expected"):
        Seen.of(history.second).check(stranger.profile)
    with pytest.raises(VerificationError, match="this device belongs to"):
        activated.pins.value.advanced(stranger.profile)


def test_pins_move_forward_only(history: History, activated: Any) -> None:
    pins: Pins = activated.pins.value
    later = pins.advanced(history.third)
    assert later.seen == Seen.of(history.third)
    assert (later.srk_name, later.counter, later.device_udf) == (
        pins.srk_name,
        pins.counter,
        pins.device_udf,
    )
    for older in (history.first, history.second):
        with pytest.raises(VerificationError, match="older"):
            later.advanced(older)


# -- the device itself -----------------------------------------------------------------------------


def test_a_device_knows_its_own_connection_even_when_it_is_void(
    device: Any, activated: Any, other_device: Any
) -> None:
    own = device.request.value.device
    verified = verify_own_connection(activated.connection.envelope, device=own)
    assert verified.composite is Composite.PROVED
    assert verified.voucher_udf == own.value.udf
    with pytest.raises(VerificationError):
        verify_own_connection(
            activated.connection.envelope, device=other_device.request.value.device
        )


def test_a_device_knows_no_connection_that_it_did_not_countersign(
    device: Any, connected: Any, activated: Any
) -> None:
    own = device.request.value.device
    with pytest.raises(VerificationError, match="has not countersigned"):
        verify_own_connection(connected.connection.envelope, device=own)
    altered = copy.deepcopy(activated.connection.envelope)
    altered[1] = b64url(_payload(altered) + b" ")
    with pytest.raises(VerificationError):
        verify_own_connection(altered, device=own)


def test_a_connection_for_a_later_version_has_to_wait(history: History, other_device: Any) -> None:
    issued = connect(
        other_device.request.envelope,
        confirm_udf=other_device.udf,
        master=history.third,
        administrator=history.new,
        now=NOW,
    )
    with pytest.raises(CannotVerifyError, match="needs ProfileMaster version 3"):
        verify_connection(
            issued.connection.envelope,
            master=history.second,
            device=other_device.request.value.device,
            now=NOW,
        )


def test_how_often_an_administrator_s_key_signs(
    mesh: Any, device: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = []
    key = mesh.administrator
    sign = type(key)._sign
    monkeypatch.setattr(
        type(key),
        "_sign",
        lambda self, octets: count.append(self is key) or sign(self, octets),
    )
    mesh.connect(device)
    assert sum(count) == SIGNATURES_PER_DEVICE
