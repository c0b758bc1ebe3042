"""One GiB through an envelope and through `age`, file to file, in turn."""

from __future__ import annotations

import contextlib
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
from figures import Figure
from pytest_benchmark.fixture import BenchmarkFixture

GIB = 1 << 30
ROUNDS = 5
WORKER = Path(__file__).with_name("envelope_worker.py")


def measured(*command: str | Path) -> tuple[float, float]:
    """Seconds, and MiB at the peak, of one process.

    The peak is the process's own VmHWM, read while it runs: what wait4 tells includes the memory of
    this process, from which it was forked.
    """
    start = time.perf_counter()
    process = subprocess.Popen(command)
    peak = 0
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text())
        peak = max(peak, int(found[1]) if found else 0)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.02)
    taken = time.perf_counter() - start
    assert process.returncode == 0, command
    return taken, peak / 1024


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gib")
    with (folder / "clear").open("wb") as out:
        for _ in range(GIB >> 24):
            out.write(os.urandom(1 << 24))
    subprocess.run(["age-keygen", "-o", folder / "age.key"], check=True, capture_output=True)
    return folder


@pytest.mark.figures(
    "envelope-encode", "envelope-decode", "envelope-encode-memory", "envelope-decode-memory"
)
def test_one_gib(folder: Path, benchmark: BenchmarkFixture, figure: Figure) -> None:
    recipient = re.search(r"age1\w+", (folder / "age.key").read_text())
    assert recipient
    clear, dare, age = folder / "clear", folder / "clear.dare", folder / "clear.age"
    steps: dict[str, tuple[tuple[str | Path, ...], tuple[str | Path, ...], Path, Path]] = {
        "encode": (
            (sys.executable, WORKER, "encode", clear, dare),
            ("age", "-r", recipient[0], "-o", age, clear),
            dare,
            age,
        ),
        "decode": (
            (sys.executable, WORKER, "decode", dare, folder / "again"),
            ("age", "-d", "-i", folder / "age.key", "-o", folder / "again.age", age),
            folder / "again",
            folder / "again.age",
        ),
    }
    ours: dict[str, list[tuple[float, float]]] = {step: [] for step in steps}
    peer: dict[str, list[tuple[float, float]]] = {step: [] for step in steps}

    def both_ways() -> None:
        for step, (mine, theirs, my_file, their_file) in steps.items():
            my_file.unlink(missing_ok=True)
            their_file.unlink(missing_ok=True)
            # What one program left to be written back must not slow the other down.
            os.sync()
            peer[step].append(measured(*theirs))
            os.sync()
            ours[step].append(measured(*mine))

    benchmark.pedantic(both_ways, rounds=ROUNDS, warmup_rounds=1)
    assert (folder / "again").read_bytes()[-4096:] == clear.read_bytes()[-4096:]
    for step in steps:
        mine, theirs = (statistics.median(t for t, _ in runs) for runs in (ours[step], peer[step]))
        figure(f"envelope-{step}", mine / theirs, "times", 1.0, "age, 1 GiB file to file")
        peak = max(memory for _, memory in ours[step])
        theirs_peak = max(memory for _, memory in peer[step])
        figure(f"envelope-{step}-memory", peak, "MiB", 64, f"age: {theirs_peak:.0f} MiB")
