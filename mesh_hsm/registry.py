"""Which providers are installed, found through the entry-point group ``mesh_hsm.providers``.

Listing them imports none of their libraries. A message from outside never chooses a provider: only
a URI that the user typed or that our own record holds reaches ``load``. Evidence from outside does
name its judge (group ``mesh_hsm.judges``), which is code that reads octets and reaches no device:
an administrator needs no TPM library to believe a TPM.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import cast

from mesh_hsm.errors import NotFoundError, ProviderUnavailableError
from mesh_hsm.provider import Provider

GROUP = "mesh_hsm.providers"
JUDGES = "mesh_hsm.judges"

_CALLED = {GROUP: "provider", JUDGES: "judge"}


def installed(group: str = GROUP) -> dict[str, EntryPoint]:
    """Schemes and where their code is, by scheme."""
    return {point.name: point for point in sorted(entry_points(group=group))}


def load(scheme: str, records: Path) -> Provider:
    """The provider of a scheme, keeping its records in the folder ``records``.

    Raises ``NotFoundError`` for an unknown scheme, ``ProviderUnavailableError`` (with what to
    install) where its library is absent.
    """
    return cast("Provider", _load(GROUP, scheme, records))


def load_judge(scheme: str, records: Path) -> object:
    """A ``threshold.Judges`` for evidence of a scheme's devices. Raises as ``load``."""
    return _load(JUDGES, scheme, records)


def _load(group: str, scheme: str, records: Path) -> object:
    known = installed(group)
    if scheme not in known:
        raise NotFoundError(
            f"no {_CALLED[group]} for {scheme}: keys",
            hint=f"installed: {', '.join(known) or 'none'}",
        )
    try:
        make = cast("Callable[[Path], object]", known[scheme].load())
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
