"""ci/quickstart tells the main job from beginning to end; run again, it damages nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHAPTERS = [f"{number}. " for number in range(1, 10)]


def quickstart(state: Path) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MESH_HSM")}
    done = subprocess.run(
        [ROOT / "ci" / "quickstart", "--swtpm", "--state", state],
        env=kept | {"MESH_HSM_PKCS11_MODULE": ""},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(
    Path(sys.prefix).resolve() != (ROOT / ".venv").resolve(),
    reason="quickstart would install an environment of its own; ci/test runs in that one",
)
@pytest.mark.skipif(shutil.which("swtpm") is None, reason="swtpm is not installed")
def test_twice(tmp_path: Path) -> None:
    first = quickstart(tmp_path)
    assert [line[:3] for line in first.splitlines() if line[:3] in CHAPTERS] == CHAPTERS
    assert "SIMULATOR" in first
    assert "custody:  generated" in first
    assert "composite:         proved" in first
    assert "Refused, with exit code" in first
    assert first.count("The same, octet for octet.") == 2
    kept = {
        path: path.read_bytes()
        for pattern in (
            "**/record.json",
            "**/*.keys",
            "**/providers/tpm2/**/*",
            "*.dare",
            "letter*",
        )
        for path in tmp_path.glob(pattern)
        if path.is_file() and "lock" not in path.name
    }
    assert len(kept) > 8

    second = quickstart(tmp_path)
    assert "It is there already" in second
    assert second.count("The same, octet for octet.") == 2
    assert {path: path.read_bytes() for path in kept} == kept
