"""How commands are declared: an example each, ``--json`` everywhere, modules loaded when named.

Open this file to add a noun or to see why ``mesh-hsm --help`` imports no library.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, cast

import click

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class ReaderGoneError(Exception):
    """Whoever read our output has closed it."""


class LazyGroup(click.Group):
    """A group whose commands are modules ``mesh_hsm_cli.commands.<name>``, each with ``command``.

    ``nouns`` maps a name to its one-line help, so that listing them imports none.
    """

    def __init__(self, *args: Any, nouns: dict[str, str], **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.nouns = nouns

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The nouns in the order in which a person meets them."""
        return list(self.nouns)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the noun's module."""
        if cmd_name not in self.nouns:
            return None
        module = import_module(f"mesh_hsm_cli.commands.{cmd_name}")
        return cast("click.Command", module.command)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. click would end the process by itself when our reader goes away."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise ReaderGoneError from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the nouns from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl(list(self.nouns.items()))


class Verb(click.Command):
    """A command with ``--json`` and at least one example in its help."""

    def __init__(self, *args: Any, example: str, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.example = example
        self.params.append(
            click.Option(
                ["--json", "as_json"],
                is_flag=True,
                expose_value=False,
                callback=_choose_json,
                is_eager=True,
                help="Print one JSON object (docs/reference/json.md).",
            )
        )

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show the example, each line as it is typed."""
        with formatter.section("Example"):
            for line in self.example.splitlines():
                formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


def _choose_json(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    ctx.obj.output.as_json = value


def verb(
    group: click.Group, name: str, *, example: str
) -> Callable[[Callable[..., None]], click.Command]:
    """Declare a verb of a noun: ``@verb(command, "list", example="mesh-hsm key list")``."""
    return group.command(name, cls=Verb, example=example, context_settings=CONTEXT)


def noun(help_text: str) -> click.Group:
    """Make a noun: a group that prints its help when no verb is given."""
    return click.Group(help=help_text, context_settings=CONTEXT)
