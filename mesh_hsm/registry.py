"""Which providers are installed, found through the entry-point group ``mesh_hsm.providers``.

Listing them imports none of their libraries. A message from outside never chooses a provider: only
a URI that the user typed or that our own record holds reaches ``load``.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import cast

from mesh_hsm.errors import NotFoundError, ProviderUnavailableError
from mesh_hsm.provider import Provider

GROUP = "mesh_hsm.providers"


def installed() -> dict[str, EntryPoint]:
    """Provider schemes and where their code is, by scheme."""
    return {point.name: point for point in sorted(entry_points(group=GROUP))}


def load(scheme: str, records: Path) -> Provider:
    """The provider of a scheme, keeping its records in the folder ``records``.

    Raises ``NotFoundError`` for an unknown scheme, ``ProviderUnavailableError`` (with what to
    install) where its library is absent.
    """
    known = installed()
    if scheme not in known:
        raise NotFoundError(
            f"no provider for {scheme}: keys", hint=f"installed: {', '.join(known) or 'none'}"
        )
    try:
        make = cast("Callable[[Path], Provider]", known[scheme].load())
    except ModuleNotFoundError as error:
        raise ProviderUnavailableError(
            f"the {scheme} provider's library is not installed ({error.name})",
            hint=f"pip install 'mesh-hsm[{scheme}]'",
        ) from error
    except Exception as error:  # other people's code: whatever it does, it is named
        raise ProviderUnavailableError(
            f"the {scheme} provider cannot be loaded ({type(error).__name__})",
            hint=f"reinstall or remove {known[scheme].value}",
        ) from error
    return make(records)
