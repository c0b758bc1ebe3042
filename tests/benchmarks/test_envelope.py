"""One GiB through an envelope and through `age`, file to file, in turn."""

from __future__ import annotations

import contextlib
import filecmp
import itertools
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
ROUNDS = 8  # each is first in half of them
WORKER = Path(__file__).with_name("envelope_worker.py")


def measured(*command: str | Path, durable: Path) -> tuple[float, float]:
    """Seconds until what one process has made is on the disk, and MiB at its peak.

    We flush to the disk before we rename; age leaves that to others, so it is done here for both.

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
    with durable.open("rb") as made:
        os.fsync(made.fileno())
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

    turns = itertools.cycle((True, False))

    def both_ways() -> None:
        we_first = next(turns)
        for step, (mine, theirs, my_file, their_file) in steps.items():
            pair = [(ours, mine, my_file), (peer, theirs, their_file)]
            for results, command, made in pair if we_first else reversed(pair):
                # The same start for both: no output there, nothing waiting to be written.
                made.unlink(missing_ok=True)
                os.sync()
                results[step].append(measured(*command, durable=made))
                if step == "decode":
                    assert filecmp.cmp(made, clear, shallow=False)
                    made.unlink()

    benchmark.pedantic(both_ways, rounds=ROUNDS, warmup_rounds=1)
    for step in steps:
        mine, theirs = (statistics.median(t for t, _ in runs) for runs in (ours[step], peer[step]))
        figure(f"envelope-{step}", mine / theirs, "times", 1.0, "age, 1 GiB from file to disk")
        peak = max(memory for _, memory in ours[step])
        theirs_peak = max(memory for _, memory in peer[step])
        figure(f"envelope-{step}-memory", peak, "MiB", 64, f"age: {theirs_peak:.0f} MiB")
