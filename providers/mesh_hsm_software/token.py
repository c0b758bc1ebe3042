"""One key store as a token: list, make, import, delete, seal, change the passphrase."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from mesh_hsm.curves import CURVES, curve
from mesh_hsm.custody import CustodyClass, PinPolicy
from mesh_hsm.errors import ConflictError, DeviceError, NotFoundError, UnsupportedError
from mesh_hsm.provider import Capability, DeviceKey, KeySpec, Primitive, Token, TokenInfo, Use
from mesh_hsm.uri import Uri
from mesh_hsm_software import private, sealing
from mesh_hsm_software.key import SoftwareKey
from mesh_hsm_software.store import Contents, Entry, Store

_PRIMITIVES: Final = {
    "weierstrass": (Primitive.AGREE_X, Primitive.SIGN),
    "montgomery": (Primitive.AGREE_X,),
    "edwards": (Primitive.SIGN,),
}


class SoftwareToken(Token):
    """A key store, opened. Also ``Imports``, ``Seals`` and ``ChangesPin``.

    Nothing is asked until a private key is needed; the store's file is made with its first key.
    """

    pin_is_shared = True

    def __init__(self, info: TokenInfo, store: Store) -> None:
        self.info = info
        self._open_store: Store | None = store

    def __repr__(self) -> str:
        return f"SoftwareToken({self.info.uri})"

    def capabilities(self) -> frozenset[Capability]:
        """All seven curves; agreement gives the x (u) coordinate."""
        self._store()
        return frozenset(
            Capability(name, primitive, CustodyClass.SOFTWARE)
            for name in CURVES
            for primitive in _PRIMITIVES[curve(name).family]
        )

    def pins(self, use: Use) -> frozenset[PinPolicy]:
        """None: a store has a passphrase instead."""
        return frozenset({PinPolicy.NONE})

    def keys(self) -> Sequence[DeviceKey]:
        """Every key by label, without a passphrase: a claim of the file until one is used."""
        return [self._key(*item) for item in self._store().entries().items()]

    def key(self, uri: Uri) -> DeviceKey:
        """The key ``soft:store=…;key=<label>``."""
        label = self._label(uri)
        entry = self._store().entries().get(label)
        if entry is None:
            raise NotFoundError(f"no key {label} in this store", uri=str(uri))
        return self._key(label, entry)

    def generate(self, spec: KeySpec) -> DeviceKey:
        """Draw a key and write it. A store without a file asks for its new passphrase."""
        self._check(spec)
        return self._add(spec, lambda: private.generate(curve(spec.algorithm)), ())

    def import_scalar(self, spec: KeySpec, scalar: int, known_by: tuple[str, ...]) -> DeviceKey:
        """Keep a scalar mod n. EdDSA keys are made of private octets: ``UnsupportedError``."""
        self._check(spec)
        if curve(spec.algorithm).family == "edwards":
            raise UnsupportedError(f"an {spec.algorithm} key is not a scalar: none can be imported")
        octets = private.from_scalar(curve(spec.algorithm), scalar)
        return self._add(spec, lambda: octets, known_by)

    def delete(self, uri: Uri) -> None:
        """Remove a key from the file. Older copies of the file still hold it."""
        label = self.key(uri).label

        def remove(contents: Contents) -> None:
            if contents.entries.pop(label, None) is None:
                raise NotFoundError(f"no key {label} in this store", uri=str(uri))
            del contents.private[label]

        self._store().change(remove)

    def seal(self, label: str, secret: bytes, pin: PinPolicy = PinPolicy.NONE) -> bytes:
        """Encrypt under the store's own sealing key. See ``sealing`` for the blob."""
        _refuse_pin(pin)
        sealing.check_size(secret)
        contents = self._store().contents()
        key = contents.seal_key if contents else self._store().change(lambda new: new.seal_key)
        return sealing.seal(key, label, secret)

    def unseal(self, blob: bytes) -> bytes:
        """Decrypt. ``FormatError``: no such blob; ``DeviceError``: of another store, or altered."""
        box = sealing.Box.parse(blob)
        contents = self._store().contents()
        if contents is None:
            raise DeviceError("the blob was sealed by another key store")
        return box.open(contents.seal_key)

    def change_pin(self, uri: Uri) -> None:
        """Ask for the old and the new passphrase. Old copies of the file keep the old one."""
        self._store().change_passphrase()

    def close(self) -> None:
        """Forget the stretched passphrase."""
        if self._open_store is not None:
            self._open_store.forget()
            self._open_store = None

    def _store(self) -> Store:
        if self._open_store is None:
            raise DeviceError("the token is closed", uri=str(self.info.uri))
        return self._open_store

    def _key(self, label: str, entry: Entry) -> SoftwareKey:
        return SoftwareKey(self.info.uri.with_attribute("key", label), label, entry, self._store)

    def _label(self, uri: Uri) -> str:
        label = uri.get("key")
        if label is None or uri.scheme != "soft" or uri.get("store") not in (None, self.info.label):
            raise NotFoundError("the URI names no key of this store", uri=str(uri))
        return label

    def _check(self, spec: KeySpec) -> None:
        """Refuse what a file cannot honour, and a label in use, before anybody is asked."""
        self.capability(spec.algorithm, spec.use)
        _refuse_pin(spec.pin)
        spec.refuse("a key file", "pcrs", "persistent", "touch", "slot")
        _refuse_label(spec.label, self._store().entries())

    def _add(
        self, spec: KeySpec, octets: Callable[[], bytes], known_by: tuple[str, ...]
    ) -> DeviceKey:
        def add(contents: Contents) -> Entry:
            _refuse_label(spec.label, contents.entries)
            made = octets()
            entry = Entry(private.public(curve(spec.algorithm), made), spec.use, known_by)
            contents.entries[spec.label], contents.private[spec.label] = entry, made
            return entry

        return self._key(spec.label, self._store().change(add))


def _refuse_pin(pin: PinPolicy) -> None:
    if pin is not PinPolicy.NONE:
        raise UnsupportedError(
            "a key file has a passphrase, asked once for the whole store, and no PINs"
        )


def _refuse_label(label: str, entries: dict[str, Entry]) -> None:
    if label in entries:
        raise ConflictError(
            f"this store already has a key {label}",
            hint="choose another label, or delete that key first",
        )
