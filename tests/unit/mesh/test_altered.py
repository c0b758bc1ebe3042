"""Every member of every object and of its envelope altered in turn: none goes unnoticed."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mesh_hsm import dare
from mesh_hsm.dare import ContentMeta, DoubleDecryptor
from mesh_hsm.dare.strict_json import b64url, un_b64url
from mesh_hsm.errors import (
    DecryptionError,
    FormatError,
    MeshHsmError,
    UnsupportedError,
    VerificationError,
)
from mesh_hsm.mesh import (
    ActivationDevice,
    open_connection,
    open_key_set,
    open_pins,
    open_profile_device,
    open_profile_master,
    open_request,
    open_response,
)
from mesh_hsm.mesh.device_keys import plain_decryptor
from mesh_hsm.mesh.signed import CONTENT_TYPE, open_object

Objects = dict[str, tuple[Any, Callable[[Any], Any], Any]]
KINDS = [
    "ProfileMaster",
    "ProfileDevice",
    "ConnectionRequest",
    "ConnectionDevice",
    "ConnectionResponse",
    "DevicePins",
    "AdministratorKeySet",
]


@pytest.fixture(scope="module")
def objects(mesh: Any, device: Any, connected: Any, activated: Any, key_set_object: Any) -> Objects:
    """Kind -> the object, how it is opened, and the key that signed it."""
    profile, administrator = device.keys.profile, mesh.administrator

    def connection(envelope: Any) -> Any:
        return open_connection(envelope, mesh.profile.value)

    def key_set(envelope: Any) -> Any:
        return open_key_set(envelope, mesh.profile.value)

    def pins(envelope: Any) -> Any:
        return open_pins(envelope, profile.public)

    return {
        "ProfileMaster": (mesh.profile, open_profile_master, mesh.master),
        "ProfileDevice": (device.request.value.device, open_profile_device, profile),
        "ConnectionRequest": (device.request, open_request, profile),
        "ConnectionDevice": (connected.connection, connection, administrator),
        "ConnectionResponse": (connected.response, open_response, administrator),
        "DevicePins": (activated.pins, pins, profile),
        "AdministratorKeySet": (key_set_object, key_set, administrator),
    }


def un64(text: str) -> Any:
    return json.loads(urlsafe_b64decode(text + "=="))


def b64(value: Any) -> str:
    text = json.dumps(value, separators=(",", ":"))
    return urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def altered(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, str):
        return ("A" if value[:1] != "A" else "B") + value[1:]
    if isinstance(value, int):
        return value + 1
    if isinstance(value, list):
        return [altered(value[0]), *value[1:]] if value else ["A"]
    return {name: altered(inner) for name, inner in value.items()}


def one_by_one(members: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The object with each member altered, left out, and one added."""
    for name, value in members.items():
        yield f"{name} altered", members | {name: altered(value)}
        yield f"{name} left out", {n: v for n, v in members.items() if n != name}
        if isinstance(value, dict):
            for where, changed in one_by_one(value):
                yield f"{name}.{where}", members | {name: changed}
    yield "a member added", members | {"Surplus": "A"}


def refused(
    opens: Callable[[Any], Any], envelope: Any, where: str, *errors: type[MeshHsmError]
) -> None:
    """Fail with the place of the alteration that went unnoticed."""
    try:
        opens(envelope)
    except errors:
        return
    pytest.fail(f"not noticed: {where}")


@pytest.mark.parametrize("kind", KINDS)
def test_every_member_of_the_payload(objects: Objects, kind: str) -> None:
    signed, opens, _ = objects[kind]
    header, payload, trailer = signed.envelope
    cases = list(one_by_one(un64(payload)))
    assert len(cases) >= 10
    assert opens([header, b64(un64(payload)), trailer]) == signed
    for where, changed in cases:
        # UnsupportedError: of a curve that does not exist.
        refused(
            opens,
            [header, b64(changed), trailer],
            where,
            FormatError,
            VerificationError,
            UnsupportedError,
        )


@pytest.mark.parametrize("kind", KINDS)
def test_every_member_of_header_and_trailer(objects: Objects, kind: str) -> None:
    signed, opens, _ = objects[kind]
    header, payload, trailer = signed.envelope
    protected = un64(header["protected"])
    assert opens([header | {"protected": b64(protected)}, payload, trailer]) == signed
    for where, changed in one_by_one(protected):
        refused(
            opens,
            [header | {"protected": b64(changed)}, payload, trailer],
            f"protected.{where}",
            FormatError,
            VerificationError,
        )
    for where, changed in one_by_one(header):
        refused(
            opens, [changed, payload, trailer], f"header.{where}", FormatError, VerificationError
        )
    signature = trailer["signatures"][0]
    for where, changed in one_by_one(signature):
        refused(
            opens,
            [header, payload, {"signatures": [changed]}],
            f"signature.{where}",
            FormatError,
            VerificationError,
        )
    for changed in ({}, {"signatures": []}, {"signatures": [signature, signature]}):
        with pytest.raises((FormatError, VerificationError)):
            opens([header, payload, changed])


@pytest.mark.parametrize("kind", KINDS)
def test_metadata_that_does_not_fit_the_payload(objects: Objects, kind: str) -> None:
    """Signed by the right key: type and identifier of the envelope must be those inside."""
    signed, opens, signer = objects[kind]
    payload = dare.peek_payload(signed.envelope)
    good = {"cty": CONTENT_TYPE, "message_type": kind}
    envelope_id = signed.value.envelope_id

    def seal(envelope_id: str = envelope_id, **meta: Any) -> Any:
        return dare.seal(
            payload, signers=[signer], meta=ContentMeta(**meta), envelope_id=envelope_id
        )

    assert opens(seal(**good)).value == signed.value
    with pytest.raises(VerificationError, match="EnvelopeId"):
        opens(seal("MAAA-AAAA", **good))
    for wrong in (
        good | {"message_type": "ProfileAccount"},
        good | {"cty": "text/plain"},
        {"cty": CONTENT_TYPE},
    ):
        with pytest.raises(VerificationError, match="does not say"):
            opens(seal(**wrong))


@pytest.mark.parametrize("kind", KINDS)
def test_one_object_is_not_taken_for_another(objects: Objects, kind: str) -> None:
    _, opens, _ = objects[kind]
    for other in KINDS:
        if other != kind:
            with pytest.raises((FormatError, VerificationError)):
                opens(objects[other][0].envelope)


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_required_signer_is_refused(
    objects: Objects, kind: str, other_device: Any
) -> None:
    signed, opens, signer = objects[kind]
    envelope = dare.seal(
        dare.peek_payload(signed.envelope),
        signers=[signer, other_device.keys.profile],
        meta=ContentMeta(cty=CONTENT_TYPE, message_type=kind),
        envelope_id=signed.value.envelope_id,
    )
    with pytest.raises(VerificationError, match="not signed by whom"):
        opens(envelope)


def test_two_administrators_do_not_sign_one_connection(
    mesh: Any, device: Any, make_signer: Any
) -> None:
    second = make_signer("second")
    master = mesh.next_version(administrators=[mesh.administrator.public, second.public])
    signed = mesh.connect(device, master=master).connection
    envelope = dare.seal(
        dare.peek_payload(signed.envelope),
        signers=[mesh.administrator, second],
        meta=ContentMeta(cty=CONTENT_TYPE, message_type="ConnectionDevice"),
        envelope_id=signed.value.envelope_id,
    )
    with pytest.raises(VerificationError, match="not signed by whom"):
        open_connection(envelope, master.value)


def test_every_member_of_the_sealed_activation(mesh: Any, device: Any, connected: Any) -> None:
    both = DoubleDecryptor(plain_decryptor(device.keys.encryption), device.once)

    def opens(envelope: Any) -> Any:
        administrator = mesh.administrator.public
        return open_object(envelope, ActivationDevice, [administrator], keys=[both])

    header, payload, trailer = connected.response.value.activation
    protected, octets = un64(header["protected"]), un_b64url(payload, "payload")
    signature = trailer["signatures"][0]
    assert opens([header, payload, trailer]).value.connection_digest == connected.connection.digest
    cases = {
        "ciphertext": [header, b64url(bytes([octets[0] ^ 1]) + octets[1:]), trailer],
        "tag": [header, b64url(octets[:-1] + bytes([octets[-1] ^ 1])), trailer],
        "payload truncated": [header, b64url(octets[:-1]), trailer],
        "trailer": [header, payload, {}],
        **{
            f"protected.{where}": [header | {"protected": b64(changed)}, payload, trailer]
            for where, changed in one_by_one(protected)
        },
        **{f"header.{where}": [changed, payload, trailer] for where, changed in one_by_one(header)},
        **{
            f"signature.{where}": [header, payload, {"signatures": [changed]}]
            for where, changed in one_by_one(signature)
        },
    }
    for where, envelope in cases.items():
        refused(opens, envelope, where, FormatError, VerificationError, DecryptionError)
