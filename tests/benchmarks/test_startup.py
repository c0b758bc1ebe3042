"""How long a person waits before the first word."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from figures import Figure, side_by_side
from pytest_benchmark.fixture import BenchmarkFixture

PROGRAMS = Path(sys.executable).parent


@pytest.mark.figures("startup")
def test_help(benchmark: BenchmarkFixture, figure: Figure, tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def run(program: str, option: str) -> None:
        command = [PROGRAMS / program, option]
        subprocess.run(command, check=True, capture_output=True, env=environment)

    ratio = side_by_side(
        benchmark, lambda: run("mesh-hsm", "--help"), lambda: run("ykman", "--version"), 15
    )
    figure("startup", ratio, "times", 0.5, "ykman --version")
