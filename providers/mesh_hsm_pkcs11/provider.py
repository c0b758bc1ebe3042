"""Finds tokens in PKCS #11 modules. Open this file for what a URI leads to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from mesh_hsm.errors import (
    DeviceError,
    MeshHsmError,
    NotFoundError,
    ProviderUnavailableError,
    UnsupportedError,
)
from mesh_hsm.provider import Finding, Token, TokenInfo, Tries
from mesh_hsm.secret_source import SecretSource
from mesh_hsm.uri import Uri
from mesh_hsm_pkcs11 import diagnosis, discovery, initialising, naming, slots
from mesh_hsm_pkcs11.connection import Connection
from mesh_hsm_pkcs11.discovery import Origin, Source
from mesh_hsm_pkcs11.errors import explained
from mesh_hsm_pkcs11.module import Module
from mesh_hsm_pkcs11.records import Records
from mesh_hsm_pkcs11.slots import Found
from mesh_hsm_pkcs11.token import Pkcs11Token


class Pkcs11Provider:
    """Tokens ``pkcs11:token=…`` of the modules that the user has named or p11-kit lists.

    ``records`` holds ``modules.toml`` and, in a folder per token, what we remember of its keys.
    """

    scheme = "pkcs11"

    def __init__(self, records: Path) -> None:
        self._records = records

    def tokens(self) -> Sequence[TokenInfo]:
        """Every token of every module that works; what does not is for ``diagnose`` to tell.

        Raises ``ProviderUnavailableError`` where no token is found and a module that the user named
        fails.
        """
        try:
            return [info for _, info in self._present(None)]
        except ProviderUnavailableError:
            raise
        except MeshHsmError as error:
            raise ProviderUnavailableError(str(error), hint=error.hint) from error

    def open(self, uri: Uri, secrets: SecretSource) -> Token:
        """Open the one token that the URI means. Raises ``NotFoundError`` for none or several.

        ``UnsupportedError``: it is not initialised.
        """
        found, info = self._one(uri)
        if not found.facts.initialised:
            raise UnsupportedError(
                "the token is not initialised",
                hint=f"mesh-hsm token init '{info.uri}' --label NAME",
                uri=str(uri),
            )
        records = Records(self._records, found.name)
        return Pkcs11Token(info, Connection(found, secrets, info.uri), records)

    def initialise(
        self,
        uri: Uri,
        label: str,
        secrets: SecretSource,
        *,
        erase: bool = False,
        tries: Tries | None = None,
    ) -> TokenInfo:
        """Make an empty token with new PINs. One that is initialised only with ``erase``."""
        if tries is not None:
            raise UnsupportedError("a PKCS #11 token counts tries as it likes", uri=str(uri))
        found, info = self._one(uri)

        def erased(made: Found) -> None:
            for name in (found.name, made.name):
                Records(self._records, name).clear()

        made = initialising.initialise(
            found, label, secrets, erase=erase, uri=str(info.uri), erased=erased
        )
        return _info(made, naming.token_uri(made.facts, uri.query))

    def reset_pin(self, uri: Uri, secrets: SecretSource) -> None:
        """Set the user's PIN anew, as the security officer."""
        found, info = self._one(uri)
        initialising.reset_pin(found, secrets, str(info.uri))

    def diagnose(self) -> Sequence[Finding]:
        """What is wrong with modules and tokens; the codes are in ``diagnosis``."""
        return list(diagnosis.of_everything(self._records))

    def _one(self, uri: Uri) -> tuple[Found, TokenInfo]:
        if uri.scheme != self.scheme:
            raise NotFoundError("no PKCS #11 token has this name", uri=str(uri))
        present = self._present(uri)
        fitting = [(found, info) for found, info in present if naming.matches(uri, found.facts)]
        if not fitting:
            raise NotFoundError(
                "no PKCS #11 token that is plugged in has this name",
                hint="mesh-hsm token list; mesh-hsm doctor says what is wrong with modules",
                uri=str(uri),
            )
        if len({str(info.uri) for _, info in fitting}) > 1:  # else one token, reached in two ways
            names = ", ".join(f"'{info.uri}'" for _, info in fitting[:4])
            raise NotFoundError(
                f"{len(fitting)} tokens have this name", hint=f"name one: {names}", uri=str(uri)
            )
        found, info = fitting[0]
        twins = sum(one.module is found.module and one.name == found.name for one, _ in present)
        if twins > 1:
            raise DeviceError(
                f"{twins} tokens call themselves {found.facts.label!r} alike, serial included",
                hint="unplug the other one, or give it another label",
                uri=str(uri),
            )
        return found, info

    def _present(self, uri: Uri | None) -> list[tuple[Found, TokenInfo]]:
        found: list[Found] = []
        failed: ProviderUnavailableError | None = None
        for source in discovery.modules(uri, self._records):
            try:
                found += list(_tokens(source))
            except ProviderUnavailableError as error:
                failed = failed or error
        if failed is not None and not found:  # else the others are of use, and doctor tells
            raise failed
        query = uri.query if uri is not None else ()
        names = naming.token_uris([token.facts for token in found], query)
        return [(token, _info(token, name)) for token, name in zip(found, names, strict=True)]


def _tokens(source: Source) -> Iterator[Found]:
    if source.obstacle is not None:
        return
    try:
        module = Module.load(source.path, source.reserved)
        with explained("list its slots"):
            yield from slots.present(module)
    except ProviderUnavailableError:
        if source.origin is not Origin.P11_KIT:
            raise
    except MeshHsmError as error:
        if source.origin is not Origin.P11_KIT:
            raise ProviderUnavailableError(f"{source.path}: {error}", hint=error.hint) from error


def _info(found: Found, uri: Uri) -> TokenInfo:
    facts = found.facts
    return TokenInfo(
        uri=uri,
        label=facts.label,
        manufacturer=facts.manufacturer,
        model=facts.model,
        serial=facts.serial or None,
        firmware=found.firmware,
        hardware=found.hardware,
        initialised=facts.initialised,
    )
