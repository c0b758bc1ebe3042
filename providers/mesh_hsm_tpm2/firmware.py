"""Firmware known to give keys away. Open this file when a manufacturer publishes an advisory.

Only weaknesses that reach our keys are listed: elliptic curves, 256 bits and more. (ROCA, for one,
is about RSA.)
"""

from __future__ import annotations

from dataclasses import dataclass

Version = tuple[int, ...]
"""TPM_PT_FIRMWARE_VERSION_1 and _2 as four numbers of 16 bits."""


@dataclass(frozen=True, slots=True)
class Weakness:
    """What is wrong from version ``first`` until, but not with, version ``fixed``."""

    manufacturer: str
    first: Version
    fixed: Version
    sentence: str


_ST = (
    "this firmware leaks ECDSA keys by timing (TPM-FAIL, CVE-2019-16863): update it, then make "
    "new keys"
)
_INTEL = (
    "this firmware leaks ECDSA keys by timing (TPM-FAIL, CVE-2019-11090): update the machine's "
    "firmware, then make new keys"
)
_WEAKNESSES = (
    # STMicroelectronics, "Information on ST's TPM firmware update – ECDSA signature generation".
    Weakness("STM", (71, 0), (71, 16), _ST),
    Weakness("STM", (73, 0), (73, 20), _ST),
    Weakness("STM", (74, 0), (74, 20), _ST),
    # Intel platform trust technology, INTEL-SA-00241.
    Weakness("INTC", (11, 0), (11, 8, 70), _INTEL),
    Weakness("INTC", (11, 10), (11, 11, 70), _INTEL),
    Weakness("INTC", (11, 20), (11, 22, 70), _INTEL),
    Weakness("INTC", (12, 0), (12, 0, 45), _INTEL),
    Weakness("INTC", (14, 0), (14, 0, 10), _INTEL),
    # Nuvoton NPCT7xx.
    Weakness(
        "NTC",
        (7, 0),
        (7, 2, 4, 0),
        "whoever opens this machine can measure agreement keys out of this TPM (CVE-2026-6923): "
        "update its firmware, then make new keys",
    ),
    # Nuvoton NPCT65x, SA-003.
    Weakness(
        "NTC",
        (1, 3),
        (1, 3, 2, 20),
        "any program that may use this TPM can stop it until power is cut (CVE-2023-1017): update "
        "its firmware",
    ),
)


def warnings(manufacturer: str, version: Version) -> tuple[str, ...]:
    """One sentence for each known weakness of a firmware."""
    return tuple(
        weakness.sentence
        for weakness in _WEAKNESSES
        if weakness.manufacturer == manufacturer and weakness.first <= version < weakness.fixed
    )
