"""``mesh-hsm token``: the devices that hold keys, as they describe themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mesh_hsm.errors import ProviderUnavailableError
from mesh_hsm.uri import Uri
from mesh_hsm_cli.lazy import noun, verb
from mesh_hsm_cli.output import fields, table
from mesh_hsm_cli.secret_options import secret_options
from mesh_hsm_cli.session import Session

if TYPE_CHECKING:
    from mesh_hsm.provider import TokenInfo

command = noun("Devices that hold keys: TPM, software store.")


@verb(command, "list", example="mesh-hsm token list")
@click.pass_obj
def list_tokens(session: Session) -> None:
    """List what is plugged in, without logging in anywhere."""
    found: list[TokenInfo] = []
    for provider in session.providers():
        try:
            if isinstance(provider, ProviderUnavailableError):
                raise provider
            found += provider.tokens()
        except ProviderUnavailableError as error:
            session.output.notice(f"{error} ({error.hint or 'mesh-hsm doctor says more'})")
    rows = [[str(t.uri), t.label, f"{t.manufacturer} {t.model}".strip(), t.hardware] for t in found]
    session.output.result(
        {"tokens": [describe(info) for info in found]},
        table(["TOKEN", "LABEL", "MODEL", "HARDWARE"], rows, "no token was found"),
    )


@verb(command, "show", example="mesh-hsm token show tpm2:")
@click.argument("token", metavar="TOKEN")
@secret_options("pin", "passphrase")
@click.pass_obj
def show(session: Session, token: str) -> None:
    """Show one token and what it says it can do."""
    with session.open(Uri.parse(token)) as opened:
        info = opened.info
        powers = sorted(opened.capabilities(), key=lambda c: (c.algorithm, c.primitive, c.custody))
    rows = [[c.algorithm, c.primitive, c.custody] for c in powers]
    session.output.result(
        {
            "token": describe(info),
            "capabilities": [
                {"algorithm": c.algorithm, "primitive": c.primitive, "custody": c.custody}
                for c in powers
            ],
        },
        [
            *fields(
                [
                    ("token", str(info.uri)),
                    ("label", info.label),
                    ("model", f"{info.manufacturer} {info.model}".strip()),
                    ("serial", info.serial),
                    ("firmware", info.firmware),
                    ("hardware", info.hardware),
                ]
            ),
            "",
            *table(["ALGORITHM", "PRIMITIVE", "CUSTODY"], rows, "it can do nothing for us"),
        ],
    )


def describe(info: TokenInfo) -> dict[str, Any]:
    """The JSON form of a token."""
    return {
        "uri": str(info.uri),
        "label": info.label,
        "manufacturer": info.manufacturer,
        "model": info.model,
        "serial": info.serial,
        "firmware": info.firmware,
        "hardware": info.hardware,
    }
