"""PINs of several administrators in one command, each from a door of his own.

Open this file to see why one administrator's PIN is never tried on another's token: what is asked
for is bound to the name of an administrator, on the terminal and in ``--admin-pin-fd NAME=N``.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import click

from mesh_hsm.errors import SecretRequiredError
from mesh_hsm.secret_source import AwaitsTouch, SecretKind, SecretRequest
from mesh_hsm_cli import terminal
from mesh_hsm_cli.secret_options import CommandSecrets, Descriptor, Source, Variable
from mesh_hsm_cli.session import Session

F = TypeVar("F", bound=Callable[..., Any])
_THEIRS: Final = {
    SecretKind.PIN,
    SecretKind.NEW_PIN,
    SecretKind.PASSPHRASE,
    SecretKind.NEW_PASSPHRASE,
}
_NEW: Final = {SecretKind.NEW_PIN, SecretKind.NEW_PASSPHRASE}


@dataclass(slots=True, repr=False)
class AdministratorSecrets:
    """The ``SecretSource`` of one administrator's token. One answer serves all its keys.

    Whatever is no PIN or passphrase of his is asked as the command asks it.
    """

    name: str
    command: CommandSecrets
    remembered: dict[bool, bytes] = field(default_factory=dict)

    def secret(self, request: SecretRequest) -> bytes:
        """The answer. What tries are left is said first."""
        if request.kind not in _THEIRS:
            return self.command.secret(request)
        self.command.say_tries(request)
        # One that is only being set may not be the one that a device has: asked for apart.
        new = request.kind in _NEW and self.name not in self.command.administrators
        if new not in self.remembered:
            self.remembered[new] = self._find(request)
        return self.remembered[new]

    def _find(self, request: SecretRequest) -> bytes:
        prompt = f"{request.kind} of {self._called(request.subject)}"
        if source := self.command.administrators.get(self.name):
            found = source.read()
        elif terminal.present():
            ask = terminal.ask_new if request.kind in _NEW else terminal.ask_hidden
            found = ask(prompt[0].upper() + prompt[1:])
        else:
            raise SecretRequiredError(
                f"the {prompt} is needed and there is no terminal to ask on",
                hint=f"name a source with --admin-pin-fd {self.name}=N",
            )
        if not found:
            raise SecretRequiredError(f"no {prompt} was given")
        return found

    def _called(self, subject: str) -> str:
        return f"{subject} (administrator {self.name})"

    def consents_to_last_try(self, request: SecretRequest) -> bool:
        """As the command does."""
        return self.command.consents_to_last_try(request)

    def awaiting_touch(self, subject: str) -> AbstractContextManager[None]:
        """As the command does, if it tells people when to touch."""
        if isinstance(self.command, AwaitsTouch):
            return self.command.awaiting_touch(self._called(subject))
        return nullcontext()


def secrets_of(session: Session, name: str) -> AdministratorSecrets:
    """What answers for the token of one administrator."""
    return AdministratorSecrets(name, session.secrets)


def admin_pin_options(command: F) -> F:
    """Give a command ``--admin-pin-fd NAME=N`` and ``--admin-pin-env NAME=VARIABLE``."""
    command = click.option(
        "--admin-pin-env",
        metavar="NAME=VARIABLE",
        multiple=True,
        expose_value=False,
        callback=_from_variables,
        help="Environment variable with the PIN of an administrator's token.",
    )(command)
    return click.option(
        "--admin-pin-fd",
        metavar="NAME=N",
        multiple=True,
        expose_value=False,
        callback=_from_descriptors,
        help="File descriptor with the PIN of an administrator's token (one line).",
    )(command)


def _from_descriptors(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> None:
    for name, number in map(named_value, value):
        if not number.isdecimal():
            raise click.BadParameter(f"{number} is no file descriptor")
        source, secrets = Descriptor(int(number)), ctx.obj.secrets
        if source in (*secrets.sources.values(), *secrets.administrators.values()):
            raise click.UsageError(f"descriptor {number} can give one secret, not two")
        _add(ctx.obj.secrets, name, source)


def _from_variables(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> None:
    for name, variable in map(named_value, value):
        _add(ctx.obj.secrets, name, Variable(variable))


def _add(secrets: CommandSecrets, name: str, source: Source) -> None:
    if name in secrets.administrators:
        raise click.UsageError(f"the PIN of {name} has two sources")
    secrets.administrators[name] = source


def named_value(text: str) -> tuple[str, str]:
    """``NAME=VALUE`` as two. Raises ``click.BadParameter``."""
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise click.BadParameter(f"{text} is not NAME=VALUE")
    return name, value
