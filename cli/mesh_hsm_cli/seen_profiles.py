"""The newest ProfileMaster of each Mesh that this machine has seen: it only ever moves forward.

Open this file to see why an old ProfileMaster is refused even where no device has pinned a newer
one, as on an administrator's machine whose records were restored from a copy (hsm-1 §7).
"""

from __future__ import annotations

from mesh_hsm.errors import MeshHsmError, VerificationError
from mesh_hsm.mesh import ProfileMaster, Seen, Signed, open_profile_master
from mesh_hsm_cli.records import SeenProfile, seen_path
from mesh_hsm_cli.session import Session
from mesh_hsm_cli.state import State


def seen(state: State, udf: str) -> Signed[ProfileMaster] | None:
    """The newest version of a Mesh that was seen here. What is kept is verified as if new."""
    record = SeenProfile.load(seen_path(state, udf))
    if record is None:
        return None
    profile = open_profile_master(record.profile)
    if not record.udf == profile.value.udf == udf:
        raise VerificationError("the newest ProfileMaster that was seen is of another Mesh")
    return profile


def newest(state: State, master: Signed[ProfileMaster]) -> Signed[ProfileMaster]:
    """``master``, or the later version that was seen. Raises ``VerificationError`` for a fork."""
    known = seen(state, master.value.udf)
    if known is None:
        return master
    older, newer = sorted((known, master), key=lambda one: one.value.version)
    Seen.of(older).check(newer)
    return newer


def refuse_older(state: State, master: Signed[ProfileMaster]) -> None:
    """Raise ``VerificationError`` unless ``master`` may follow what was seen here."""
    known = seen(state, master.value.udf)
    if known is not None:
        Seen.of(known).check(master)


def keep_seen(session: Session, master: Signed[ProfileMaster]) -> None:
    """Remember a version that was filed, unless a later one is known. Hold the lock.

    What was filed stands even if this fails, so that is only said.
    """
    try:
        if newest(session.state, master) is master:
            path = seen_path(session.state, master.value.udf)
            SeenProfile(master.value.udf, master.envelope).save(path)
    except MeshHsmError as error:
        session.output.notice(f"version {master.value.version} is filed, but: {error}", loud=True)
