"""The whole way of a device into a Mesh, and what it can do afterwards."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from mesh_hsm import dare
from mesh_hsm.curves import X448, SecretScalar
from mesh_hsm.custody import CustodyClass
from mesh_hsm.errors import DecryptionError, FormatError, UnsupportedError, VerificationError
from mesh_hsm.mesh import (
    ActivationDevice,
    Composite,
    OneTimeKey,
    accept,
    create_request,
    open_device,
    open_pins,
    open_profile_device,
    open_profile_master,
    open_request,
    open_response,
    verify_connection,
    witness,
)
from mesh_hsm.mesh.device_keys import plain_decryptor
from mesh_hsm.udf import udf_of


@pytest.mark.parametrize(
    ("agreement", "signature"),
    [
        ("P-384", "P-384"),
        ("P-256", "P-256"),
        ("P-521", "P-384"),
        ("X448", "P-384"),
        ("X25519", "P-256"),
    ],
)
def test_a_device_joins_and_works(
    mesh: Any, make_device: Any, agreement: str, signature: str
) -> None:
    device = make_device.make(agreement, signature)
    connected = mesh.connect(device)
    activated = device.activate(connected.response.text, confirm_master_udf=mesh.udf)
    accepted = accept(
        activated.connection.text,
        issued=connected.connection,
        master=mesh.profile,
        device=device.request.value.device,
        now=activated.connection.value.created,
    )
    assert accepted.composite is Composite.PROVED
    assert accepted.voucher_udf == udf_of(mesh.administrator.public)

    connection = accepted.connection.value
    keys = open_device(connection, activated.seed, device.keys, proved=True)
    for decryptor in (keys.encryption, keys.authentication):
        sealed = dare.seal(b"for this device", recipients=[dare.Recipient(decryptor.public)])
        assert dare.unseal(sealed, keys=[decryptor]).payload == b"for this device"
    signed = dare.seal(b"by this device", signers=[keys.signature])
    assert dare.unseal(signed, trusted={b"": connection.signature.public}).report.authenticated
    assert keys.encryption.public == connection.encryption.public
    assert keys.authentication.public == connection.authentication.public


def test_both_sides_show_the_same_witness(
    device: Any, connected: Any, activated: Any, other_device: Any
) -> None:
    assert activated.witness == connected.witness
    assert connected.witness == witness(device.request.digest, connected.connection.digest)
    assert connected.witness != witness(other_device.request.digest, connected.connection.digest)
    groups = connected.witness.split("-")
    assert [len(group) for group in groups] == [4] * 7


def test_the_seed_alone_or_the_device_alone_does_not_decrypt(
    device: Any, connected: Any, activated: Any, other_device: Any
) -> None:
    public = connected.connection.value.encryption.public
    sealed = dare.seal(b"x", recipients=[dare.Recipient(public)])
    with pytest.raises(VerificationError):
        open_device(activated.connection.value, activated.seed, other_device.keys)
    with pytest.raises(DecryptionError):
        dare.unseal(sealed, keys=[plain_decryptor(device.keys.encryption)])


def test_custody_says_who_has_known_the_contribution(device: Any, activated: Any) -> None:
    keys = open_device(activated.connection.value, activated.seed, device.keys)
    custody = keys.encryption.custody()
    assert not custody.proved
    assert custody.theft is CustodyClass.GENERATED
    assert [bool(share.known_by) for share in custody.shares] == [False, True]
    assert (
        open_device(activated.connection.value, activated.seed, device.keys, proved=True)
        .signature.custody()
        .proved
    )


def test_every_object_reads_back_as_it_was_written(
    mesh: Any, device: Any, connected: Any, activated: Any
) -> None:
    assert open_profile_master(mesh.profile.text) == mesh.profile
    assert open_profile_device(device.request.value.device.text) == device.request.value.device
    assert open_request(device.request.text) == device.request
    assert open_response(connected.response.text) == connected.response
    assert open_pins(activated.pins.text, device.keys.profile.public) == activated.pins


def test_a_request_carries_what_the_device_says_of_its_keys(device: Any) -> None:
    request = open_request(device.request.envelope).value
    stated = device.keys.encryption.custody().to_json()
    assert request.custody["Encryption"] == json.loads(json.dumps(stated))
    assert set(request.custody) == {"ProfileSignature", "Encryption", "Signature", "Authentication"}


def test_two_requests_of_one_device_differ_in_nonce_only(device: Any) -> None:
    created = device.request.value.created
    again = create_request(device.keys, device.once.public, now=created)
    assert again.value.nonce != device.request.value.nonce
    assert again.value.device.digest == device.request.value.device.digest


def test_a_connection_lasts_a_year_unless_told(mesh: Any, device: Any) -> None:
    connection = mesh.connect(device).connection.value
    assert connection.not_on_or_after - connection.created == timedelta(days=365)
    short = mesh.connect(device, valid_for=timedelta(hours=1)).connection.value
    assert short.not_on_or_after - short.created == timedelta(hours=1)


def test_pins_stand_in_for_a_person_the_second_time(mesh: Any, device: Any, activated: Any) -> None:
    again = mesh.connect(device)
    renewed = device.activate(again.response.envelope, pins=activated.pins.envelope)
    assert renewed.connection.value.serial != activated.connection.value.serial
    assert renewed.pins.value == activated.pins.value


def test_pins_follow_a_newer_profile_master(mesh: Any, device: Any, activated: Any) -> None:
    newer = mesh.next_version()
    response = mesh.connect(device, master=newer).response
    pins = device.activate(response.envelope, pins=activated.pins.text).pins.value
    assert pins.master_version == 2
    assert pins.profile_master_digest == newer.digest


def test_a_newer_profile_master_still_verifies_older_connections(
    mesh: Any, device: Any, activated: Any
) -> None:
    verified = verify_connection(
        activated.connection.envelope,
        master=mesh.next_version(),
        device=device.request.value.device,
        now=activated.connection.value.created,
    )
    assert verified.composite is Composite.PROVED


def test_surviving_connections_outlive_their_administrator(
    mesh: Any, device: Any, activated: Any, make_signer: Any
) -> None:
    successor = make_signer("successor").public
    given: dict[str, Any] = {
        "device": device.request.value.device,
        "now": activated.connection.value.created,
    }
    survivor = mesh.next_version(
        administrators=[successor], surviving_connections=[activated.connection.digest]
    )
    verified = verify_connection(activated.connection.envelope, master=survivor, **given)
    assert (verified.composite, verified.voucher_udf) == (Composite.PROVED, mesh.udf)
    void = mesh.next_version(administrators=[successor], surviving_connections=[bytes(64)])
    with pytest.raises(VerificationError, match="not signed by whom"):
        verify_connection(activated.connection.envelope, master=void, **given)


def test_proofs_without_countersignature_prove_nothing(
    mesh: Any, device: Any, connected: Any
) -> None:
    verified = verify_connection(
        connected.connection.envelope,
        master=mesh.profile,
        device=device.request.value.device,
        now=connected.connection.value.created,
    )
    assert verified.composite is Composite.CLAIMED


def test_no_secret_shows(device: Any, activated: Any) -> None:
    activation = ActivationDevice(activated.seed, "M", "M", b"", b"")
    for secret in (activated.seed, device.once.secret):
        shown = repr([activated, device.once, device, activation])
        assert repr(secret) not in shown
        assert secret.hex() not in shown
        assert str(int.from_bytes(secret, "little")) not in shown


def test_the_one_time_key_is_rebuilt_from_its_secret() -> None:
    once = OneTimeKey.draw()
    same = OneTimeKey(once.secret)
    S = SecretScalar.random(X448).public()
    assert same.public == once.public
    assert list(same.agreements(S)) == list(once.agreements(S))
    assert OneTimeKey.draw().public != once.public


@pytest.mark.parametrize("algorithm", ["Ed448"])
def test_a_signature_key_that_cannot_be_combined_is_refused_at_once(
    make_device: Any, algorithm: str
) -> None:
    with pytest.raises(UnsupportedError, match="cannot be combined"):
        make_device.make(signature=algorithm)


def test_a_key_for_another_use_is_refused(device: Any) -> None:
    with pytest.raises(FormatError, match="another use"):
        replace(device.keys, encryption=device.keys.authentication)
    with pytest.raises(FormatError, match="another use"):
        replace(device.keys, profile=device.keys.encryption)


def test_one_key_in_two_roles_is_refused(device: Any) -> None:
    twice = replace(device.keys, signature=device.keys.profile)
    with pytest.raises(FormatError, match="two roles"):
        create_request(twice, device.once.public, now=device.request.value.created)


def test_a_time_without_zone_is_refused(device: Any) -> None:
    with pytest.raises(FormatError, match="zone"):
        create_request(device.keys, device.once.public, now=datetime(2026, 1, 1))


@pytest.mark.parametrize("seconds", [0, -60, 0.5])
def test_a_connection_has_to_last(mesh: Any, device: Any, seconds: float) -> None:
    with pytest.raises(FormatError, match="valid for some time"):
        mesh.connect(device, valid_for=timedelta(seconds=seconds))
