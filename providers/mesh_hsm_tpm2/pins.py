"""Changing a key's PIN. Open this file for what a change can and cannot do.

TPM2_ObjectChangeAuth makes a new blob; every copy of the old one still works with the old PIN
(hsm-1 §10). A persistent key has no copy: its old place is emptied once the new one is filled.
"""

from __future__ import annotations

from contextlib import ExitStack

from tpm2_pytss import ESAPI, ESYS_TR

from mesh_hsm.custody import PinPolicy
from mesh_hsm.errors import UnsupportedError
from mesh_hsm_tpm2 import creating, sessions
from mesh_hsm_tpm2.authorisation import Authoriser
from mesh_hsm_tpm2.records import Record
from mesh_hsm_tpm2.tpm import Tpm


def change(tpm: Tpm, authoriser: Authoriser, record: Record, uri: str) -> None:
    """Ask for the old PIN, then the new one; write the new blob over the old, whole or not."""
    if record.pin is PinPolicy.NONE:
        raise UnsupportedError(f"the key {record.label} was made without a PIN", uri=uri)
    old = authoriser.pin(record, uri)
    new = authoriser.new_pin(record.label)

    def change_auth(esapi: ESAPI, key: ESYS_TR, session: ESYS_TR) -> bytes:
        changed = esapi.object_change_auth(key, tpm.root(esapi), new.octets, session1=session)
        return bytes(changed.buffer)

    private = authoriser.administer(record, old, change_auth, sessions.BOTH_WAYS, uri)
    if record.persistent is None:
        tpm.records.save_key_file(record.label, creating.key_file(tpm, record, private))
    else:
        moved = record.at(creating.make_persistent(tpm, private, bytes.fromhex(record.public)))
        with ExitStack() as undo:
            undo.callback(creating.evict, tpm, moved)
            tpm.records.save(moved)
            undo.pop_all()
        creating.evict(tpm, record)
    tpm.unload(record.label)
    authoriser.remember(record, new)
