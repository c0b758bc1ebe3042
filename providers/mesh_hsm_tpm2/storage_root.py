"""The storage root key under which our keys hang, and its pinned name.

Open this file for enrolment. A session is only as good as the identity of the key it is salted to:
the name is pinned when the TPM is first met and compared before every salt (hsm-1 §10).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

from tpm2_pytss import (
    ESAPI,
    ESYS_TR,
    TPM2B_PUBLIC,
    TPM2B_SENSITIVE_CREATE,
    TPMT_PUBLIC,
    TSS2_Exception,
)

from mesh_hsm.errors import FormatError, NotFoundError, VerificationError
from mesh_hsm.files import read_limited, write_atomic
from mesh_hsm.secret_source import SecretKind, SecretRequest, SecretSource
from mesh_hsm_tpm2 import endorsement, sessions, templates
from mesh_hsm_tpm2.errors import Rc, code
from mesh_hsm_tpm2.structures import PublicArea

PERSISTENT_SRK = 0x81000001
"""Where the TCG puts a storage root key (Registry of Reserved TPM 2.0 Handles)."""

ROOTS = "ek-roots"
"""The folder, beside our records, of the owner's trusted endorsement roots."""

T = TypeVar("T")

_FILE, _LIMIT = "storage-root.json", 4096


@dataclass(frozen=True, slots=True)
class Pin:
    """What we remember of a TPM: names in hexadecimal, and how its EK was recognised."""

    storage_root: str
    handle: int | None
    endorsement: str | None
    proof: str
    issuer: str | None

    def save(self, folder: Path) -> None:
        """Write it, whole or not at all."""
        write_atomic(folder / _FILE, json.dumps(asdict(self), indent=1).encode() + b"\n")

    @classmethod
    def load(cls, folder: Path) -> Pin | None:
        """The pin of this folder's TPM; None before its first use."""
        try:
            octets = read_limited(folder / _FILE, _LIMIT)
        except NotFoundError:
            return None
        try:
            return cls(**json.loads(octets))
        except (TypeError, ValueError) as error:
            raise FormatError(f"{folder / _FILE} is damaged") from error


def enrol(esapi: ESAPI, folder: Path, secrets: SecretSource) -> tuple[ESYS_TR, Pin]:
    """Meet a TPM: recognise its EK, then find or make the SRK in a session salted to the EK."""
    with endorsement.salted_session(esapi, folder / ROOTS) as (session, met):
        root = _persistent(esapi, session)
        handle = None if root is None else PERSISTENT_SRK
        if root is None:
            root = as_owner(esapi, secrets, session, lambda by: _primary(esapi, by))
    try:
        pin = Pin(_name(esapi, root), handle, met.name, met.proof, met.issuer)
        pin.save(folder)
    except BaseException:
        release(esapi, root, handle)
        raise
    return root, pin


def open_pinned(esapi: ESAPI, folder: Path, pin: Pin, secrets: SecretSource) -> ESYS_TR:
    """The SRK, its name compared. ``VerificationError`` on any TPM but the pinned one."""
    root = _at_handle(esapi) if pin.handle is not None else None
    if root is not None and _name(esapi, root) == pin.storage_root:
        return root
    root = _primary_again(esapi, folder, pin, secrets)
    if _name(esapi, root) != pin.storage_root:
        sessions.flush(esapi, root)
        raise VerificationError(
            "this is not the TPM that our keys belong to, or it has been cleared",
            hint="its storage root key has another name than the pinned one; see doctor",
        )
    return root


def release(esapi: ESAPI, root: ESYS_TR, handle: int | None) -> None:
    """Give the SRK's slot back; a persistent one stays in the TPM."""
    if handle is None:
        sessions.flush(esapi, root)
    else:
        esapi.tr_close(root)


def as_owner(
    esapi: ESAPI, secrets: SecretSource, session: ESYS_TR, command: Callable[[ESYS_TR], T]
) -> T:
    """Run a command that the owner authorises, asking for the password only where there is one.

    The password is proved by HMAC, never sent, and forgotten at once. ``command`` gets the session
    to use: the one given, or where that is ``ESYS_TR.PASSWORD``, since no key of this TPM is known,
    one salted to a key made for it. Who listens cannot try passwords on what he heard; an
    interposer that gives a key of its own still can.
    """
    try:
        return command(session)
    except TSS2_Exception as error:
        if code(error) not in (Rc.BAD_AUTH, Rc.AUTH_FAIL):
            raise
    password = secrets.secret(SecretRequest(SecretKind.OWNER_AUTH, "the TPM's owner hierarchy"))
    with ExitStack() as stack:
        if session == ESYS_TR.PASSWORD:
            with sessions.flushed(esapi, _primary(esapi, session, ESYS_TR.RH_NULL)) as passing:
                session = sessions.start(esapi, passing)
            stack.enter_context(sessions.flushed(esapi, session))
        esapi.tr_set_auth(ESYS_TR.OWNER, password)
        stack.callback(esapi.tr_set_auth, ESYS_TR.OWNER, None)
        return command(session)


def _primary(esapi: ESAPI, session: ESYS_TR, hierarchy: ESYS_TR = ESYS_TR.OWNER) -> ESYS_TR:
    """TPM2_CreatePrimary by the standard template: the same key each time, until a clear.

    Of the null hierarchy, which has no password, the same until a restart.
    """
    area, _ = TPMT_PUBLIC.unmarshal(templates.STORAGE_ROOT.marshal())
    if session != ESYS_TR.PASSWORD:
        sessions.protect(esapi, session, sessions.BOTH_WAYS)
    root, _, _, _, _ = esapi.create_primary(
        TPM2B_SENSITIVE_CREATE(), TPM2B_PUBLIC(publicArea=area), hierarchy, session1=session
    )
    return root


def _primary_again(esapi: ESAPI, folder: Path, pin: Pin, secrets: SecretSource) -> ESYS_TR:
    try:
        return _primary(esapi, ESYS_TR.PASSWORD)
    except TSS2_Exception as error:
        if code(error) not in (Rc.BAD_AUTH, Rc.AUTH_FAIL):
            raise
    with endorsement.salted_session(esapi, folder / ROOTS) as (session, met):
        if met.name != pin.endorsement:
            raise VerificationError(
                "this TPM has another endorsement key than the pinned one",
                hint="the owner password was not asked for, and not sent",
            )
        return as_owner(esapi, secrets, session, lambda by: _primary(esapi, by))


def _persistent(esapi: ESAPI, session: ESYS_TR) -> ESYS_TR | None:
    """The SRK at the TCG's handle if it is there and is what the TCG says."""
    protection = ESYS_TR.NONE
    if session != ESYS_TR.PASSWORD:
        protection = sessions.protect(esapi, session, sessions.OUTWARD)
    root = _at_handle(esapi, protection)
    if root is None:
        return None
    public, _, _ = esapi.read_public(root, session1=protection)
    try:
        area = PublicArea.parse(public.publicArea.marshal())
    except FormatError:
        area = None
    if area is not None and replace(area, unique=()) == templates.STORAGE_ROOT:
        return root
    esapi.tr_close(root)
    return None


def _at_handle(esapi: ESAPI, session: ESYS_TR = ESYS_TR.NONE) -> ESYS_TR | None:
    try:
        return esapi.tr_from_tpmpublic(PERSISTENT_SRK, session1=session)
    except TSS2_Exception as error:
        if code(error) != Rc.HANDLE:
            raise
        return None


def _name(esapi: ESAPI, root: ESYS_TR) -> str:
    """Computed by ESAPI from the public area, not taken from the TPM's word."""
    name = esapi.tr_get_name(root)
    return bytes(name).hex()
