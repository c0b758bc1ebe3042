"""``mesh-hsm token``: the devices that hold keys, as they describe themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mesh_hsm_cli.find import all_tokens, find_token, quoted
from mesh_hsm_cli.lazy import noun, verb
from mesh_hsm_cli.output import fields, printable, table
from mesh_hsm_cli.secret_options import secret_options
from mesh_hsm_cli.session import Session

if TYPE_CHECKING:
    from mesh_hsm.provider import Capability, TokenInfo
    from mesh_hsm.uri import Uri

command = noun("Devices that hold keys: TPM, HSM, software store.")


@verb(command, "list", example="mesh-hsm token list")
@click.pass_obj
def list_tokens(session: Session) -> None:
    """List what is plugged in, without logging in anywhere."""
    found, failed = all_tokens(session)
    for error in failed:
        session.output.notice(f"{error} ({error.hint or 'mesh-hsm doctor says more'})")
    rows = [[str(t.uri), t.label, f"{t.manufacturer} {t.model}".strip(), t.hardware] for t in found]
    empty = [info for info in found if not info.initialised]
    session.output.result(
        {"tokens": [describe(info) for info in found]},
        [
            *table(["TOKEN", "LABEL", "MODEL", "HARDWARE"], rows, "no token was found"),
            *[f"not initialised: {printable(_initialise(info))}" for info in empty],
        ],
    )


@verb(command, "show", example="mesh-hsm token show tpm2:\nmesh-hsm token show build-hsm")
@click.argument("token", metavar="TOKEN")
@secret_options("pin", "passphrase")
@click.pass_obj
def show(session: Session, token: str) -> None:
    """Show one token and what it says it can do. TOKEN is a URI or a label."""
    uri = find_token(session, token)
    info = _uninitialised(session, uri)
    powers: list[Capability] = []
    if info is None:
        with session.open(uri) as opened:
            info = opened.info
            powers += opened.capabilities()
    powers.sort(key=lambda c: (c.algorithm, c.primitive, c.custody))
    rows = [[c.algorithm, c.primitive, c.custody] for c in powers]
    nothing = f"it can do nothing{' for us' if info.initialised else ' yet'}"
    session.output.result(
        {
            "token": describe(info),
            "capabilities": [
                {"algorithm": c.algorithm, "primitive": c.primitive, "custody": c.custody}
                for c in powers
            ],
        },
        [
            *lines(info),
            "",
            *table(["ALGORITHM", "PRIMITIVE", "CUSTODY"], rows, nothing),
        ],
    )


@verb(
    command,
    "init",
    example="mesh-hsm token init 'pkcs11:model=SoftHSM%20v2;slot-id=1' --label build-hsm\n"
    "mesh-hsm token init build-hsm --label build-hsm --erase\n"
    "mesh-hsm token init 'yubikey:serial=12345678' --label alice-admin",
)
@click.argument("token", metavar="TOKEN")
@click.option("--label", required=True, help="What the token is called from then on.")
@click.option("--erase", is_flag=True, help="Erase an initialised token: its keys are lost.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Erase even keys that your Mesh or device needs.")
@click.option("--pin-tries", type=click.IntRange(min=1), help="Wrong PINs in a row that block it.")
@click.option("--puk-tries", type=click.IntRange(min=1), help="The same of the PUK.")
@secret_options("so-pin", "new-so-pin", "new-pin", "new-puk")
@click.pass_obj
def init(
    session: Session,
    token: str,
    label: str,
    erase: bool,
    yes: bool,
    force: bool,
    pin_tries: int | None,
    puk_tries: int | None,
) -> None:
    """Give a new token its label and its PINs: of HSMs the security officer's too, or a PUK.

    TOKEN is a URI, as token list shows it, or a label. A token that is initialised already is
    left alone without --erase; with it, the present security officer's PIN is needed, if it has
    one. A YubiKey gets a random management key, which its PIN protects from then on.
    """
    from mesh_hsm.provider import Tries
    from mesh_hsm_cli.choices import say_what_it_is
    from mesh_hsm_cli.erasing import consent_to_erase, security_officer

    if (pin_tries is None) != (puk_tries is None):
        raise click.UsageError("--pin-tries and --puk-tries belong together")
    tries = None if pin_tries is None or puk_tries is None else Tries(pin_tries, puk_tries)
    uri = find_token(session, token)
    with session.state.writing():
        officer = security_officer(session, uri)
        holds = consent_to_erase(session, uri, erase=erase, yes=yes, force=force)
        if holds is not None and "new-so-pin" in session.secrets.sources:
            raise click.UsageError(
                "an erased token keeps its security officer's PIN: leave --new-so-pin-… out"
            )
        made = officer.initialise(
            holds or uri, label, session.secrets, erase=holds is not None, tries=tries
        )
    say_what_it_is(session, made)
    session.output.result({"token": describe(made)}, lines(made))


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
        "initialised": info.initialised,
    }


def lines(info: TokenInfo) -> list[str]:
    """A token for people."""
    return fields(
        [
            ("token", str(info.uri)),
            ("label", info.label),
            ("model", f"{info.manufacturer} {info.model}".strip()),
            ("serial", info.serial),
            ("firmware", info.firmware),
            ("hardware", info.hardware),
            ("not initialised", None if info.initialised else _initialise(info)),
        ]
    )


def _initialise(info: TokenInfo) -> str:
    return f"mesh-hsm token init {quoted(info.uri)} --label NAME"


def _uninitialised(session: Session, uri: Uri) -> TokenInfo | None:
    """A token that cannot be opened yet, by the very name that token list shows."""
    known = session.provider(uri.scheme).tokens()
    return next((info for info in known if info.uri == uri and not info.initialised), None)
