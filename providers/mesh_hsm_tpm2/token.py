"""A TPM as a token. Open this file for what can be asked of one: the contract and its extras."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from mesh_hsm.custody import PinPolicy
from mesh_hsm.errors import NotFoundError
from mesh_hsm.provider import Capability, DeviceKey, KeySpec, Token, TokenInfo
from mesh_hsm.secret_source import SecretKind, SecretRequest
from mesh_hsm.uri import Uri
from mesh_hsm_tpm2 import capabilities, creating, importing, pins, sealing
from mesh_hsm_tpm2.authorisation import Authoriser
from mesh_hsm_tpm2.key import Tpm2Key
from mesh_hsm_tpm2.records import Record
from mesh_hsm_tpm2.structures import AuthValue
from mesh_hsm_tpm2.tpm import Tpm
from mesh_hsm_tpm2.wrapping import WrappedShare


class Tpm2Token(Token):
    """One TPM and our keys in it. Also ``Imports``, ``Seals``, ``ChangesPin`` and ``Rooted``."""

    pin_is_shared = False

    def __init__(self, info: TokenInfo, tpm: Tpm) -> None:
        self.info = info
        self._tpm = tpm
        self._authoriser = Authoriser(tpm)
        # A raw TPM keeps what a process leaves behind, so it is flushed at exit too.
        self._finaliser = weakref.finalize(self, tpm.close)

    def __repr__(self) -> str:
        return f"Tpm2Token({self.info.uri})"

    # -- the contract ----------------------------------------------------------------------------

    def capabilities(self) -> frozenset[Capability]:
        """Curves × primitives, asked of the TPM."""
        return self._tpm.run(capabilities.read)

    def keys(self) -> Sequence[DeviceKey]:
        """Every key of our records, by label. The TPM is not asked until one is used."""
        with self._tpm.connection.held():
            records = self._tpm.records
            return [self._key(records.load(label)) for label in records.labels()]

    def key(self, uri: Uri) -> DeviceKey:
        """The key ``tpm2:key=<label>``."""
        with self._tpm.connection.held():
            return self._key(self._record(uri))

    def generate(self, spec: KeySpec) -> DeviceKey:
        """Make a key in the TPM; a key with PIN asks for its new PIN."""
        with self._new(spec) as auth:
            record = creating.generate(self._tpm, spec, auth)
            self._authoriser.remember(record, auth)
        return self._key(record)

    def delete(self, uri: Uri) -> None:
        """Remove record and blob, or evict the key. Copies of a blob work for ever."""
        with self._tpm.connection.held(), self._tpm.records.locked():
            record = self._record(uri)
            creating.evict(self._tpm, record)
            self._tpm.records.remove(record.label)
            self._authoriser.forget(record)

    def close(self) -> None:
        """Flush everything of ours and forget every PIN."""
        self._authoriser.forget()
        self._finaliser()

    # -- extras ----------------------------------------------------------------------------------

    @property
    def root_name(self) -> str:
        """The storage root key's pinned name, in hexadecimal."""
        return self._tpm.enrolled().storage_root

    def storage_key(self) -> bytes:
        """TPMT_PUBLIC of the storage root key, for ``wrapping.wrap_share``."""
        return importing.storage_key(self._tpm)

    def import_scalar(self, spec: KeySpec, scalar: int, known_by: tuple[str, ...]) -> DeviceKey:
        """Take a scalar mod n; it cannot leave the TPM afterwards."""
        with self._new(spec) as auth:
            record = importing.import_scalar(self._tpm, spec, scalar, auth, known_by)
            self._authoriser.remember(record, auth)
        return self._key(record)

    def import_wrapped(
        self, spec: KeySpec, share: WrappedShare, known_by: tuple[str, ...]
    ) -> DeviceKey:
        """Take a share that a dealer wrapped to ``storage_key``; it never was in our memory."""
        with self._new(spec) as auth:
            request = SecretRequest(SecretKind.PIN, f"{spec.label} as the dealer set it")
            dealt = AuthValue()
            if share.has_auth:
                dealt = AuthValue.of_pin(self._tpm.secrets.secret(request))
            record = importing.import_wrapped(self._tpm, spec, share, dealt, auth, known_by)
            self._authoriser.remember(record, auth)
        return self._key(record)

    def seal(self, label: str, secret: bytes, pin: PinPolicy = PinPolicy.NONE) -> bytes:
        """Encrypt 1 to 128 octets under the storage root key."""
        auth = AuthValue() if pin is PinPolicy.NONE else self._authoriser.new_pin(label)
        return sealing.seal(self._tpm, label, secret, pin, auth)

    def unseal(self, blob: bytes) -> bytes:
        """Decrypt. ``FormatError``: no such blob; ``DeviceError``: another TPM's, or altered."""
        return sealing.unseal(self._tpm, self._authoriser, sealing.Box.parse(blob))

    def change_pin(self, uri: Uri) -> None:
        """Change one key's PIN. Copies of its old blob still work with the old one."""
        with self._tpm.connection.held(), self._tpm.records.locked():
            pins.change(self._tpm, self._authoriser, self._record(uri), str(uri))

    # -- inside ----------------------------------------------------------------------------------

    @contextmanager
    def _new(self, spec: KeySpec) -> Iterator[AuthValue]:
        """The auth value of a key about to be made, after everything that can be refused."""
        with self._tpm.connection.held(), self._tpm.records.locked():
            self.capability(spec.algorithm, spec.use)
            spec.refuse("a TPM", "touch", "slot")
            self._tpm.records.check_free(spec.label)
            yield (
                AuthValue() if spec.pin is PinPolicy.NONE else self._authoriser.new_pin(spec.label)
            )

    def _record(self, uri: Uri) -> Record:
        label = uri.get("key")
        if label is None or uri.scheme != "tpm2" or uri.without("key") != self.info.uri:
            raise NotFoundError("the URI names no key of this TPM", uri=str(uri))
        return self._tpm.records.load(label)

    def _key(self, record: Record) -> Tpm2Key:
        uri = self.info.uri.with_attribute("key", record.label)
        return Tpm2Key(self._tpm, self._authoriser, self.info, uri, record)
