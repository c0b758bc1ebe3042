"""What is printed: results on stdout, everything else on stderr, for people or as JSON.

Open this file to change how a table, a notice or an error looks.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click

from mesh_hsm.errors import MeshHsmError

_ERASE_LINE = "\r\x1b[K"  # ECMA-48: carriage return, erase to the end of the line
FACTS = ("hint", "uri", "attempts_remaining", "recovery_seconds")


class Output:
    """One command's voice. ``as_json`` is set by ``--json``."""

    def __init__(self) -> None:
        self.as_json = False

    def result(self, data: Mapping[str, Any], lines: Iterable[str]) -> None:
        """Print the command's result: ``data`` with ``--json``, else the lines."""
        if self.as_json:
            click.echo(json.dumps(data, indent=2, ensure_ascii=True))
        else:
            for line in lines:
                click.echo(line)

    def notice(self, text: str, *, loud: bool = False) -> None:
        """Say something beside the result, on stderr."""
        if self.as_json:
            click.echo(json.dumps({"notice": text}), err=True)
        else:
            click.secho(printable(text), err=True, fg="yellow" if loud else None, bold=loud)

    @contextmanager
    def waiting(self, text: str) -> Iterator[None]:
        """Say that a person has to do something now; on a terminal only until it is done."""
        if self.as_json or not sys.stderr.isatty():
            self.notice(text, loud=True)
            yield
            return
        click.secho(printable(text), err=True, fg="yellow", bold=True, nl=False)
        try:
            yield
        finally:
            click.echo(_ERASE_LINE, err=True, nl=False)


def report(
    kind: str, message: str, exit_code: int, *, as_json: bool, **facts: str | int | None
) -> None:
    """Say on stderr what went wrong: one line and a hint, or one JSON object."""
    if as_json:
        known = {name: value for name, value in facts.items() if value is not None}
        body = {"type": kind, "message": message, "exit_code": exit_code} | known
        click.echo(json.dumps({"error": body}), err=True)
        return
    click.echo(f"{click.style('error:', fg='red', bold=True)} {printable(message)}", err=True)
    if hint := facts.get("hint"):
        click.echo(f"{click.style('hint:', fg='cyan')} {printable(str(hint))}", err=True)


def report_error(error: MeshHsmError, *, as_json: bool) -> None:
    """Say what an expected failure was, with the facts it carries."""
    facts = {name: getattr(error, name, None) for name in FACTS}
    report(type(error).__name__, str(error), error.exit_code, as_json=as_json, **facts)


def printable(text: str) -> str:
    """The text on one line, without characters that steer a terminal.

    Labels, file names and device strings come from others.
    """
    return "".join(
        char if char.isprintable() else f"\\x{ord(char):02x}" for char in text.replace("\n", " ")
    )


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], empty: str) -> list[str]:
    """Aligned columns with a bold header; ``empty`` where there is nothing to list."""
    if not rows:
        return [empty]
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headers, *cells, strict=True)]
    head = _columns(headers, widths)
    return [click.style(head, bold=True), *(_columns(row, widths) for row in cells)]


def _columns(row: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def fields(pairs: Iterable[tuple[str, str | None]], indent: int = 0) -> list[str]:
    """``name: value`` lines with aligned values; pairs without a value are left out."""
    present = [(name, printable(value)) for name, value in pairs if value]
    width = max((len(name) for name, _ in present), default=0) + 1
    return [f"{'':{indent}}{name + ':':{width}} {value}" for name, value in present]


def close_stdout_quietly() -> None:
    """After a reader went away, keep the interpreter from complaining at exit."""
    import os

    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
