"""Comparing: the same call done by us and by a peer, in turn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from pytest_benchmark.fixture import BenchmarkFixture

Figure = Callable[[str, float, str, float | None, str], None]
"""Leaves a figure: name, value, unit, bound (None: only told), peer."""


def side_by_side(
    benchmark: BenchmarkFixture,
    ours: Callable[[], object],
    peer: Callable[[], object],
    rounds: int,
) -> float:
    """The median time of ours over that of the peer's, called in turn so that noise hits both."""
    times: tuple[list[float], list[float]] = ([], [])

    def both() -> None:
        for call, taken in zip((ours, peer), times, strict=True):
            start = time.perf_counter()
            call()
            taken.append(time.perf_counter() - start)

    benchmark.pedantic(both, rounds=rounds, warmup_rounds=3)
    mine, theirs = map(statistics.median, times)
    return mine / theirs
