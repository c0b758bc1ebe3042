"""``mesh-hsm keyset``: keys that any two of three administrators use together."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mesh_hsm_cli.administrator_secrets import admin_pin_options, named_value
from mesh_hsm_cli.custody_view import composite_lines, statement_lines
from mesh_hsm_cli.lazy import noun, verb
from mesh_hsm_cli.output import fields, table
from mesh_hsm_cli.secret_options import secret_options
from mesh_hsm_cli.session import Session

if TYPE_CHECKING:
    from mesh_hsm.mesh import AdministratorKeySet

_WORTH = 4  # lines that say what the whole is worth, before those of each share

command = noun("Keys that two of three administrators use together.")


@verb(
    command,
    "create",
    example="mesh-hsm keyset create --name board --token anna=pkcs11:token=anna "
    "--token ben=pkcs11:token=ben --token carla=pkcs11:token=carla",
)
@click.option("--name", required=True, help="The key set's name; its parts are called after it.")
@click.option(
    "--token",
    "tokens",
    multiple=True,
    required=True,
    metavar="ADMIN=TOKEN",
    help="An administrator's name and token (URI or label); three times.",
)
@click.option(
    "--algorithm", help="Curve, such as P-384. Default: the strongest that all three have."
)
@click.option("--dealer", help="Who has known the key. [the UDF of the administrator key here]")
@click.option("--administrator", metavar="NAME", help="Whose key signs. [one that is plugged in]")
@click.option(
    "--out", type=click.Path(path_type=Path), help="The public record. [NAME.keyset.dare]"
)
@admin_pin_options
@secret_options("pin", "passphrase", "owner-auth", "management-key")
@click.pass_obj
def create(
    session: Session,
    name: str,
    tokens: tuple[str, ...],
    algorithm: str | None,
    dealer: str | None,
    administrator: str | None,
    out: Path | None,
) -> None:
    """Make a key and give it to three tokens, so that any two of them decrypt and no one does.

    This machine deals: it has the whole key in memory, once. All three tokens are plugged in.
    """
    from mesh_hsm_cli.find import find_token
    from mesh_hsm_cli.new_key_set import NewKeySet, new_key_set

    given = [named_value(one) for one in tokens]
    if len(given) != 3:
        raise click.UsageError("a key set has three administrators: --token ADMIN=TOKEN, each")
    wanted = NewKeySet(
        name,
        tuple((admin, find_token(session, token)) for admin, token in given),
        algorithm,
        dealer,
        administrator,
        out or Path(f"{name}.keyset.dare"),
    )
    now = datetime.now(UTC)
    with session.state.writing():
        signed = new_key_set(session, wanted, now)
    shown = describe(session, signed.envelope, now)
    session.output.result(
        {"keyset": shown, "file": str(wanted.out)}, [*lines(shown), f"file: {wanted.out}"]
    )


@verb(command, "add", example="mesh-hsm keyset add board.keyset.dare")
@click.argument("file", type=click.Path(path_type=Path))
@click.pass_obj
def add(session: Session, file: Path) -> None:
    """File a key set here, so that its name serves after -r and its tokens open files.

    Only one that an administrator of a Mesh known here has signed.
    """
    from mesh_hsm_cli.key_sets import file_key_set
    from mesh_hsm_cli.paths import read_object

    now = datetime.now(UTC)
    with session.state.writing():
        signed = file_key_set(session, read_object(file), now)
    shown = describe(session, signed.envelope, now)
    session.output.result({"keyset": shown}, lines(shown))


@verb(command, "list", example="mesh-hsm keyset list")
@click.pass_obj
def list_key_sets(session: Session) -> None:
    """List the key sets that are known here."""
    from mesh_hsm_cli.records import filed_key_sets

    now = datetime.now(UTC)
    found = [describe(session, one.envelope, now) for one in filed_key_sets(session.state)]
    rows = [
        [
            one["name"],
            one["algorithm"],
            ", ".join(admin["name"] for admin in one["administrators"]),
            "yes" if one["trusted"] else f"no: {one['reason']}",
            one["udf"],
        ]
        for one in found
    ]
    session.output.result(
        {"keysets": found},
        table(
            ["NAME", "ALGORITHM", "ADMINISTRATORS", "TRUSTED", "UDF"], rows, "there are no key sets"
        ),
    )


@verb(
    command, "show", example="mesh-hsm keyset show board\nmesh-hsm keyset show ./board.keyset.dare"
)
@click.argument("keyset", metavar="KEYSET")
@click.pass_obj
def show(session: Session, keyset: str) -> None:
    """Show a key set and what it is worth. KEYSET is a name, the beginning of a UDF, or a file.

    Custody of the parts is as their tokens stated it when the key set was made.
    """
    from mesh_hsm_cli.key_sets import load_key_set

    shown = describe(session, load_key_set(session, keyset), datetime.now(UTC))
    session.output.result({"keyset": shown}, lines(shown))


def describe(session: Session, envelope: bytes | list[Any], now: datetime) -> dict[str, Any]:
    """The JSON form of a key set, trusted or not."""
    from mesh_hsm.errors import CannotVerifyError
    from mesh_hsm.mesh import peek_key_set
    from mesh_hsm_cli.key_sets import verify_key_set

    value, reason = peek_key_set(envelope), None
    try:
        verify_key_set(session, envelope, now)
    except CannotVerifyError as error:
        reason = str(error)
    return _public(value) | {"trusted": reason is None, "reason": reason}


def _public(value: AdministratorKeySet) -> dict[str, Any]:
    from mesh_hsm.mesh.key_set import NOTES
    from mesh_hsm.mesh.wire import to_time
    from mesh_hsm.threshold.two_of_three import HOLDERS
    from mesh_hsm.udf import udf_of

    return {
        "name": value.name,
        "udf": value.udf,
        "algorithm": value.public.curve.name,
        "mesh": value.authority_udf,
        "dealer": value.dealer,
        "created": to_time(value.created),
        "administrators": [
            {
                "name": value.name_of(holder),
                "parts": [
                    {
                        "pairs": [[value.name_of(one) for one in pair] for pair in place.pairs],
                        "label": part.label,
                        "udf": udf_of(part.public),
                        "custody": part.custody.to_json(),
                    }
                    for place, part in value.held_by(holder)
                ],
            }
            for holder in HOLDERS
        ],
        "custody": value.custody().to_json(),
        "notes": list(NOTES),
    }


def lines(shown: dict[str, Any]) -> list[str]:
    """A key set for people."""
    out = fields(
        [
            ("key set", shown["name"]),
            ("UDF", shown["udf"]),
            ("algorithm", shown["algorithm"]),
            ("Mesh", shown["mesh"]),
            ("trusted", "yes" if shown["trusted"] else f"no: {shown['reason']}"),
            ("dealer", shown["dealer"]),
            ("created", shown["created"]),
        ]
    )
    out += composite_lines(shown["custody"])[:_WORTH]
    for admin in shown["administrators"]:
        out += ["", admin["name"]]
        for part in admin["parts"]:
            others = [one for pair in part["pairs"] for one in pair if one != admin["name"]]
            out += fields([("part", f"{part['label']}, with {' or '.join(others)}")], 2)
            if part["custody"] != admin["parts"][-1]["custody"]:
                out += statement_lines(part["custody"], 4)
        out += statement_lines(admin["parts"][-1]["custody"], 2)
    return [*out, "", *(f"note: {note}" for note in shown["notes"])]
