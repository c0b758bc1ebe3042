"""What anybody in the personal Mesh checks of a connection: ``device accept``, and ever after.

Open this file to see what a connection is bound to, and when its composite keys count as proved
(hsm-1 §5). Neither a proof nor a countersignature alone is enough.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from mesh_hsm.errors import CannotVerifyError, VerificationError
from mesh_hsm.mesh.connection import ConnectionDevice, open_connection, open_own_connection
from mesh_hsm.mesh.profile_device import ProfileDevice
from mesh_hsm.mesh.profile_master import ProfileMaster
from mesh_hsm.mesh.signed import Envelope, Signed
from mesh_hsm.mesh.wire import to_time
from mesh_hsm.provider import Use
from mesh_hsm.threshold.proof import verify_proof
from mesh_hsm.udf import udf_of


class Composite(StrEnum):
    """Whether the composite keys are known to contain the device's own (hsm-1 §5)."""

    PROVED = "proved"
    CLAIMED = "claimed, not proved"


@dataclass(frozen=True, slots=True)
class VerifiedConnection:
    """A valid connection, and what it proves.

    ``voucher_udf`` is that of its administrator, or of the Mesh where the master key answers for
    a connection whose administrator was removed.
    """

    connection: Signed[ConnectionDevice]
    composite: Composite
    voucher_udf: str


def verify_connection(
    envelope: Envelope | bytes,
    *,
    master: Signed[ProfileMaster],
    device: Signed[ProfileDevice],
    now: datetime,
) -> VerifiedConnection:
    """Verify a connection under a trusted ProfileMaster, for a given device.

    A missing proof or countersignature gives ``Composite.CLAIMED``; one that is wrong raises
    ``VerificationError``. ``CannotVerifyError``: the connection needs a newer ProfileMaster.
    """
    profile = device.value.profile_signature
    connection = open_connection(envelope, master.value, countersigner=profile)
    check_bound(connection.value, master, device, now)
    return _judged(connection, device)


def verify_own_connection(
    envelope: Envelope | bytes, *, device: Signed[ProfileDevice]
) -> VerifiedConnection:
    """A device's own connection for which nobody answers any more, by its countersignature.

    Good for opening what was encrypted to the device, and for nothing else.
    """
    connection = open_own_connection(envelope, device.value.profile_signature)
    return _judged(connection, device)


def _judged(
    connection: Signed[ConnectionDevice], device: Signed[ProfileDevice]
) -> VerifiedConnection:
    proofs = [check_proof(connection.value, device, use) for use in Use]
    proved = all(proofs) and connection.countersigners == (device.value.profile_signature,)
    return VerifiedConnection(
        connection,
        Composite.PROVED if proved else Composite.CLAIMED,
        udf_of(connection.signer),
    )


def accept(
    envelope: Envelope | bytes,
    *,
    issued: Signed[ConnectionDevice],
    master: Signed[ProfileMaster],
    device: Signed[ProfileDevice],
    now: datetime,
) -> VerifiedConnection:
    """Verify what the device sent back, against what was issued to it, before filing it.

    Raises as ``verify_connection``, and ``VerificationError`` for another connection than the one
    issued, or one that the device has not countersigned: it may never have activated it.
    """
    verified = verify_connection(envelope, master=master, device=device, now=now)
    if verified.connection.digest != issued.digest:
        raise VerificationError(
            "this is not the connection that was issued to the device",
            hint="connect the device again and compare the witness on both screens",
        )
    if verified.composite is not Composite.PROVED:
        raise VerificationError(
            "the device has not countersigned this connection",
            hint="file the connection that device activate wrote there",
        )
    return verified


def check_bound(
    connection: ConnectionDevice,
    master: Signed[ProfileMaster],
    device: Signed[ProfileDevice],
    now: datetime,
) -> None:
    """Refuse a connection of another Mesh or device, or one out of its time (hsm-1 §7)."""
    if connection.authority_udf != master.value.udf:
        raise VerificationError(f"the connection belongs to the Mesh {connection.authority_udf}")
    if connection.subject_udf != device.value.udf:
        raise VerificationError(f"the connection is that of the device {connection.subject_udf}")
    if connection.profile_device_digest != device.digest:
        raise VerificationError("the connection was made for another ProfileDevice of this device")
    if connection.profile_master_version > master.value.version:
        raise CannotVerifyError(
            f"the connection needs ProfileMaster version {connection.profile_master_version}",
            hint="get the newest ProfileMaster",
        )
    if now >= connection.not_on_or_after:
        raise VerificationError(
            f"the connection expired at {to_time(connection.not_on_or_after)}",
            hint="connect the device again",
        )


def check_proof(connection: ConnectionDevice, device: Signed[ProfileDevice], use: Use) -> bool:
    """True if the proof of contribution holds, False if there is none. A wrong one raises."""
    combined = connection.combined(use)
    if combined.proof is None:
        return False
    verify_proof(
        combined.proof,
        device.value.base(use),
        combined.public,
        use,
        device.digest,
        connection.authority_udf,
    )
    return True
