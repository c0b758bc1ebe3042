"""Where a command's PINs and passphrases come from: the terminal, a descriptor, a named variable.

Open this file to see every door through which a secret enters. None is an argument: argument
lists are readable by every process of the machine.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

import click

from mesh_hsm.errors import SecretRequiredError
from mesh_hsm.secret_source import SecretKind, SecretRequest
from mesh_hsm_cli import terminal

F = TypeVar("F", bound=Callable[..., Any])
MAX_OCTETS = 1024

# Which options answer which question, best first. Options that a command does not offer count
# for nothing, and where it offers --new-…, only that answers for a new secret.
ANSWERS: dict[SecretKind, tuple[str, ...]] = {
    SecretKind.PIN: ("pin",),
    SecretKind.NEW_PIN: ("new-pin", "pin"),
    SecretKind.PASSPHRASE: ("store-passphrase", "passphrase"),
    SecretKind.NEW_PASSPHRASE: ("new-passphrase", "store-passphrase", "passphrase"),
    SecretKind.BACKUP_PASSPHRASE: ("passphrase",),
    SecretKind.NEW_BACKUP_PASSPHRASE: ("passphrase",),
    SecretKind.OWNER_AUTH: ("owner-auth",),
    SecretKind.SO_PIN: ("so-pin",),
    SecretKind.NEW_SO_PIN: ("new-so-pin",),
    SecretKind.PUK: ("puk",),
    SecretKind.NEW_PUK: ("new-puk",),
    SecretKind.MANAGEMENT_KEY: ("management-key",),
}
SPEAKS_OF = {
    "pin": "the device keys' PIN",
    "master-pin": "the PIN of the device that holds the master key",
    "new-pin": "the new PIN",
    "passphrase": "the passphrase",
    "new-passphrase": "the new passphrase",
    "store-passphrase": "the software key store's passphrase",
    "owner-auth": "the TPM's owner password",
    "so-pin": "the security officer's PIN",
    "new-so-pin": "the security officer's new PIN",
    "puk": "the YubiKey's PUK",
    "new-puk": "the YubiKey's new PUK",
    "management-key": "the YubiKey's management key (hexadecimal)",
}
_NEW = {
    SecretKind.NEW_PIN,
    SecretKind.NEW_PASSPHRASE,
    SecretKind.NEW_BACKUP_PASSPHRASE,
    SecretKind.NEW_SO_PIN,
    SecretKind.NEW_PUK,
}
_COUNTED = {"pin", "master-pin", "so-pin", "puk"}  # devices count wrong tries at these
_SHARED = {SecretKind.PIN, SecretKind.NEW_PIN}  # one PIN serves all keys of one device


class Source(Protocol):
    """A door through which one secret comes."""

    def read(self) -> bytes:
        """The secret. Raises ``SecretRequiredError``."""
        ...


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A file descriptor, by its number."""

    number: int

    def read(self) -> bytes:
        """One line, or all there is; no octet beyond the line's end is taken."""
        octets = bytearray()
        try:
            while len(octets) <= MAX_OCTETS:
                octet = os.read(self.number, 1)
                if octet in (b"", b"\n"):
                    return bytes(octets)
                octets += octet
        except (OSError, OverflowError) as error:
            raise SecretRequiredError(
                f"file descriptor {self.number} cannot be read", hint="as in: --pin-fd 3 3<FILE"
            ) from error
        raise SecretRequiredError(f"a secret has at most {MAX_OCTETS} octets")


@dataclass(frozen=True, slots=True)
class Variable:
    """An environment variable, by its name."""

    name: str

    def read(self) -> bytes:
        """All of it."""
        try:
            return os.environb[os.fsencode(self.name)]
        except KeyError:
            pass
        raise SecretRequiredError(f"the environment variable {self.name} is not set")


@dataclass(slots=True, repr=False)
class CommandSecrets:
    """The ``SecretSource`` of one run of one command. Each question is put once and remembered.

    A command that makes or changes several keys sets ``many_keys``: one new PIN serves them all.
    ``pin_option`` is the option that answers for PINs; see ``apart``.
    ``administrators`` are sources by a person's name, for ``administrator_secrets``.
    """

    say: Callable[[str], None]
    waiting: Callable[[str], AbstractContextManager[None]] = lambda text: nullcontext()
    offered: set[str] = field(default_factory=set)
    sources: dict[str, Source] = field(default_factory=dict)
    last_try: bool = False
    many_keys: bool = False
    pin_option: str = "pin"
    remembered: dict[tuple[SecretKind, str], bytes] = field(default_factory=dict)
    lines: dict[str, tuple[bytes, set[SecretKind]]] = field(default_factory=dict)
    administrators: dict[str, Source] = field(default_factory=dict)

    def secret(self, request: SecretRequest) -> bytes:
        """The answer. What tries are left is said first."""
        self.say_tries(request)
        shared = request.kind in _SHARED
        key = (request.kind, self.pin_option if shared else request.subject)
        if key not in self.remembered:
            self.remembered[key] = self._find(request)
        return self.remembered[key]

    def awaiting_touch(self, subject: str) -> AbstractContextManager[None]:
        """Tell a person to touch a device, for as long as it waits."""
        return self.waiting(f"Touch {subject}")

    def apart(self, pin_option: str) -> CommandSecrets:
        """The same source for a second device: a PIN meant for the first is never tried there."""
        return replace(self, pin_option=pin_option)

    def forget(self) -> None:
        """Forget what was said to a device: what comes next is another one."""
        kept = (SecretKind.PASSPHRASE, SecretKind.BACKUP_PASSPHRASE)
        self.remembered = {key: one for key, one in self.remembered.items() if key[0] in kept}

    def say_tries(self, request: SecretRequest) -> None:
        """Say what tries are left, where the device counts them."""
        left = request.attempts_remaining
        if left is not None:
            self.say(f"{request.subject}: {left} {'try' if left == 1 else 'tries'} left")

    def _find(self, request: SecretRequest) -> bytes:
        answers = [self.pin_option if name == "pin" else name for name in ANSWERS[request.kind]]
        names = [name for name in answers if name in self.offered]
        if names and names[0].startswith("new-"):
            names = names[:1]
        for name in names:
            if name in self.sources:
                if octets := self._line(name, request.kind):
                    return octets
                raise SecretRequiredError(f"the {request.kind} of {request.subject} is empty")
        prompt = f"{request.kind} of {self._called(request)}"
        if terminal.present():
            ask = terminal.ask_new if request.kind in _NEW else terminal.ask_hidden
            if octets := ask(prompt[0].upper() + prompt[1:]):
                return octets
            raise SecretRequiredError(f"no {prompt} was given")
        options = " or ".join(f"--{name}-fd" for name in names)
        raise SecretRequiredError(
            f"the {prompt} is needed and there is no terminal to ask on",
            hint=f"name a source with {options}" if options else "run it on a terminal",
        )

    def _line(self, name: str, kind: SecretKind) -> bytes:
        """A source's line: one answers questions of several kinds, but each kind only once.

        So one passphrase may serve backup and store, while that of a store is not tried on another.
        """
        line, served = self.lines.get(name, (b"", {kind}))
        if kind in served:
            line, served = self.sources[name].read(), set()
        self.lines[name] = (line, served | {kind})
        return line

    def _called(self, request: SecretRequest) -> str:
        """What the secret is for, as a person is asked."""
        if self.many_keys and request.kind is SecretKind.NEW_PIN:
            return f"{request.subject} and of every other key that this command touches"
        return request.subject

    def consents_to_last_try(self, request: SecretRequest) -> bool:
        """What ``--use-last-try`` said, else the answer of a person; no by default."""
        left = (
            "One try is left" if request.attempts_remaining else "Nobody knows what tries are left"
        )
        return self.last_try or terminal.confirm(
            f"{left} for the {request.kind} of {request.subject}; if it is wrong, the device may "
            "lock. Use it?"
        )


def secret_options(*names: str) -> Callable[[F], F]:
    """Give a command ``--NAME-fd`` and ``--NAME-env`` for each name, and ``--use-last-try``."""

    def decorate(command: F) -> F:
        for name in reversed(names):
            what = SPEAKS_OF[name]
            command = click.option(
                f"--{name}-env",
                metavar="NAME",
                expose_value=False,
                callback=_from_variable,
                help=f"Environment variable that holds {what}.",
            )(command)
            command = click.option(
                f"--{name}-fd",
                metavar="N",
                type=click.IntRange(min=0),
                expose_value=False,
                is_eager=True,
                callback=_from_descriptor,
                help=f"File descriptor from which {what} is read (one line).",
            )(command)
        if _COUNTED.intersection(names):
            command = click.option(
                "--use-last-try",
                is_flag=True,
                expose_value=False,
                callback=_allow_last_try,
                help="Spend even the last try before the device locks.",
            )(command)
        return command

    return decorate


def _from_descriptor(ctx: click.Context, param: click.Parameter, value: int | None) -> None:
    secrets: CommandSecrets = ctx.obj.secrets
    name = str(param.name).removesuffix("_fd").replace("_", "-")
    secrets.offered.add(name)
    if value is None:
        return
    if Descriptor(value) in secrets.sources.values():
        raise click.UsageError(f"descriptor {value} can give one secret, not two")
    secrets.sources[name] = Descriptor(value)


def _from_variable(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    name = str(param.name).removesuffix("_env").replace("_", "-")
    if value is None:
        return
    if name in ctx.obj.secrets.sources:
        raise click.UsageError(f"--{name}-fd and --{name}-env exclude each other")
    ctx.obj.secrets.sources[name] = Variable(value)


def _allow_last_try(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    ctx.obj.secrets.last_try = value
