"""An opened TPM: its storage root, the one reused session, and what is loaded.

Open this file to see what happens when a TPM is reset, full, or somebody else's. Handles are given
out by ``Tpm`` only, so that every one of them is flushed and none is used after a reset.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from tpm2_pytss import (
    ESAPI,
    ESYS_TR,
    TPM2_SE,
    TPM2B_PRIVATE,
    TPM2B_PUBLIC,
    TPMA_SESSION,
    TPMT_PUBLIC,
    TSS2_Exception,
)

from mesh_hsm.errors import DeviceError, MeshHsmError
from mesh_hsm.secret_source import SecretSource
from mesh_hsm_tpm2 import blobs, sessions, slots, storage_root
from mesh_hsm_tpm2.connection import Connection
from mesh_hsm_tpm2.errors import (
    Rc,
    code,
    has_forgotten,
    is_disconnected,
    lacks_room,
    mapped,
)
from mesh_hsm_tpm2.records import Record, Records
from mesh_hsm_tpm2.turns import Turns

T = TypeVar("T")
_RECOVERIES = 6  # each one frees a slot or starts again; more than this is no accident


class Tpm:
    """One TPM, its records and what we have loaded in it. Made by ``Tpm2Provider.open``."""

    def __init__(self, connection: Connection, folder: Path, secrets: SecretSource) -> None:
        self.connection = connection
        self.records = Records(folder)
        self.secrets = secrets
        self._folder = folder
        self._pin: storage_root.Pin | None = None
        self._root: ESYS_TR | None = None
        self._session: ESYS_TR | None = None
        self._policy_session: ESYS_TR | None = None
        self._loaded: OrderedDict[str, ESYS_TR] = OrderedDict()
        self._turns = Turns(folder / ".turns") if connection.is_raw else None

    # -- running commands ------------------------------------------------------------------------

    def run(self, command: Callable[[ESAPI], T], uri: str | None = None) -> T:
        """Run a few commands as one, again where the TPM was reset or full. Maps errors.

        ``command`` must take its handles from this object each time it is called.
        """
        with self._turn() as esapi:
            for _ in range(_RECOVERIES):
                try:
                    return command(esapi)
                except TSS2_Exception as error:
                    if not self._recovered(esapi, error):
                        raise mapped(error, uri) from error
                with self.connection.held() as again:
                    esapi = again
            raise DeviceError("the TPM keeps forgetting what it was given", uri=uri)

    def _recovered(self, esapi: ESAPI, error: TSS2_Exception) -> bool:
        if lacks_room(error):
            return self._make_room(esapi, code(error))
        if is_disconnected(error):
            self._drop()
            self.connection.reconnect()
            return True
        if has_forgotten(error):
            self._flush_all(esapi)  # what is left of it: one handle may be gone, or all
            if code(error) == Rc.INITIALIZE and self.connection.is_raw:
                self.connection.start_up()
            return True
        return False

    # -- what is loaded --------------------------------------------------------------------------

    def root(self, esapi: ESAPI) -> ESYS_TR:
        """The storage root key, its name compared with the pinned one; pinned at first use."""
        if self._root is None:
            pin = self.pin
            if pin is None:
                self._root, self._pin = storage_root.enrol(esapi, self._folder, self.secrets)
            else:
                self._root = storage_root.open_pinned(esapi, self._folder, pin, self.secrets)
        return self._root

    @property
    def pin(self) -> storage_root.Pin | None:
        """What is pinned of this TPM; None before its first use."""
        if self._pin is None:
            self._pin = storage_root.Pin.load(self._folder)
        return self._pin

    def enrolled(self) -> storage_root.Pin:
        """The pin, made now if need be, and compared with the TPM at hand."""
        self.run(self.root)
        pin = self.pin
        if pin is None:
            raise DeviceError("the TPM's storage root could not be pinned")
        return pin

    @property
    def parent(self) -> int:
        """How key files name their parent: the persistent SRK, or the standard primary."""
        return self.enrolled().handle or blobs.OWNER

    def session(self, esapi: ESAPI, attributes: TPMA_SESSION = sessions.BOTH_WAYS) -> ESYS_TR:
        """The salted HMAC session, set up for the next command."""
        if self._session is None:
            self._session = sessions.start(esapi, self.root(esapi))
        return sessions.protect(esapi, self._session, attributes)

    def policy_session(self, esapi: ESAPI, attributes: TPMA_SESSION) -> ESYS_TR:
        """The salted policy session, set up for the next command; its policy is still to be run."""
        if self._policy_session is None:
            self._policy_session = sessions.start(esapi, self.root(esapi), TPM2_SE.POLICY)
        return sessions.protect(esapi, self._policy_session, attributes)

    def end_policy_session(self, esapi: ESAPI) -> None:
        """After a failure: a half-run policy must not be continued."""
        if self._policy_session is not None:
            sessions.flush(esapi, self._policy_session)
            self._policy_session = None

    def is_loaded(self, label: str) -> bool:
        """Whether a key is in the TPM now."""
        return label in self._loaded

    def key(self, esapi: ESAPI, record: Record) -> ESYS_TR:
        """A key's handle, loading it if need be. The caller does not flush it."""
        handle = self._loaded.get(record.label)
        if handle is None:
            handle = self._load_recorded(esapi, record)
            self._loaded[record.label] = handle
        self._loaded.move_to_end(record.label)
        return handle

    def load(self, esapi: ESAPI, private: bytes, public: bytes) -> ESYS_TR:
        """TPM2_Load under the storage root. The caller flushes it."""
        area, _ = TPMT_PUBLIC.unmarshal(public)
        # The root first: making it may use the session's attributes.
        root = self.root(esapi)
        session = self.session(esapi, sessions.INWARD)
        return esapi.load(
            root, TPM2B_PRIVATE(private), TPM2B_PUBLIC(publicArea=area), session1=session
        )

    def unload(self, label: str) -> None:
        """Flush a key; a persistent one stays in the TPM."""
        with self._turn() as esapi:
            handle = self._loaded.pop(label, None)
            if handle is not None:
                slots.release(esapi, handle)

    def close(self) -> None:
        """Flush everything of ours and end the connection."""
        try:
            with self._turn() as esapi:
                self._flush_all(esapi)
                if self._turns is not None:
                    self._turns.end()
                self.connection.close()  # here, before another thread can load anything
        except (MeshHsmError, TSS2_Exception):
            self._drop()  # closed already, a child process, or no TPM: nothing is ours to flush
        self.connection.close()
        if self._turns is not None:
            self._turns.close()

    # -- inside ----------------------------------------------------------------------------------

    @contextmanager
    def _turn(self) -> Iterator[ESAPI]:
        """The ESAPI context; on a raw TPM with nobody else of ours in between."""
        with self.connection.held() as esapi:
            if self._turns is None:
                yield esapi
                return
            with self._turns.taken() as disturbed:
                if disturbed:
                    self._start_clean(esapi)
                yield esapi

    def find_persistent(self, esapi: ESAPI, record: Record) -> ESYS_TR | None:
        """A persistent key's handle; None where its place is empty or holds another key."""
        session = self.session(esapi, sessions.OUTWARD)
        try:
            handle = esapi.tr_from_tpmpublic(record.persistent, session1=session)
        except TSS2_Exception as error:
            if code(error) != Rc.HANDLE:
                raise
            return None
        name = esapi.tr_get_name(handle)
        if bytes(name) == record.area.name:
            return handle
        esapi.tr_close(handle)
        return None

    def _load_recorded(self, esapi: ESAPI, record: Record) -> ESYS_TR:
        if record.persistent is None:
            blob = self.records.key_file(record.label)
            return self.load(esapi, blob.private, bytes.fromhex(record.public))
        handle = self.find_persistent(esapi, record)
        if handle is None:
            raise DeviceError(
                f"the key {record.label} is no longer in the TPM",
                hint="the TPM was cleared, or another program evicted it",
            )
        return handle

    def _make_room(self, esapi: ESAPI, full: int) -> bool:
        """Free a slot: the key that was used longest ago, else what a dead run of ours left."""
        if full in (Rc.OBJECT_MEMORY, Rc.OBJECT_HANDLES):
            for label, handle in self._loaded.items():
                if not slots.is_persistent(esapi, handle):
                    sessions.flush(esapi, handle)
                    del self._loaded[label]
                    return True
        return self.connection.is_raw and self._flush_strays(esapi)

    def _flush_strays(self, esapi: ESAPI, names: Set[bytes] = frozenset()) -> bool:
        held = {slots.number(esapi, handle) for handle in self._held()}
        names = self.records.names() | names
        if self.pin is not None:
            names |= {bytes.fromhex(self.pin.storage_root)}
        return slots.flush_strays(esapi, held, names)

    def _held(self) -> list[ESYS_TR]:
        single = (self._root, self._session, self._policy_session)
        return [handle for handle in (*single, *self._loaded.values()) if handle is not None]

    def _flush_all(self, esapi: ESAPI) -> None:
        for handle in self._held():
            slots.release(esapi, handle)
        self._drop()

    def _start_clean(self, esapi: ESAPI) -> None:
        """Let go of our handles, whose numbers may be others' now; flush what is ours by name."""
        try:
            # Names come from ESAPI's memory: a key may have been deleted from the records since.
            names = [esapi.tr_get_name(handle) for handle in self._loaded.values()]
            for handle in self._held():
                with suppress(TSS2_Exception):
                    esapi.tr_close(handle)
            self._drop()
            self._flush_strays(esapi, {bytes(name) for name in names})
        except TSS2_Exception as error:
            raise mapped(error) from error

    def _drop(self) -> None:
        self._root = self._session = self._policy_session = None
        self._loaded.clear()
