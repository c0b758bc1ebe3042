"""Finds YubiKeys by serial number. Open this file for what a ``yubikey:`` URI leads to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mesh_hsm.errors import MeshHsmError, NotFoundError, UnsupportedError
from mesh_hsm.provider import Finding, Token, TokenInfo, Tries
from mesh_hsm.secret_source import SecretSource
from mesh_hsm.uri import Uri
from mesh_hsm_yubikey import (
    description,
    diagnosis,
    finding,
    initialising,
    pin_change,
)
from mesh_hsm_yubikey.card import Card, card_of, release_all
from mesh_hsm_yubikey.judge import ROOTS
from mesh_hsm_yubikey.opened import Opened
from mesh_hsm_yubikey.token import YubiKeyToken

_NAMES: Final = {"serial", "slot"}


class YubiKeyProvider:
    """YubiKeys plugged in by USB: ``yubikey:serial=12345678``. Never "the first one".

    Nothing is kept outside the card; roots for attestation besides Yubico's go into the folder
    ``piv-roots`` of ``records``.
    """

    scheme = "yubikey"

    def __init__(self, records: Path) -> None:
        self._records = records

    def tokens(self) -> Sequence[TokenInfo]:
        """What is plugged in and answers; what does not, ``diagnose`` tells of.

        Raises ``ProviderUnavailableError`` without a PC/SC service.
        """
        found: list[TokenInfo] = []
        release_all()
        for serial in finding.serials():
            try:
                found.append(description.of(card_of(serial)).info)
            except MeshHsmError:  # pulled out, or taken, since it was listed
                continue
        return found

    def open(self, uri: Uri, secrets: SecretSource) -> Token:
        """Open the YubiKey with this serial number. Nothing is asked of a person before a key is.

        Raises ``NotFoundError``; ``UnsupportedError`` for one that is as it left the factory;
        ``DeviceError`` where somebody else holds it.
        """
        card = self._card(uri)
        found = description.of(card)
        if not found.info.initialised:
            raise UnsupportedError(
                f"{card.subject} is as it left the factory: everybody knows its PIN, PUK and key",
                hint=f"mesh-hsm token init '{card.uri}' --label NAME",
                uri=str(uri),
            )
        own_roots = self._records / ROOTS
        return YubiKeyToken(Opened(found.info, found.device, card, secrets, own_roots))

    def initialise(
        self,
        uri: Uri,
        label: str,
        secrets: SecretSource,
        *,
        erase: bool = False,
        tries: Tries | None = None,
    ) -> TokenInfo:
        """Name a YubiKey, give it PIN, PUK and a management key of its own."""
        card = self._card(uri)
        initialising.initialise(card, label, secrets, erase=erase, tries=tries)
        return description.of(card).info

    def reset_pin(self, uri: Uri, secrets: SecretSource) -> None:
        """Set a forgotten or blocked PIN anew, with the PUK. The keys stay."""
        pin_change.unblock(self._card(uri), secrets)

    def diagnose(self) -> Sequence[Finding]:
        """What is wrong with YubiKeys and what reaches them; the codes are in ``diagnosis``."""
        return list(diagnosis.of_everything())

    def _card(self, uri: Uri) -> Card:
        names = {name for name, _ in uri.attributes + uri.query}
        serial = uri.get("serial")
        if uri.scheme != self.scheme or not names <= _NAMES or serial is None:
            raise NotFoundError(
                "no YubiKey has this name",
                hint="write yubikey:serial=…; mesh-hsm token list shows the numbers",
                uri=str(uri),
            )
        if not (serial.isascii() and serial.isdecimal() and len(serial) <= 10):
            raise NotFoundError("a YubiKey's serial number is decimal", uri=str(uri))
        return card_of(int(serial))
