"""Runs the benchmarks and prints their figures: `ci/bench` calls this.

    report.py [--json] [NAME…]

Exit code 1 if a bound does not hold, 2 for a name that no benchmark measures.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def known() -> list[str]:
    """Every figure, read from the benchmarks' markers."""
    marks = (
        re.findall(r"mark\.figures\(([^)]*)\)", file.read_text())
        for file in sorted(HERE.glob("test_*.py"))
    )
    return [name for found in marks for mark in found for name in re.findall(r'"([^"]+)"', mark)]


def measured(names: list[str]) -> tuple[list[dict[str, Any]], int]:
    """The figures, and pytest's exit code."""
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder) / "figures"
        figures.touch()
        command = [sys.executable, "-m", "pytest", HERE, "-q", "-p", "no:cacheprovider"]
        command += ["--benchmark-disable-gc", "--benchmark-quiet", f"--figures-to={figures}"]
        command += [f"--figure={name}" for name in names]
        done = subprocess.run(command, cwd=ROOT, stdout=sys.stderr)
        return [json.loads(line) for line in figures.read_text().splitlines()], done.returncode


def table(rows: list[dict[str, Any]]) -> str:
    """The figures as a person reads them."""
    head = ("name", "value", "unit", "bound", "holds", "peer")
    cells = [head] + [
        (
            row["name"],
            f"{row['value']:g}",
            row["unit"],
            "-" if row["bound"] is None else f"{row['bound']:g}",
            "yes" if row["holds"] else "NO",
            row["peer"],
        )
        for row in rows
    ]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )


def main(arguments: list[str]) -> int:
    """Measure, print, judge."""
    names = [argument for argument in arguments if argument != "--json"]
    unknown = [name for name in names if name not in known()]
    if unknown:
        print(
            f"no such figure: {', '.join(unknown)}; there are: {', '.join(known())}",
            file=sys.stderr,
        )
        return 2
    rows, code = measured(names)
    if "--json" in arguments:
        print("\n".join(json.dumps(row) for row in rows))
    else:
        print(table(rows))
    return code or int(not all(row["holds"] for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
