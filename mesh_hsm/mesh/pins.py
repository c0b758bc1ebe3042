"""What a device has seen and will not unlearn: one record signed by its profile key.

Open this file for hsm-1 §6.4. No part of the record can be changed alone. Replacing all of it, or
restoring an older one, shows only by the device's UDF on the screen, or by an NV counter that the
caller compares with ``counter``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha512
from typing import ClassVar, Self

from mesh_hsm.curves import Point
from mesh_hsm.dare.strict_json import b64url
from mesh_hsm.errors import VerificationError
from mesh_hsm.mesh.profile_device import ProfileDevice
from mesh_hsm.mesh.profile_master import ProfileMaster
from mesh_hsm.mesh.seen import Seen
from mesh_hsm.mesh.signed import Envelope, Signed, open_object
from mesh_hsm.mesh.wire import Json, Members


@dataclass(frozen=True, slots=True)
class Pins:
    """``srk_name`` is opaque text from the provider, empty where there is none.

    ``counter``: the value of the device's NV counter when this was written, 0 where it has none.
    """

    TAG: ClassVar[str] = "DevicePins"

    device_udf: str
    master_udf: str
    master_version: int
    srk_name: str
    profile_master_digest: bytes
    profile_device_digest: bytes
    counter: int = 0

    @property
    def envelope_id(self) -> str:
        """The device's UDF."""
        return self.device_udf

    def members(self) -> dict[str, Json]:
        """All members."""
        return {
            "DeviceUdf": self.device_udf,
            "MasterUdf": self.master_udf,
            "MasterVersion": self.master_version,
            "SrkName": self.srk_name,
            "ProfileMasterDigest": b64url(self.profile_master_digest),
            "ProfileDeviceDigest": b64url(self.profile_device_digest),
            "Counter": self.counter,
        }

    @classmethod
    def read(cls, members: Members) -> Self:
        """From the wire."""
        size = sha512().digest_size
        return cls(
            device_udf=members.text("DeviceUdf"),
            master_udf=members.text("MasterUdf"),
            master_version=members.number("MasterVersion", least=1),
            srk_name=members.text("SrkName", empty=True),
            profile_master_digest=members.octets("ProfileMasterDigest", size),
            profile_device_digest=members.octets("ProfileDeviceDigest", size),
            counter=members.number("Counter"),
        )

    def check_device(self, device: Signed[ProfileDevice], srk_name: str) -> None:
        """Refuse another device, another ProfileDevice, or another token root."""
        if (self.device_udf, self.profile_device_digest) != (device.value.udf, device.digest):
            raise VerificationError("the pins are those of another device")
        if self.srk_name != srk_name:
            raise VerificationError(
                "the token's storage root key is not the pinned one",
                hint="the TPM was cleared or exchanged; its keys are gone: set up the device anew",
            )

    @property
    def seen(self) -> Seen:
        """The ProfileMaster that is pinned."""
        return Seen(self.master_udf, self.master_version, self.profile_master_digest)

    def check_master(self, master: Signed[ProfileMaster]) -> None:
        """Refuse another Mesh, and whatever ``Seen.check`` refuses."""
        if master.value.udf != self.master_udf:
            raise VerificationError(
                f"this device belongs to the Mesh {self.master_udf}, not to {master.value.udf}"
            )
        self.seen.check(master)

    def advanced(self, master: Signed[ProfileMaster]) -> Pins:
        """These pins with the version that takes the pinned one's place. Raises as above."""
        self.check_master(master)
        return replace(
            self, master_version=master.value.version, profile_master_digest=master.digest
        )


def open_pins(envelope: Envelope | bytes, profile: Point) -> Signed[Pins]:
    """Read the record, which must be signed by this device's profile key."""
    return open_object(envelope, Pins, [profile])
