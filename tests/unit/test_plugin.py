"""The pytest plugin in a project of somebody else's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TEST = """
def test_it(swtpm):
    assert swtpm.tcti.startswith("swtpm:")
    assert swtpm.handles() == []
"""


def run(folder: Path, *options: str, path: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_theirs.py").write_text(TEST)
    (folder / "pytest.ini").write_text("[pytest]\n")
    code = (
        f"import sys; sys.path[:0] = {sys.path!r}\n"
        "from importlib.metadata import entry_points\n"
        "import pytest\n"
        "known = {point.value for point in entry_points(group='pytest11')}\n"
        "name = 'mesh_hsm.testing.plugin'\n"
        "sys.exit(pytest.main(sys.argv[1:] + ([] if name in known else ['-p', name])))\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code, "-q", "-rs", "-p", "no:cacheprovider", *options],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_an_absent_simulator_skips_and_says_so(tmp_path: Path) -> None:
    done = run(tmp_path, path="/nowhere")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 skipped" in done.stdout
    assert "swtpm is not installed" in done.stdout


def test_a_required_simulator_that_is_absent_fails(tmp_path: Path) -> None:
    done = run(tmp_path, "--require-simulator", "swtpm", path="/nowhere")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "a required simulator is absent" in done.stdout


@pytest.mark.skipif(shutil.which("swtpm") is None, reason="swtpm is not installed")
def test_a_simulator_is_started_for_the_test(tmp_path: Path) -> None:
    done = run(tmp_path, path=os.environ["PATH"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
