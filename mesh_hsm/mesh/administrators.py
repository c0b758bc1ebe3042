"""Administrators come and go: each change is the next version of ProfileMaster (hsm-1 §7).

Open this file for what the master key signs then, and which connections outlive who signed them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime

from mesh_hsm.curves import Point
from mesh_hsm.dare import Signer
from mesh_hsm.errors import ConflictError, NotFoundError, VerificationError
from mesh_hsm.mesh.connection import ConnectionDevice
from mesh_hsm.mesh.profile_master import ProfileMaster, create_profile_master
from mesh_hsm.mesh.signed import Signed


def add_administrator(
    previous: Signed[ProfileMaster], public: Point, master: Signer, *, now: datetime
) -> Signed[ProfileMaster]:
    """The next version, with one administrator more. Everything else stays.

    One who was removed must not come back: every connection that he ever signed, backdated ones
    included, would count again. No version lists who was removed: the caller remembers. Raises
    ``ConflictError`` for one who is listed, ``VerificationError`` for another master key,
    ``FormatError`` for a key in two roles or one too many.
    """
    listed = previous.value.administrator_signature
    if public in listed:
        raise ConflictError("this key is an administrator of the Mesh already")
    return create_profile_master(
        master,
        [*listed, public],
        previous.value.escrow_encryption,
        now=now,
        previous=previous,
        surviving_connections=previous.value.surviving_connections,
    )


def remove_administrator(
    previous: Signed[ProfileMaster],
    public: Point,
    master: Signer,
    *,
    surviving: Iterable[Signed[ConnectionDevice]],
    dropped: Collection[bytes] = (),
    now: datetime,
) -> Signed[ProfileMaster]:
    """The next version without an administrator. Of his connections only ``surviving`` count then.

    Survivors of earlier removals stay listed, but those whose digests are ``dropped``. Raises
    ``NotFoundError`` for no administrator, ``ConflictError`` for the last one,
    ``VerificationError`` for another master key, or for a survivor that he did not sign.
    """
    listed = previous.value.administrator_signature
    if public not in listed:
        raise NotFoundError("this key is no administrator of the Mesh")
    if len(listed) == 1:
        raise ConflictError(
            "the last administrator cannot be removed: nobody could connect a device any more",
            hint="mesh-hsm admin add --token TOKEN, then remove this one",
        )
    kept = [one for one in previous.value.surviving_connections if one not in dropped]
    for connection in surviving:
        if connection.signer != public:
            raise VerificationError("a survivor was signed by another administrator")
        kept.append(connection.digest)
    return create_profile_master(
        master,
        [one for one in listed if one != public],
        previous.value.escrow_encryption,
        now=now,
        previous=previous,
        surviving_connections=list(dict.fromkeys(kept)),
    )
