"""What one run of the command line has at hand: output, secrets, state, providers.

Open this file to see how a provider is reached from a command.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

from mesh_hsm.errors import ProviderUnavailableError
from mesh_hsm_cli.output import Output
from mesh_hsm_cli.secret_options import CommandSecrets
from mesh_hsm_cli.state import State

if TYPE_CHECKING:
    from mesh_hsm.provider import Provider, Token
    from mesh_hsm.secret_source import SecretSource
    from mesh_hsm.threshold import Judges
    from mesh_hsm.uri import Uri


class Session:
    """Click's context object."""

    def __init__(self) -> None:
        self.output = Output()
        self.secrets = CommandSecrets(self.output.notice, self.output.waiting)
        self._providers: dict[str, Provider] = {}

    @cached_property
    def state(self) -> State:
        """The state folder; found when it is first needed."""
        return State.default()

    def provider(self, scheme: str) -> Provider:
        """One provider, loaded. Raises ``NotFoundError``, ``ProviderUnavailableError``."""
        from mesh_hsm import registry

        if scheme not in self._providers:
            self._providers[scheme] = registry.load(scheme, self.state.records(scheme))
        return self._providers[scheme]

    def providers(self) -> Iterator[Provider | ProviderUnavailableError]:
        """Every installed provider, or why it cannot be used."""
        from mesh_hsm import registry

        for scheme in registry.installed():
            try:
                yield self.provider(scheme)
            except ProviderUnavailableError as error:
                yield error

    def judge(self, scheme: str) -> Judges:
        """Who judges the evidence of a scheme's devices. Raises ``NotFoundError``."""
        from mesh_hsm import registry
        from mesh_hsm.threshold import Judges

        judge = registry.load_judge(scheme, self.state.records(scheme))
        if not isinstance(judge, Judges):
            raise ProviderUnavailableError(f"what is installed as judge of {scheme} is none")
        return judge

    def open(self, uri: Uri, secrets: SecretSource | None = None) -> Token:
        """Open the token that a URI names, with this command's secrets or with others."""
        return self.provider(uri.scheme).open(uri, secrets or self.secrets)
