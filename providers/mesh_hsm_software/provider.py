"""Finds key stores: one file each, in the provider's records folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mesh_hsm.custody import Hardware
from mesh_hsm.errors import NotFoundError
from mesh_hsm.provider import Token, TokenInfo
from mesh_hsm.secret_source import SecretSource
from mesh_hsm.uri import Uri
from mesh_hsm_software.store import Store
from mesh_hsm_software.token import SoftwareToken

DEFAULT_STORE: Final = "default"
_SUFFIX: Final = ".keys"
# A store's name becomes a file's name: nothing that leaves the folder or hides in it.
_STORE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")


class SoftwareProvider:
    """Key stores ``soft:store=<name>`` in the folder ``records``; ``soft:`` is the default one."""

    scheme = "soft"

    def __init__(self, records: Path) -> None:
        self._records = records

    def tokens(self) -> Sequence[TokenInfo]:
        """The default store, made or not yet, and every other one in the folder."""
        names = {path.stem for path in self._records.glob(f"*{_SUFFIX}") if _STORE.match(path.stem)}
        return [_info(name) for name in sorted(names | {DEFAULT_STORE})]

    def open(self, uri: Uri, secrets: SecretSource) -> Token:
        """Open a store. One that has no file yet is empty; its first key makes the file."""
        name = uri.get("store") or DEFAULT_STORE
        extra = {key for key, _ in uri.attributes + uri.query} - {"store", "key"}
        if uri.scheme != self.scheme or extra or not _STORE.match(name):
            raise NotFoundError(
                "no key store can have this name",
                hint="name one soft:store=<letters, digits, - and _>",
                uri=str(uri),
            )
        return SoftwareToken(_info(name), Store(self._records / f"{name}{_SUFFIX}", name, secrets))


def _info(name: str) -> TokenInfo:
    return TokenInfo(
        uri=Uri("soft", (("store", name),)),
        label=name,
        manufacturer="mesh-hsm",
        model="encrypted key file",
        serial=None,
        firmware=None,
        hardware=Hardware.NONE,
    )
