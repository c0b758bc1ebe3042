"""Figures: what `ci/bench` prints, each beside a peer in the same run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from figures import Figure


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--figure", action="append", default=[], help="measure only these figures")
    parser.addoption("--figures-to", type=Path, help="append the figures to this file, as JSON")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "figures(*names): what a benchmark measures")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = set(config.getoption("--figure", default=[]))
    if not wanted:
        return
    chosen = [item for item in items if wanted & set(_names(item))]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen


def _names(item: pytest.Item) -> tuple[str, ...]:
    return tuple(str(name) for mark in item.iter_markers("figures") for name in mark.args)


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Figure:
    """Leave one figure: value, unit, bound (None: only told), and its peer."""

    def leave(name: str, value: float, unit: str, bound: float | None, peer: str) -> None:
        assert name in _names(request.node), f"{name} is not among this benchmark's figures"
        holds = bound is None or value <= bound
        row = {"name": name, "value": round(value, 4), "unit": unit, "bound": bound, "peer": peer}
        target: Path | None = request.config.getoption("--figures-to", default=None)
        wanted = request.config.getoption("--figure", default=[])
        if target is not None and (not wanted or name in wanted):
            with target.open("a") as out:
                out.write(json.dumps({**row, "holds": holds}) + "\n")

    return leave
