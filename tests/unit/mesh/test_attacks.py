"""Named attacks on connecting a device, each stopped: hsm-1 §5-§7.

The administrator here is dishonest and holds a real administrator key; the thief holds old files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from mesh_hsm import dare
from mesh_hsm.curves import SecretScalar
from mesh_hsm.dare import ContentMeta
from mesh_hsm.errors import (
    CannotVerifyError,
    DecryptionError,
    FormatError,
    MeshHsmError,
    VerificationError,
)
from mesh_hsm.mesh import (
    ActivationDevice,
    CombinedKey,
    Composite,
    ConnectionResponse,
    OneTimeKey,
    accept,
    create_profile_master,
    create_request,
    open_connection,
    verify_connection,
)
from mesh_hsm.mesh.contribution import contribution, draw_seed
from mesh_hsm.mesh.device_keys import plain_decryptor
from mesh_hsm.mesh.signed import CONTENT_TYPE, seal_object, sign_object
from mesh_hsm.mesh.wire import encode
from mesh_hsm.provider import Use
from mesh_hsm.threshold.proof import prove
from mesh_hsm.udf import SeedUse, new_seed


@pytest.fixture
def check(mesh: Any, device: Any, connected: Any) -> Callable[..., Any]:
    """``verify_connection`` with what an honest verifier has."""

    def verify(envelope: Any, **changes: Any) -> Any:
        given = {
            "master": mesh.profile,
            "device": device.request.value.device,
            "now": connected.connection.value.created,
        }
        return verify_connection(envelope, **given | changes)

    return verify


@pytest.fixture
def resign(mesh: Any, connected: Any) -> Callable[..., Any]:
    """The connection with members changed, signed again by the real administrator."""

    def sign(**changes: Any) -> Any:
        changed = replace(connected.connection.value, **changes)
        return sign_object(changed, mesh.administrator, changed.created).envelope

    return sign


def claimed_key(device: Any, udf: str) -> CombinedKey:
    """Z = zG for a z of the administrator's own, Z - X called the contribution."""
    X = device.keys.encryption.public
    Z = SecretScalar.random(X.curve).public()
    return CombinedKey(Z, None)


# -- rogue key and claimed sum -------------------------------------------------------------------


def test_claimed_sum_is_refused_by_the_device(
    mesh: Any, device: Any, connected: Any, seed: bytes
) -> None:
    claimed = claimed_key(device, mesh.udf)
    response = mesh.forge(connected, seed, encryption=claimed)
    with pytest.raises(VerificationError, match="not this device's key combined"):
        device.activate(response, confirm_master_udf=mesh.udf)


def test_claimed_sum_is_never_proved_even_if_countersigned(
    mesh: Any, device: Any, check: Any, resign: Any
) -> None:
    envelope = resign(encryption=claimed_key(device, mesh.udf))
    envelope = dare.countersign(envelope, device.keys.profile)
    assert check(envelope).composite is Composite.CLAIMED


def test_rogue_key_with_a_proof_of_z_instead_of_y_is_refused(
    mesh: Any, device: Any, check: Any, resign: Any
) -> None:
    profile = device.request.value.device
    X = device.keys.encryption.public
    z = SecretScalar.random(X.curve)
    w = SecretScalar.random(X.curve)
    # A sound proof, but of z over base W: it says nothing of Z - X.
    proof = prove(z, w.public(), w.public() + z.public(), Use.ENCRYPT, profile.digest, mesh.udf)
    envelope = resign(encryption=CombinedKey(z.public(), proof))
    with pytest.raises(VerificationError, match="proof of contribution"):
        check(envelope)


def test_composite_that_is_the_base_key_itself_is_refused(
    device: Any, connected: Any, check: Any, resign: Any
) -> None:
    proof = connected.connection.value.encryption.proof
    bare = CombinedKey(device.keys.encryption.public, proof)
    with pytest.raises(VerificationError, match="proof of contribution"):
        check(resign(encryption=bare))


def test_a_connection_without_proofs_is_not_activated(
    mesh: Any, device: Any, connected: Any, seed: bytes
) -> None:
    bare = replace(connected.connection.value.signature, proof=None)
    response = mesh.forge(connected, seed, signature=bare)
    with pytest.raises(VerificationError, match="lacks a proof"):
        device.activate(response, confirm_master_udf=mesh.udf)


@pytest.mark.parametrize("use", ["encryption", "signature", "authentication"])
def test_one_missing_proof_makes_all_of_it_a_claim(
    device: Any, connected: Any, check: Any, resign: Any, use: str
) -> None:
    bare = replace(getattr(connected.connection.value, use), proof=None)
    envelope = dare.countersign(resign(**{use: bare}), device.keys.profile)
    assert check(envelope).composite is Composite.CLAIMED


# -- swapped contribution ------------------------------------------------------------------------


def test_swapped_contribution(mesh: Any, device: Any, connected: Any) -> None:
    response = mesh.forge(connected, draw_seed())
    with pytest.raises(VerificationError, match="not this device's key combined"):
        device.activate(response, confirm_master_udf=mesh.udf)


def test_contributions_swapped_between_uses(
    mesh: Any, device: Any, connected: Any, seed: bytes, check: Any, resign: Any
) -> None:
    was = connected.connection.value
    swapped = {"encryption": was.authentication, "authentication": was.encryption}
    with pytest.raises(VerificationError, match="not this device's key combined"):
        device.activate(mesh.forge(connected, seed, **swapped), confirm_master_udf=mesh.udf)
    with pytest.raises(VerificationError, match="proof of contribution"):
        check(resign(**swapped))


def test_a_proof_is_bound_to_use_device_and_mesh(
    mesh: Any, stranger: Any, device: Any, other_device: Any, seed: bytes, check: Any, resign: Any
) -> None:
    profile = device.request.value.device
    X = profile.value.encryption
    y = contribution(seed, Use.ENCRYPT, X.curve)
    Z = X + y.public()
    foreign = {
        "use": (Use.AUTHENTICATE, profile.digest, mesh.udf),
        "device": (Use.ENCRYPT, other_device.request.value.device.digest, mesh.udf),
        "mesh": (Use.ENCRYPT, profile.digest, stranger.udf),
    }
    for use, digest, udf in foreign.values():
        with pytest.raises(VerificationError, match="does not check"):
            check(resign(encryption=CombinedKey(Z, prove(y, X, Z, use, digest, udf))))
    good = prove(y, X, Z, Use.ENCRYPT, profile.digest, mesh.udf)
    check(resign(encryption=CombinedKey(Z, good)))


def test_a_bare_scalar_or_another_kind_of_seed_is_no_contribution(
    mesh: Any, device: Any, seed: bytes
) -> None:
    for wrong in (b"", seed[:-1], seed + b"\0", new_seed(SeedUse.PROFILE_DEVICE), seed[2:]):
        with pytest.raises(FormatError, match="not an activation seed"):
            mesh.connect(device, seed=wrong)
    mesh.connect(device, seed=new_seed(SeedUse.ACTIVATION_DEVICE))


# -- late activation -----------------------------------------------------------------------------


def test_late_activation_after_the_one_time_key_was_erased(
    mesh: Any, device: Any, connected: Any
) -> None:
    with pytest.raises(DecryptionError):
        device.activate(
            connected.response.envelope, confirm_master_udf=mesh.udf, once=OneTimeKey.draw()
        )


def test_late_activation_for_an_older_request(mesh: Any, device: Any, connected: Any) -> None:
    # The thief kept the one-time key's file too; the device has asked anew since.
    created = device.request.value.created
    newer = create_request(device.keys, device.once.public, now=created)
    with pytest.raises(VerificationError, match="another request"):
        device.activate(
            connected.response.envelope, request=newer.text, confirm_master_udf=mesh.udf
        )


def test_a_manufacturer_that_knows_the_device_key_lacks_the_one_time_key(
    device: Any, connected: Any, mesh: Any
) -> None:
    alone = plain_decryptor(device.keys.encryption)
    with pytest.raises(DecryptionError):
        dare.unseal(
            connected.response.value.activation,
            keys=[alone],
            trusted={b"": mesh.administrator.public},
        )


# -- swapped request -----------------------------------------------------------------------------


def test_swapped_request_of_another_device(mesh: Any, device: Any, other_device: Any) -> None:
    with pytest.raises(VerificationError, match="confirmed UDF"):
        mesh.connect(other_device, confirm_udf=device.udf)


def test_swapped_one_time_key(mesh: Any, device: Any) -> None:
    thief = OneTimeKey.draw()
    changed = replace(device.request.value, one_time=thief.public)
    envelope = seal_object(changed, mesh.administrator, changed.created)
    with pytest.raises(VerificationError, match="not signed by whom"):
        mesh.connect(device, confirm_udf=device.udf, request=envelope)


def test_a_request_made_with_other_keys_is_not_activated(
    mesh: Any, device: Any, other_device: Any, connected: Any
) -> None:
    with pytest.raises(VerificationError, match="not made with this device's keys"):
        device.activate(
            connected.response.envelope,
            confirm_master_udf=mesh.udf,
            request=other_device.request.envelope,
        )


def test_a_response_to_another_device(mesh: Any, other_device: Any, connected: Any) -> None:
    with pytest.raises(VerificationError, match="that of the device"):
        other_device.activate(connected.response.envelope, confirm_master_udf=mesh.udf)


# -- a stranger's Mesh ---------------------------------------------------------------------------


def test_device_activated_into_a_strangers_mesh(
    mesh: Any, stranger: Any, device: Any, activated: Any
) -> None:
    response = stranger.connect(device).response.envelope
    with pytest.raises(VerificationError, match="confirmed UDF"):
        device.activate(response, confirm_master_udf=mesh.udf)
    with pytest.raises(VerificationError, match="belongs to the Mesh"):
        device.activate(response, pins=activated.pins.envelope)
    with pytest.raises(VerificationError, match="belongs to the Mesh"):
        device.activate(response, pins=activated.pins.envelope, confirm_master_udf=stranger.udf)
    with pytest.raises(VerificationError, match="nobody has confirmed"):
        device.activate(response)


def test_own_mesh_does_not_vouch_for_a_strangers_connection(
    stranger: Any, device: Any, check: Any
) -> None:
    connection = stranger.connect(device).connection
    with pytest.raises(VerificationError, match="not signed by whom"):
        check(connection.envelope)


def test_an_administrator_of_two_meshes_does_not_mix_them(
    mesh: Any, stranger: Any, device: Any, connected: Any, check: Any
) -> None:
    now = connected.connection.value.created
    both = create_profile_master(stranger.master, [mesh.administrator.public], [], now=now)
    elsewhere = mesh.connect(device, master=both).connection
    with pytest.raises(VerificationError, match=f"belongs to the Mesh {stranger.udf}"):
        check(elsewhere.envelope)
    check(elsewhere.envelope, master=both)


# -- versions, administrators, expiry ------------------------------------------------------------


def test_older_profile_master_version(mesh: Any, device: Any, connected: Any) -> None:
    newer = mesh.connect(device, master=mesh.next_version())
    pins = device.activate(newer.response.envelope, confirm_master_udf=mesh.udf).pins
    with pytest.raises(VerificationError, match="older than version 2"):
        device.activate(connected.response.envelope, pins=pins.envelope)


def test_two_profile_masters_of_one_version(
    mesh: Any, device: Any, activated: Any, make_signer: Any
) -> None:
    intruder = make_signer("intruder")
    twin = create_profile_master(
        mesh.master,
        [mesh.administrator.public, intruder.public],
        [mesh.escrow],
        now=activated.connection.value.created,
    )
    response = mesh.connect(device, master=twin, administrator=intruder).response
    with pytest.raises(VerificationError, match="two ProfileMasters"):
        device.activate(response.envelope, pins=activated.pins.envelope)


def test_the_successor_of_another_profile_master(
    mesh: Any, device: Any, activated: Any, make_signer: Any
) -> None:
    intruder, now = make_signer("intruder"), activated.connection.value.created
    twin = create_profile_master(
        mesh.master, [mesh.administrator.public, intruder.public], [mesh.escrow], now=now
    )
    heir = create_profile_master(
        mesh.master, [mesh.administrator.public], [mesh.escrow], now=now, previous=twin
    )
    response = mesh.connect(device, master=heir).response
    with pytest.raises(VerificationError, match="two ProfileMasters"):
        device.activate(response.envelope, pins=activated.pins.envelope)


def test_connection_of_a_version_not_seen_yet(
    mesh: Any, device: Any, check: Any, resign: Any
) -> None:
    with pytest.raises(CannotVerifyError, match="version 2") as caught:
        check(resign(profile_master_version=2))
    assert "newest" in (caught.value.hint or "")


def test_administrator_not_listed_cannot_connect(mesh: Any, device: Any, make_signer: Any) -> None:
    with pytest.raises(VerificationError, match="not an administrator"):
        mesh.connect(device, administrator=make_signer("intruder"))


def test_administrator_not_listed_is_not_believed(
    mesh: Any, device: Any, connected: Any, make_signer: Any
) -> None:
    intruder = make_signer("intruder")
    now = connected.connection.value.created
    connection = sign_object(connected.connection.value, intruder, now)
    response = ConnectionResponse(mesh.profile, connection, connected.response.value.activation)
    with pytest.raises(VerificationError, match="not signed by whom"):
        device.activate(seal_object(response, mesh.administrator, now), confirm_master_udf=mesh.udf)
    outer = seal_object(connected.response.value, intruder, now)
    with pytest.raises(VerificationError, match="not signed by whom"):
        device.activate(outer, confirm_master_udf=mesh.udf)


def test_a_device_does_not_vouch_for_itself(
    mesh: Any, device: Any, connected: Any, check: Any
) -> None:
    """Its profile key is trusted as a countersigner, and only as that."""
    connection, profile = connected.connection.value, device.keys.profile
    with pytest.raises(VerificationError, match="not signed by whom"):
        check(seal_object(connection, profile, connection.created))
    envelope = dare.seal(
        dare.peek_payload(connected.connection.envelope),
        signers=[mesh.administrator, profile],
        meta=ContentMeta(cty=CONTENT_TYPE, message_type="ConnectionDevice"),
        envelope_id=device.udf,
    )
    with pytest.raises(VerificationError, match="not signed by whom"):
        check(envelope)


def test_an_activation_that_nobody_signed(
    mesh: Any, device: Any, connected: Any, seed: bytes
) -> None:
    connection = connected.connection
    activation = ActivationDevice(
        seed, mesh.udf, device.udf, connected.request.digest, connection.digest
    )
    unsigned = dare.seal(
        encode("ActivationDevice", activation.members()),
        recipients=[dare.DoubleRecipient(device.keys.encryption.public, device.once.public)],
        meta=ContentMeta(cty=CONTENT_TYPE, message_type="ActivationDevice"),
        envelope_id=device.udf,
    )
    response = ConnectionResponse(mesh.profile, connection, unsigned)
    with pytest.raises(VerificationError, match="not signed by whom"):
        device.activate(
            seal_object(response, mesh.administrator, connection.value.created),
            confirm_master_udf=mesh.udf,
        )


def test_activation_by_another_administrator_than_the_connection(
    mesh: Any, device: Any, make_signer: Any
) -> None:
    second = make_signer("second")
    master = mesh.next_version(administrators=[mesh.administrator.public, second.public])
    first, other = (
        mesh.connect(device, master=master, administrator=key)
        for key in (mesh.administrator, second)
    )
    mixed = ConnectionResponse(
        master, first.response.value.connection, other.response.value.activation
    )
    now = first.connection.value.created
    with pytest.raises(VerificationError, match="not signed by whom"):
        device.activate(seal_object(mixed, mesh.administrator, now), confirm_master_udf=mesh.udf)


def test_expired_connection(mesh: Any, device: Any, connected: Any, check: Any) -> None:
    end = connected.connection.value.not_on_or_after
    check(connected.connection.envelope, now=end - timedelta(seconds=1))
    with pytest.raises(VerificationError, match="expired at 2027-11-23T12:00:00Z"):
        check(connected.connection.envelope, now=end)
    with pytest.raises(VerificationError, match="expired"):
        device.activate(connected.response.envelope, confirm_master_udf=mesh.udf, now=end)


# -- what a dishonest administrator may put into a connection -------------------------------------

FORGERIES: dict[str, tuple[dict[str, Any], type[MeshHsmError]]] = {
    "another authority": ({"authority_udf": "MAAA-AAAA"}, VerificationError),
    "another subject": ({"subject_udf": "MAAA-AAAA"}, VerificationError),
    "another ProfileDevice": ({"profile_device_digest": bytes(64)}, VerificationError),
    "other custody statements": ({"custody_digest": bytes(64)}, VerificationError),
    "a version to come": ({"profile_master_version": 2}, CannotVerifyError),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_device_checks_every_binding(
    mesh: Any, device: Any, connected: Any, seed: bytes, name: str
) -> None:
    changes, error = FORGERIES[name]
    response = mesh.forge(connected, seed, **changes)
    with pytest.raises(error) as caught:
        device.activate(response, confirm_master_udf=mesh.udf)
    assert type(caught.value) is error


def test_a_connection_older_than_its_profile_master_is_not_activated(
    mesh: Any, device: Any, connected: Any
) -> None:
    newer = mesh.next_version()
    mixed = replace(connected.response.value, master=newer)
    now = connected.connection.value.created
    with pytest.raises(VerificationError, match="different versions"):
        device.activate(seal_object(mixed, mesh.administrator, now), confirm_master_udf=mesh.udf)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"request_digest": bytes(64)}, "another request"),
        ({"connection_digest": bytes(64)}, "another connection"),
        ({"authority_udf": "MAAA-AAAA"}, "another connection"),
        ({"subject_udf": "MAAA-AAAA"}, "another connection"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_activation_is_bound(
    mesh: Any,
    device: Any,
    connected: Any,
    seed: bytes,
    changes: dict[str, Any],
    message: str,
) -> None:
    response = mesh.respond(connected, connected.connection.value, seed=seed, **changes)
    with pytest.raises(VerificationError, match=message):
        device.activate(response, confirm_master_udf=mesh.udf)


def test_the_forger_himself_is_honest_when_nothing_is_changed(
    mesh: Any, device: Any, connected: Any, seed: bytes
) -> None:
    """What the refusals above rest on: the same response, unchanged, is accepted."""
    device.activate(mesh.forge(connected, seed), confirm_master_udf=mesh.udf)


# -- what comes back to the administrator ----------------------------------------------------------


def test_connection_for_another_device(
    other_device: Any, connected: Any, check: Any, resign: Any
) -> None:
    profile = other_device.request.value.device
    with pytest.raises(VerificationError, match="is that of the device"):
        check(connected.connection.envelope, device=profile)
    with pytest.raises(VerificationError, match="another ProfileDevice"):
        check(resign(subject_udf=other_device.udf), device=profile)


def test_countersignature_by_another_key(other_device: Any, connected: Any, check: Any) -> None:
    envelope = dare.countersign(connected.connection.envelope, other_device.keys.profile)
    assert check(envelope).composite is Composite.CLAIMED


def test_countersignature_by_another_key_under_the_devices_name(
    device: Any, other_device: Any, connected: Any, check: Any
) -> None:
    header, payload, trailer = dare.countersign(
        connected.connection.envelope, other_device.keys.profile
    )
    first, second = trailer["signatures"]
    forged = [header, payload, {"signatures": [first, second | {"kid": device.udf}]}]
    with pytest.raises(VerificationError, match="does not verify"):
        check(forged)


def test_the_administrator_files_only_what_was_issued(
    mesh: Any, device: Any, activated: Any
) -> None:
    given = {
        "master": mesh.profile,
        "device": device.request.value.device,
        "now": activated.connection.value.created,
    }
    again = mesh.connect(device)
    with pytest.raises(VerificationError, match="not the connection that was issued"):
        accept(activated.connection.envelope, issued=again.connection, **given)


def test_an_unsigned_or_published_form_connection_is_refused(
    connected: Any, mesh: Any, check: Any
) -> None:
    payload = dare.peek_payload(connected.connection.envelope)
    with pytest.raises((FormatError, VerificationError, DecryptionError)):
        check(dare.seal(payload))
    with pytest.raises(FormatError):
        open_connection(b'{"not": "an envelope"}', mesh.profile.value)


def test_the_administrator_files_nothing_before_the_device_has_countersigned(
    mesh: Any, device: Any, other_device: Any, connected: Any
) -> None:
    """Whoever holds the response could send back the connection in it, never activated."""
    given = {
        "issued": connected.connection,
        "master": mesh.profile,
        "device": device.request.value.device,
        "now": connected.connection.value.created,
    }
    with pytest.raises(VerificationError, match="has not countersigned"):
        accept(connected.connection.envelope, **given)
    envelope = dare.countersign(connected.connection.envelope, other_device.keys.profile)
    with pytest.raises(VerificationError, match="has not countersigned"):
        accept(envelope, **given)
