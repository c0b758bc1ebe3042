"""``mesh-hsm testing``: throw-away devices for your own tests."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

import click

from mesh_hsm_cli.lazy import CONTEXT, Verb, noun
from mesh_hsm_cli.session import Session

if TYPE_CHECKING:
    from mesh_hsm.testing.softhsm import HsmToken
    from mesh_hsm.testing.virtual_yubikey.rig import PluggedIn

MOST_TOKENS = 16
_FIRMWARE = {"4.3": (4, 3, 0), "5.4": (5, 4, 3), "5.7": (5, 7, 1)}
_SERIAL = 30_000_001

command = noun("Throw-away devices for your own tests.")


# What follows COMMAND belongs to it, also without "--".
@command.command(
    "softhsm",
    cls=Verb,
    example="mesh-hsm testing softhsm -- pytest\n"
    "mesh-hsm testing softhsm --tokens 2 -- ./test-everything",
    context_settings=CONTEXT | {"allow_interspersed_args": False},
)
@click.option("--label", default="test", show_default=True, help="The token's label.")
@click.option(
    "--tokens",
    "count",
    type=click.IntRange(1, MOST_TOKENS),
    default=1,
    show_default=True,
    help="How many; the second one's label ends in -2, its variables in _2.",
)
@click.argument("program", metavar="COMMAND...", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def softhsm(ctx: click.Context, label: str, count: int, program: tuple[str, ...]) -> None:
    """Run COMMAND with a PKCS #11 token that is made for it and removed after it.

    COMMAND finds in its environment MESH_HSM_TEST_TOKEN, the token's URI, and MESH_HSM_TEST_PIN
    and MESH_HSM_TEST_SO_PIN; SOFTHSM2_CONF and MESH_HSM_PKCS11_MODULE lead to this token alone.
    MESH_HSM_HOME is a folder that goes with it. The exit code is COMMAND's.
    """
    from mesh_hsm.testing.softhsm import Softhsm
    from mesh_hsm_cli.foreground import run, signals_held

    session: Session = ctx.obj
    output = session.output
    with signals_held(), Softhsm(label) as rig:
        tokens = [rig.token, *(rig.add_token(f"{label}-{n}") for n in range(2, count + 1))]
        environment = os.environ | rig.environment | {"MESH_HSM_HOME": str(rig.folder / "home")}
        for number, token in enumerate(tokens, start=1):
            environment |= _variables(token, "" if number == 1 else f"_{number}")
        output.notice(
            "SIMULATOR: SoftHSM protects no key, and these tokens are gone when the command ends",
            loud=True,
        )
        code = run(program, environment, quiet=output.as_json)
    if output.as_json:
        output.result({"exit_code": code, "tokens": [token.uri for token in tokens]}, [])
    ctx.exit(code)


def _variables(token: HsmToken, suffix: str) -> dict[str, str]:
    return {
        f"MESH_HSM_TEST_TOKEN{suffix}": token.uri,
        f"MESH_HSM_TEST_PIN{suffix}": token.pin,
        f"MESH_HSM_TEST_SO_PIN{suffix}": token.so_pin,
    }


@command.command(
    "yubikey",
    cls=Verb,
    example="mesh-hsm testing yubikey -- pytest\n"
    "mesh-hsm testing yubikey --firmware 5.4 -- ykman piv info",
    context_settings=CONTEXT | {"allow_interspersed_args": False},
)
@click.option(
    "--firmware",
    type=click.Choice(list(_FIRMWARE)),
    default="5.7",
    show_default=True,
    help="5.4 has what Yubico calls EUCLEAK, 4.3 ROCA.",
)
@click.option(
    "--serial", type=int, default=_SERIAL, show_default=True, help="The first one's serial number."
)
@click.option(
    "--count",
    type=click.IntRange(1, MOST_TOKENS),
    default=1,
    show_default=True,
    help="How many; the second one's serial number is the next, its variables end in _2.",
)
@click.option("--factory", is_flag=True, help="As it leaves the factory: not yet set up.")
@click.option(
    "--touch",
    type=click.Choice(["automatic", "never"]),
    default="automatic",
    show_default=True,
    help="Whether a key that wants a touch gets one, at once, or is refused.",
)
@click.argument("program", metavar="COMMAND...", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def yubikey(
    ctx: click.Context,
    firmware: str,
    serial: int,
    count: int,
    factory: bool,
    touch: Literal["automatic", "never"],
    program: tuple[str, ...],
) -> None:
    """Run COMMAND with a simulated YubiKey that is plugged in for it and gone after it.

    COMMAND finds in its environment MESH_HSM_TEST_TOKEN, the YubiKey's URI, and MESH_HSM_TEST_PIN
    and MESH_HSM_TEST_PUK; PCSCLITE_CSOCK_NAME leads every program that uses PC/SC to this YubiKey
    alone. MESH_HSM_HOME is a folder that goes with it. The exit code is COMMAND's.
    """
    from mesh_hsm.testing.virtual_yubikey.pcsc_service import PcscService
    from mesh_hsm.testing.virtual_yubikey.rig import YubiKeyRig
    from mesh_hsm_cli.foreground import run, signals_held

    session: Session = ctx.obj
    output = session.output
    version = _FIRMWARE[firmware]
    with (
        signals_held(),
        PcscService() as service,
        YubiKeyRig(service, serial=serial, firmware=version, factory=factory) as rig,
    ):
        for number in range(1, count):
            rig.add(serial + number, version)
        environment = os.environ | rig.environment | {"MESH_HSM_HOME": str(rig.folder / "home")}
        for number, key in enumerate(rig.keys, start=1):
            key.device.touch = touch
            environment |= _yubikey_variables(key, "" if number == 1 else f"_{number}")
        output.notice(
            "SIMULATOR: a virtual YubiKey protects no key, and is gone when the command ends",
            loud=True,
        )
        tokens = [key.uri for key in rig.keys]
        code = run(program, environment, quiet=output.as_json)
    if output.as_json:
        output.result({"exit_code": code, "tokens": tokens}, [])
    ctx.exit(code)


def _yubikey_variables(key: PluggedIn, suffix: str) -> dict[str, str]:
    return {
        f"MESH_HSM_TEST_TOKEN{suffix}": key.uri,
        f"MESH_HSM_TEST_PIN{suffix}": key.pin,
        f"MESH_HSM_TEST_PUK{suffix}": key.puk,
    }
