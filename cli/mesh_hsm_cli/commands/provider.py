"""``mesh-hsm provider``: which kinds of device are installed."""

from __future__ import annotations

import click

from mesh_hsm_cli.lazy import noun, verb
from mesh_hsm_cli.output import table
from mesh_hsm_cli.session import Session

command = noun("Kinds of device that are installed.")


@verb(command, "list", example="mesh-hsm provider list")
@click.pass_obj
def list_providers(session: Session) -> None:
    """List the installed providers, without loading their libraries."""
    from mesh_hsm import registry

    found = [
        {
            "scheme": scheme,
            "module": point.module,
            "distribution": point.dist.name if point.dist else None,
            "version": point.dist.version if point.dist else None,
        }
        for scheme, point in registry.installed().items()
    ]
    rows = [
        [str(p["scheme"]), str(p["module"]), f"{p['distribution']} {p['version']}"] for p in found
    ]
    session.output.result(
        {"providers": found},
        table(["SCHEME", "MODULE", "FROM"], rows, "no provider is installed"),
    )
