"""What the applications share of the device that they run on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TypeAlias

from mesh_hsm.testing.virtual_yubikey.choices import Choices
from mesh_hsm.testing.virtual_yubikey.touch import TouchSensor

Version: TypeAlias = tuple[int, int, int]


@dataclass(frozen=True)
class Hardware:
    """One device's identity, its touch sensor, and what its keys were used for."""

    serial: int
    firmware: Version
    form_factor: int
    sensor: TouchSensor
    choices: Choices
    operations: Counter[tuple[int, str]] = field(default_factory=Counter)
    """(slot, operation): how often; see ``piv.names.Operation``."""
