"""The TPM's handles: what is loaded in its few slots. Open this file when a TPM is full."""

from __future__ import annotations

from collections.abc import Set

from tpm2_pytss import ESAPI, ESYS_TR, TPM2_CAP

from mesh_hsm_tpm2 import sessions

_TRANSIENT, _PERSISTENT, _SESSIONS = 0x80000000, 0x81, (0x02000000, 0x03000000)


def number(esapi: ESAPI, handle: ESYS_TR) -> int:
    """The TPM's own number of a handle."""
    return int(esapi.tr_get_tpm_handle(handle))


def is_persistent(esapi: ESAPI, handle: ESYS_TR) -> bool:
    """Whether a handle names a place in the TPM's memory, and not a slot."""
    return number(esapi, handle) >> 24 == _PERSISTENT


def release(esapi: ESAPI, handle: ESYS_TR) -> None:
    """Flush a session or transient object; let go of a persistent one, which stays."""
    if is_persistent(esapi, handle):
        esapi.tr_close(handle)
    else:
        sessions.flush(esapi, handle)


def listed(esapi: ESAPI, first: int) -> list[int]:
    """The TPM's handles of one kind, from ``first`` on."""
    _, answer = esapi.get_capability(TPM2_CAP.HANDLES, first, 254)
    found = answer.data.handles
    return [int(handle) for handle in found]


def flush_strays(esapi: ESAPI, held: Set[int], names: Set[bytes]) -> bool:
    """Flush what dead runs of ours left: objects of our names, and sessions. True if any.

    For a TPM without a resource manager only. Sessions carry no name; there one program at a time
    is in charge, and another run of ours whose session goes opens a new one.
    """
    freed = False
    for handle in set(listed(esapi, _TRANSIENT)) - held:
        stray = esapi.tr_from_tpmpublic(handle)
        name = esapi.tr_get_name(stray)
        if bytes(name) in names:
            sessions.flush(esapi, stray)
            freed = True
        else:
            esapi.tr_close(stray)
    for kind in _SESSIONS:
        for handle in set(listed(esapi, kind)) - held:
            sessions.flush(esapi, esapi.tr_from_tpmpublic(handle))
            freed = True
    return freed
