"""``mesh-hsm completion``: the script that teaches a shell our commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from mesh_hsm.errors import UnsupportedError
from mesh_hsm_cli.lazy import CONTEXT, Verb
from mesh_hsm_cli.session import Session


@click.command(
    "completion",
    cls=Verb,
    example='eval "$(mesh-hsm completion bash)"\n'
    "mesh-hsm completion fish > ~/.config/fish/completions/mesh-hsm.fish",
    context_settings=CONTEXT,
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the completion script for SHELL."""
    session: Session = ctx.obj
    make = get_completion_class(shell)
    if make is None:
        raise UnsupportedError(f"this version of click has no completion for {shell}")
    script = make(ctx.find_root().command, {}, "mesh-hsm", "_MESH_HSM_COMPLETE").source()
    session.output.result({"shell": shell, "script": script}, [script])
