"""Options of commands that make a key in a device: where it goes, what it asks for.

They are named after policies: an option ``--pin`` would invite people to type a PIN there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from mesh_hsm.custody import PinPolicy, TouchPolicy

F = TypeVar("F", bound=Callable[..., Any])
STRICT = "as strict as the token can"


def policy_options(default_pin: str = STRICT, default_touch: str = STRICT) -> Callable[[F], F]:
    """Give a command ``slot``, ``pin`` (``PinPolicy``) and ``touch`` (``TouchPolicy``), or None.

    The defaults are what is said of them; None leaves them to the command.
    """
    slot = click.option("--slot", help="The place of the key, where a device numbers them.")
    pin = click.option(
        "--pin-policy",
        "pin",
        type=click.Choice(["once", "always"]),
        callback=lambda ctx, param, value: PinPolicy(value) if value else None,
        help=f"When its PIN is asked for. [{default_pin}]",
    )
    touch = click.option(
        "--touch-policy",
        "touch",
        type=click.Choice(["none", "cached", "always"]),
        callback=lambda ctx, param, value: TouchPolicy(value) if value else None,
        help=f"When the device waits for a touch. [{default_touch}]",
    )
    return lambda command: slot(pin(touch(command)))
