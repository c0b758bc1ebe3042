"""The administrators of the Mesh administered here: which is meant, and whose key is at hand.

Open this file to see how an administrator is found without asking anybody for a PIN.
"""

from __future__ import annotations

from dataclasses import dataclass

from mesh_hsm.curves import Point
from mesh_hsm.custody import CustodyStatement, Hardware
from mesh_hsm.errors import MeshHsmError, NotFoundError
from mesh_hsm.mesh import ProfileMaster, Signed
from mesh_hsm.provider import TokenInfo
from mesh_hsm.secret_source import NoSecrets
from mesh_hsm.udf import udf_of
from mesh_hsm.uri import Uri
from mesh_hsm_cli.records import Administrator, MeshRecord
from mesh_hsm_cli.session import Session


@dataclass(frozen=True, slots=True)
class AtHand:
    """An administrator whose token is plugged in and has the key."""

    administrator: Administrator
    info: TokenInfo
    custody: CustodyStatement


def public_of(master: Signed[ProfileMaster], administrator: Administrator) -> Point:
    """The public key of a listed administrator. Raises ``NotFoundError``."""
    for public in master.value.administrator_signature:
        if udf_of(public) == administrator.udf:
            return public
    raise NotFoundError(f"the ProfileMaster does not list {administrator.label}")


def find_administrator(record: MeshRecord, name: str) -> Administrator:
    """The one that a label, or else the beginning of a UDF, names. Raises ``NotFoundError``."""
    called = [one for one in record.administrators if one.label == name]
    begins = [one for one in record.administrators if _begins(one.udf, name)]
    found = called or begins
    if len(found) != 1:
        what = f"fits {len(found)} administrators" if found else "is no administrator"
        raise NotFoundError(f"{name} {what} of {record.name}", hint="mesh-hsm admin list")
    return found[0]


def at_hand(session: Session, administrator: Administrator) -> AtHand | MeshHsmError:
    """Look for its key without a PIN. What keeps it away is returned, not raised."""
    uri = Uri.parse(administrator.uri)
    try:
        with session.open(uri, NoSecrets()) as token:
            key = token.key(uri)
            if udf_of(key.public) != administrator.udf:
                return NotFoundError(f"{administrator.uri} is another key", uri=administrator.uri)
            return AtHand(administrator, token.info, key.custody())
    except MeshHsmError as error:
        return error


def choose_administrator(session: Session, record: MeshRecord, named: str | None) -> AtHand:
    """The one that was named, else the first by label that is plugged in, devices before files.

    Raises ``NotFoundError`` if none is, and what keeps the named one away.
    """
    if named is not None:
        found = at_hand(session, find_administrator(record, named))
        if isinstance(found, MeshHsmError):
            raise found
        return found
    looked = [at_hand(session, one) for one in record.administrators]
    present = [one for one in looked if isinstance(one, AtHand)]
    if not present:
        labels = ", ".join(sorted(one.label for one in record.administrators))
        raise NotFoundError(
            f"no administrator's device is plugged in: {next(iter(looked))}",
            hint=f"plug in that of {labels}; mesh-hsm admin list shows where their keys are",
        )
    return min(
        present, key=lambda one: (one.info.hardware is Hardware.NONE, one.administrator.label)
    )


def _begins(udf: str, name: str) -> bool:
    typed = "".join(name.split()).replace("-", "").upper()
    return bool(typed) and udf.replace("-", "").startswith(typed)
