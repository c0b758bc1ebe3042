"""The administrator's side: ``device connect`` (hsm-1 §6.2-3).

Open this file to see what an administrator vouches for, and what goes back to the device.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar, Final, Self

from mesh_hsm import udf
from mesh_hsm.dare import DoubleRecipient, Signer
from mesh_hsm.errors import FormatError, VerificationError
from mesh_hsm.mesh.activation import ActivationDevice
from mesh_hsm.mesh.connection import CombinedKey, ConnectionDevice, open_connection
from mesh_hsm.mesh.contribution import combine_public, contribution, draw_seed
from mesh_hsm.mesh.keydata import confirm
from mesh_hsm.mesh.profile_master import ProfileMaster, open_profile_master
from mesh_hsm.mesh.request import ConnectionRequest, open_request
from mesh_hsm.mesh.signed import Envelope, Signed, open_claimed, seal_object, sign_object
from mesh_hsm.mesh.wire import Json, Members
from mesh_hsm.mesh.witness import witness
from mesh_hsm.provider import Use
from mesh_hsm.threshold.proof import prove

YEAR: Final = timedelta(days=365)
SIGNATURES_PER_DEVICE: Final = 3
"""What the administrator's key signs in ``connect``: connection, activation, response."""


@dataclass(frozen=True, slots=True)
class ConnectionResponse:
    """What goes back to the device. The activation is encrypted to it."""

    TAG: ClassVar[str] = "ConnectionResponse"

    master: Signed[ProfileMaster]
    connection: Signed[ConnectionDevice]
    activation: Envelope

    @property
    def envelope_id(self) -> str:
        """The device's UDF."""
        return self.connection.value.subject_udf

    def members(self) -> dict[str, Json]:
        """Three envelopes."""
        return {
            "EnvelopedProfileMaster": self.master.envelope,
            "EnvelopedConnectionDevice": self.connection.envelope,
            "EnvelopedActivationDevice": self.activation,
        }

    @classmethod
    def read(cls, members: Members) -> Self:
        """From the wire, the ProfileMaster and the connection under it verified."""
        master = open_profile_master(members.array("EnvelopedProfileMaster"))
        connection = members.array("EnvelopedConnectionDevice")
        return cls(
            master=master,
            connection=open_connection(connection, master.value),
            activation=members.array("EnvelopedActivationDevice"),
        )


@dataclass(frozen=True, slots=True)
class Connected:
    """``response`` goes to the device, the rest is filed; ``witness`` is shown on both sides."""

    response: Signed[ConnectionResponse]
    request: Signed[ConnectionRequest]
    connection: Signed[ConnectionDevice]
    witness: str


def connect(
    request: Envelope | bytes,
    *,
    confirm_udf: str,
    master: Signed[ProfileMaster],
    administrator: Signer,
    now: datetime,
    valid_for: timedelta = YEAR,
    seed: bytes | None = None,
) -> Connected:
    """Vouch for a device. ``confirm_udf``: its UDF as a person typed or scanned it.

    ``seed`` (34 octets, see ``ActivationDevice``) is drawn unless given. Raises
    ``VerificationError`` if the UDF, the request or the administrator does not fit.
    """
    asked = open_request(request)
    device = asked.value.device
    confirm(confirm_udf, device.value.profile_signature)
    if administrator.public not in master.value.administrator_signature:
        raise VerificationError("this key is not an administrator of the Mesh")
    if valid_for < timedelta(seconds=1):
        raise FormatError("a connection is valid for some time")
    seed = draw_seed() if seed is None else seed

    def combined(use: Use) -> CombinedKey:
        X = device.value.base(use)
        y = contribution(seed, use, X.curve)
        Z = combine_public(X, y, use)
        return CombinedKey(Z, prove(y, X, Z, use, device.digest, master.value.udf))

    created = now.replace(microsecond=0)
    connection = ConnectionDevice(
        authority_udf=master.value.udf,
        subject_udf=device.value.udf,
        serial=udf.nonce(),
        profile_master_version=master.value.version,
        profile_device_digest=device.digest,
        custody_digest=asked.value.custody_digest,
        created=created,
        not_on_or_after=created + valid_for,
        encryption=combined(Use.ENCRYPT),
        signature=combined(Use.SIGN),
        authentication=combined(Use.AUTHENTICATE),
    )
    signed = sign_object(connection, administrator, now)
    activation = ActivationDevice(
        seed=seed,
        authority_udf=master.value.udf,
        subject_udf=device.value.udf,
        request_digest=asked.digest,
        connection_digest=signed.digest,
    )
    both = DoubleRecipient(device.value.encryption, asked.value.one_time)
    sealed = seal_object(activation, administrator, now, recipients=[both])
    response = sign_object(ConnectionResponse(master, signed, sealed), administrator, now)
    return Connected(response, asked, signed, witness(asked.digest, signed.digest))


def open_response(envelope: Envelope | bytes) -> Signed[ConnectionResponse]:
    """Verify a response in itself: consistent, not yet trusted.

    ``value.master.value.udf`` is what a person has to confirm before ``activate``.
    """
    return open_claimed(
        envelope, ConnectionResponse, lambda claimed: claimed.master.value.administrator_signature
    )
