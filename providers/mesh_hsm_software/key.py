"""One key of a store. Open this file to see what an answer depends on."""

from __future__ import annotations

from collections.abc import Callable

from mesh_hsm.curves import ED25519, Point, XOnly
from mesh_hsm.custody import CustodyClass, CustodyStatement, Hardware
from mesh_hsm.errors import DeviceError, NotFoundError, UnsupportedError
from mesh_hsm.provider import DeviceKey
from mesh_hsm.uri import Uri
from mesh_hsm_software import private
from mesh_hsm_software.legacy import EdwardsKey
from mesh_hsm_software.store import Entry, Store

NOTES = (
    "whoever has the file and its passphrase has the key; old copies keep their old passphrase",
)


class SoftwareKey(DeviceKey):
    """A name for a key in a store. The private octets are read for each use and not kept."""

    def __init__(self, uri: Uri, label: str, entry: Entry, store: Callable[[], Store]) -> None:
        self.uri = uri
        self.label = label
        self.use = entry.use
        self.public = entry.public
        self._store = store

    def __repr__(self) -> str:
        return f"SoftwareKey({self.uri})"

    def custody(self) -> CustodyStatement:
        """What the file says now. Raises ``NotFoundError`` if the key is gone."""
        entry = self._mine(self._store().entries())
        return CustodyStatement(
            CustodyClass.SOFTWARE,
            Hardware.NONE,
            device=f"key file {self.uri.without('key')}",
            known_by=entry.known_by,
            notes=NOTES,
        )

    def sign_ed25519ctx(self, message: bytes) -> bytes:
        """Sign as published envelopes want it: Ed25519ctx, empty context (dare §2.3).

        Raises ``UnsupportedError`` for any other key, ``ProviderUnavailableError`` without the
        extra ``legacy``.
        """
        if self.public.curve is not ED25519:
            raise UnsupportedError("only an Ed25519 key signs with a context", uri=str(self.uri))
        return EdwardsKey(ED25519, self._octets()).sign_ed25519ctx(message)

    def _agree(self, point: Point) -> Point | XOnly:
        return private.agree(self.public.curve, self._octets(), point)

    def _sign(self, octets: bytes) -> bytes:
        return private.sign(self.public.curve, self._octets(), octets)

    def _octets(self) -> bytes:
        contents = self._store().contents()
        self._mine(contents.entries if contents else {})
        assert contents is not None  # noqa: S101  else the line above has raised
        return contents.private[self.label]

    def _mine(self, entries: dict[str, Entry]) -> Entry:
        if self.label not in entries:
            raise NotFoundError("the key is no longer in its store", uri=str(self.uri))
        entry = entries[self.label]
        if (entry.public, entry.use) != (self.public, self.use):
            raise DeviceError("the store holds another key by this label", uri=str(self.uri))
        return entry
