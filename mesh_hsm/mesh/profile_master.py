"""ProfileMaster: the root of a personal Mesh (schema §2-§3, hsm-1 §7).

Open this file for what the master key signs: administrators, escrow keys, version.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from mesh_hsm.curves import Point
from mesh_hsm.dare import Signer
from mesh_hsm.mesh.signed import Envelope, Signed


@dataclass(frozen=True, slots=True)
class ProfileMaster:
    """``udf`` (of the master key) names the Mesh for life.

    ``version`` counts from 1; ``previous_digest`` is that of the version before (empty for 1).
    ``surviving_connections`` are digests of connections that outlive their removed administrator.
    """

    profile_signature: Point
    administrator_signature: tuple[Point, ...]
    escrow_encryption: tuple[Point, ...]
    version: int = 1
    previous_digest: bytes = b""
    surviving_connections: tuple[bytes, ...] = ()

    @property
    def udf(self) -> str:
        """The identifier of the Mesh."""
        raise NotImplementedError


def create_profile_master(
    master: Signer,
    administrators: Sequence[Point],
    escrow: Sequence[Point],
    *,
    now: datetime,
    previous: Signed[ProfileMaster] | None = None,
    surviving_connections: Sequence[bytes] = (),
) -> Signed[ProfileMaster]:
    """Sign version 1, or the version after ``previous``, with the master key."""
    raise NotImplementedError


def open_profile_master(envelope: Envelope | bytes) -> Signed[ProfileMaster]:
    """Verify a ProfileMaster's own signature.

    That makes it consistent, not trusted: compare its ``udf`` with a confirmed or pinned one.
    """
    raise NotImplementedError
