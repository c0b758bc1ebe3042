"""The device's side: ``device activate`` (hsm-1 §6.3-4).

Open this file to see in which order a device checks what it was sent. It signs nothing, and tells
nobody anything, before all of it has passed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from mesh_hsm import dare
from mesh_hsm.dare import Decryptor, DoubleDecryptor
from mesh_hsm.errors import VerificationError
from mesh_hsm.mesh.accepting import check_bound, check_proof
from mesh_hsm.mesh.activation import ActivationDevice
from mesh_hsm.mesh.connecting import open_response
from mesh_hsm.mesh.connection import ConnectionDevice, open_connection
from mesh_hsm.mesh.device_keys import BaseKeys, open_device, plain_decryptor
from mesh_hsm.mesh.keydata import confirm
from mesh_hsm.mesh.pins import Pins, open_pins
from mesh_hsm.mesh.profile_device import ProfileDevice
from mesh_hsm.mesh.profile_master import ProfileMaster
from mesh_hsm.mesh.request import open_request
from mesh_hsm.mesh.signed import Envelope, Signed, open_object, sign_object
from mesh_hsm.mesh.witness import witness
from mesh_hsm.provider import Use


@dataclass(frozen=True, slots=True)
class Activated:
    """``connection`` is countersigned; ``seed`` (34 octets) is to be kept sealed; ``pins`` filed.

    After all three are safe the one-time key must be erased.
    """

    connection: Signed[ConnectionDevice]
    master: Signed[ProfileMaster]
    pins: Signed[Pins]
    witness: str
    seed: bytes = field(repr=False)


def activate(
    response: Envelope | bytes,
    *,
    request: Envelope | bytes,
    keys: BaseKeys,
    once: Decryptor,
    confirm_master_udf: str | None,
    pins: Envelope | bytes | None,
    srk_name: str,
    now: datetime,
    counter: int = 0,
) -> Activated:
    """Join a Mesh: check everything the administrator sent, then countersign.

    ``request`` is the device's own copy. ``confirm_master_udf``: the Mesh's UDF as a person typed
    or scanned it; it may be None only where ``pins`` already name the Mesh. ``srk_name``: what
    identifies the token's root (empty where there is none), to be pinned; ``counter``: see
    ``Pins``. Raises ``VerificationError``, ``DecryptionError`` (one-time key gone, or another
    device).
    """
    asked = open_request(request)
    device = asked.value.device
    if device.value != keys.publics():
        raise VerificationError("the request was not made with this device's keys")
    answer = open_response(response)
    master = answer.value.master
    _check_authority(master, device, keys, confirm_master_udf, pins, srk_name)

    connection = answer.value.connection
    check_bound(connection.value, master, device, now)
    if connection.value.profile_master_version != master.value.version:
        raise VerificationError("the connection and its ProfileMaster are of different versions")
    if connection.value.custody_digest != asked.value.custody_digest:
        raise VerificationError("the administrator was shown other custody statements than ours")

    activation = open_object(
        answer.value.activation,
        ActivationDevice,
        [connection.signer],
        keys=[DoubleDecryptor(plain_decryptor(keys.encryption), once)],
    ).value
    if activation.request_digest != asked.digest:
        raise VerificationError(
            "the activation answers another request", hint="ask the administrator to connect again"
        )
    if (activation.connection_digest, activation.authority_udf, activation.subject_udf) != (
        connection.digest,
        connection.value.authority_udf,
        connection.value.subject_udf,
    ):
        raise VerificationError("the activation belongs to another connection")
    open_device(connection.value, activation.seed, keys)
    if not all(check_proof(connection.value, device, use) for use in Use):
        raise VerificationError("the connection lacks a proof of contribution")

    countersigned = dare.countersign(connection.envelope, keys.profile)
    record = Pins(
        device_udf=device.value.udf,
        master_udf=master.value.udf,
        master_version=master.value.version,
        srk_name=srk_name,
        profile_master_digest=master.digest,
        profile_device_digest=device.digest,
        counter=counter,
    )
    return Activated(
        connection=open_connection(
            countersigned, master.value, countersigner=device.value.profile_signature
        ),
        master=master,
        pins=sign_object(record, keys.profile, now),
        witness=witness(asked.digest, connection.digest),
        seed=activation.seed,
    )


def _check_authority(
    master: Signed[ProfileMaster],
    device: Signed[ProfileDevice],
    keys: BaseKeys,
    confirm_master_udf: str | None,
    pins: Envelope | bytes | None,
    srk_name: str,
) -> None:
    """Pinned or confirmed by a person, or both; never by the response alone."""
    if confirm_master_udf is None and pins is None:
        raise VerificationError(
            "nobody has confirmed which Mesh this device is to join",
            hint="give the UDF that the administrator's screen shows with --confirm-udf",
        )
    if pins is not None:
        pinned = open_pins(pins, keys.profile.public).value
        pinned.check_device(device, srk_name)
        pinned.check_master(master)
    if confirm_master_udf is not None:
        confirm(confirm_master_udf, master.value.profile_signature)
