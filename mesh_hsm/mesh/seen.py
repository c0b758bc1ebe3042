"""The newest ProfileMaster that a verifier has seen, and will not unlearn (hsm-1 §7).

Open this file to see which version may follow which. A device keeps this in its ``Pins``; anybody
else keeps it somewhere, and replaces it by a higher one only.
"""

from __future__ import annotations

from dataclasses import dataclass

from mesh_hsm.errors import VerificationError
from mesh_hsm.mesh.profile_master import ProfileMaster
from mesh_hsm.mesh.signed import Signed


@dataclass(frozen=True, slots=True)
class Seen:
    """``version`` of the Mesh ``udf``, whose payload has the SHA-512 ``digest``."""

    udf: str
    version: int
    digest: bytes

    @classmethod
    def of(cls, master: Signed[ProfileMaster]) -> Seen:
        """What there is to remember of a version."""
        return cls(master.value.udf, master.value.version, master.digest)

    def check(self, master: Signed[ProfileMaster]) -> None:
        """Refuse another Mesh, an older version, a second form of the same version, or the next
        version of another form: with a gap between, nothing shows. Raises ``VerificationError``.
        """
        if master.value.udf != self.udf:
            raise VerificationError(
                f"this is the Mesh {master.value.udf}, where {self.udf} was expected"
            )
        if master.value.version < self.version:
            raise VerificationError(
                f"ProfileMaster version {master.value.version} is older than version "
                f"{self.version}, which has been seen here",
                hint="ask the administrator for the newest ProfileMaster",
            )
        seen_again = {
            self.version: master.digest,
            self.version + 1: master.value.previous_digest,
        }.get(master.value.version, self.digest)
        if seen_again != self.digest:
            raise VerificationError(
                f"there are two ProfileMasters of version {self.version}",
                hint="the master key was misused or copied: tell the owner of this Mesh",
            )
