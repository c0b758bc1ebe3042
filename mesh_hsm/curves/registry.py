"""Which curves there are, by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from mesh_hsm.curves.edwards import ED448, ED25519
from mesh_hsm.curves.group import Curve
from mesh_hsm.curves.montgomery import X448, X25519
from mesh_hsm.curves.weierstrass import P256, P384, P521
from mesh_hsm.errors import UnsupportedError

CURVES: Final[Mapping[str, Curve]] = MappingProxyType(
    {c.name: c for c in (P256, P384, P521, X25519, X448, ED25519, ED448)}
)
"""Every curve by its name: ``P-256`` … ``Ed448``."""


def curve(name: str) -> Curve:
    """The curve of that exact name. Raises ``UnsupportedError``."""
    try:
        return CURVES[name]
    except KeyError:
        raise UnsupportedError(
            "no such curve here", hint=f"supported: {', '.join(CURVES)}"
        ) from None
