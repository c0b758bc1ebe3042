"""The master key at work: whatever makes the next version of ProfileMaster comes through here.

Open this file to see how a new version is signed and filed, and which PIN opens the master key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from mesh_hsm.dare import Signer
from mesh_hsm.errors import VerificationError
from mesh_hsm.mesh import ProfileMaster, Signed
from mesh_hsm.provider import ChangesPin, DeviceKey, Token, TokenInfo
from mesh_hsm.secret_source import SecretSource
from mesh_hsm.uri import Uri
from mesh_hsm_cli.records import MeshRecord, mesh_path
from mesh_hsm_cli.rollback import Rollback
from mesh_hsm_cli.session import Session

NextVersion = Callable[[Signer], Signed[ProfileMaster]]


def sign_next(
    session: Session,
    record: MeshRecord,
    master: Signed[ProfileMaster],
    make: NextVersion,
    beside: Token | None = None,
) -> Signed[ProfileMaster]:
    """The version that ``make`` gives. ``beside``: a token that this command has open already."""
    with master_key(session, record, beside) as key:
        if key.public != master.value.profile_signature:
            raise VerificationError(f"{record.master} is not the master key of {record.name}")
        return make(key)


@contextmanager
def master_key(
    session: Session, record: MeshRecord, beside: Token | None = None
) -> Iterator[DeviceKey]:
    """The master key, its device asked for a PIN of its own."""
    uri = Uri.parse(record.master)
    with session.open(uri, _secrets(session, uri, beside)) as token:
        yield token.key(uri)


def is_on(uri: Uri, info: TokenInfo) -> bool:
    """True if a key's URI, as it was recorded, is one of this token."""
    return uri.scheme == info.uri.scheme and set(info.uri.attributes) <= set(uri.attributes)


def replace_record(session: Session, undo: Rollback, before: MeshRecord, after: MeshRecord) -> None:
    """File a changed record; ``undo`` puts the one before back."""
    path = mesh_path(session.state)
    undo.on_failure(f"restore {path}", partial(before.save, path))
    after.save(path)


def _secrets(session: Session, uri: Uri, beside: Token | None) -> SecretSource:
    """Where one PIN opens the whole of a token, it is that of the token which is open already."""
    if isinstance(beside, ChangesPin) and beside.pin_is_shared and is_on(uri, beside.info):
        return session.secrets
    return session.secrets.apart("master-pin")
