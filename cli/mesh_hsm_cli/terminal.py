"""Questions to the person at the terminal, whatever stdin and stdout are redirected to.

Open this file to change how something is asked. Without a terminal every question fails closed.
"""

from __future__ import annotations

import os
from getpass import getpass

from mesh_hsm.errors import SecretRequiredError
from mesh_hsm_cli.output import printable


def present() -> bool:
    """True if somebody can be asked."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def ask_hidden(prompt: str) -> bytes:
    """A secret, typed without echo."""
    return getpass(f"{printable(prompt)}: ").encode()


def ask_new(prompt: str) -> bytes:
    """A secret, typed twice."""
    first = ask_hidden(prompt)
    if ask_hidden(f"{prompt}, again") != first:
        raise SecretRequiredError("the two entries differ", hint="run the command again")
    return first


def ask_line(prompt: str, above: str | None = None) -> str:
    """A line, echoed; empty at the end of input. ``above`` is shown on a line of its own."""
    with open("/dev/tty", "w", encoding="utf-8") as screen:
        if above is not None:
            screen.write(f"{printable(above)}\n")
        screen.write(f"{printable(prompt)}: ")
    with open("/dev/tty", encoding="utf-8") as keyboard:
        return keyboard.readline().strip()


def confirm(question: str, above: str | None = None) -> bool:
    """True for an explicit yes; False by default and without a terminal."""
    return present() and ask_line(f"{question} [y/N]", above).lower() in ("y", "yes")
