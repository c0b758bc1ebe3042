"""``mesh-hsm doctor``: look for problems, change nothing."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from importlib import metadata

import click

from mesh_hsm_cli.lazy import CONTEXT, Verb
from mesh_hsm_cli.output import fields, printable
from mesh_hsm_cli.session import Session

EXIT_PROBLEM = 1
LIBRARIES = ("mesh-hsm", "cryptography", "click", "python-pkcs11", "tpm2-pytss", "yubikey-manager")
COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}


@click.command(
    "doctor", cls=Verb, example="mesh-hsm doctor\nmesh-hsm doctor --json", context_settings=CONTEXT
)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Look for problems with devices, keys, backup and set-up. Changes nothing.

    Each finding has a stable code (docs/reference/doctor.md) and says what to run. The exit code
    is 1 if something stops work, else 0.
    """
    from mesh_hsm_cli.checks import all_findings

    session: Session = ctx.obj
    found = all_findings(session, datetime.now(UTC))
    versions = {"python": platform.python_version()} | {
        name: version for name in LIBRARIES if (version := _version(name))
    }
    lines = fields(versions.items())
    for finding in found:
        code = click.style(f"{finding.code} {finding.severity}", fg=COLOURS[finding.severity])
        lines += ["", f"{code}: {printable(finding.problem)}", f"  {printable(finding.remedy)}"]
    session.output.result(
        {
            "versions": versions,
            "findings": [
                {
                    "code": finding.code,
                    "severity": finding.severity,
                    "problem": finding.problem,
                    "remedy": finding.remedy,
                }
                for finding in found
            ],
        },
        lines if found else [*lines, "", "no problem was found"],
    )
    if any(finding.severity == "error" for finding in found):
        ctx.exit(EXIT_PROBLEM)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
