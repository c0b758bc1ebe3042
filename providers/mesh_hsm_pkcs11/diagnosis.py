"""What ``doctor`` finds wrong with modules and tokens. Open this file for the codes PKCS11001…

Each has a section in docs/reference/doctor.md. Nothing is changed, and nobody is asked anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mesh_hsm.provider import Finding


def of_everything(records: Path) -> Iterator[Finding]:
    yield from ()
