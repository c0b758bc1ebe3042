"""``mesh-hsm admin``: whose keys may connect devices to your Mesh (hsm-1 §7)."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from mesh_hsm.errors import ConflictError
from mesh_hsm_cli import terminal
from mesh_hsm_cli.custody_view import statement_lines
from mesh_hsm_cli.lazy import noun, verb
from mesh_hsm_cli.output import fields, table
from mesh_hsm_cli.policy_options import policy_options
from mesh_hsm_cli.secret_options import secret_options
from mesh_hsm_cli.session import Session

if TYPE_CHECKING:
    from mesh_hsm.custody import PinPolicy, TouchPolicy
    from mesh_hsm.uri import Uri
    from mesh_hsm_cli.making_keys import WantedKey
    from mesh_hsm_cli.new_administrator import Added
    from mesh_hsm_cli.records import Administrator
    from mesh_hsm_cli.removal import Fate, Removal

command = noun("Administrators: whose keys may connect devices to your Mesh.")


@verb(
    command,
    "add",
    example="mesh-hsm admin add --token build-hsm --label spare\n"
    "mesh-hsm admin add --key my-signature-key",
)
@click.option("--token", help="The device that makes the key: a URI or label.")
@click.option("--key", help="A signature key that is there already, instead of --token.")
@click.option("--label", help="What you call the administrator, and its new key. [administrator-N]")
@click.option("--algorithm", metavar="CURVE", help="Default: the token's best for signatures.")
@policy_options()
@secret_options("pin", "master-pin", "passphrase", "new-passphrase", "management-key")
@click.pass_obj
def add(
    session: Session,
    token: str | None,
    key: str | None,
    label: str | None,
    slot: str | None,
    algorithm: str | None,
    pin: PinPolicy | None,
    touch: TouchPolicy | None,
) -> None:
    """List one more administrator in your Mesh: a new key in a device, or one that is there.

    The master key signs the next version of the ProfileMaster. What a new key asks for when it is
    used, PIN and touch, is shown before it is made and never changes.
    """
    from mesh_hsm_cli.find import find_token
    from mesh_hsm_cli.making_keys import WantedKey
    from mesh_hsm_cli.new_administrator import add_existing_key

    if (token is None) == (key is None):
        raise click.UsageError("either --token TOKEN or --key KEY is needed")
    if key is not None:
        if any((slot, algorithm, pin, touch)):
            raise click.UsageError("--slot, --algorithm and the policies are for a new key")
        with session.state.writing():
            added = add_existing_key(session, key, label, datetime.now(UTC))
        _say_added(session, added)
        return
    wanted = WantedKey(
        label=label or _free_label(session),
        algorithm=algorithm,
        slot=slot,
        pin=pin,
        touch=touch,
    )
    uri = find_token(session, token or "")
    added = _make(session, uri, wanted)
    _say_added(session, added)
    _offer_second(session, added, wanted, uri)


@verb(command, "list", example="mesh-hsm admin list")
@click.pass_obj
def list_administrators(session: Session) -> None:
    """List the administrators of your Mesh, where their keys are, and which are plugged in."""
    from mesh_hsm_cli.administrator import own_mesh

    record, _ = own_mesh(session)
    found = [_found(session, one) for one in record.administrators]
    rows = [
        [
            one["label"],
            one["udf"],
            str(one["since"]),
            "yes" if one["plugged_in"] else "no",
            one["uri"],
        ]
        for one in found
    ]
    session.output.result(
        {"administrators": found},
        table(["LABEL", "UDF", "SINCE", "PLUGGED IN", "KEY"], rows, "there is none"),
    )


@verb(
    command,
    "remove",
    example="mesh-hsm admin remove mesh-administrator\n"
    "mesh-hsm admin remove lost-card --void laptop --yes",
)
@click.argument("administrator", metavar="NAME|UDF")
@click.option("--void", multiple=True, metavar="DEVICE", help="A device that is not to survive it.")
@click.option("--void-all", is_flag=True, help="None of its connections survives.")
@click.option("--delete-key", is_flag=True, help="Delete its key from its device, too.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@secret_options("pin", "master-pin", "passphrase", "management-key")
@click.pass_obj
def remove(
    session: Session,
    administrator: str,
    void: tuple[str, ...],
    void_all: bool,
    delete_key: bool,
    yes: bool,
) -> None:
    """Take an administrator off your Mesh; of its connections those filed here survive.

    Whatever else it signed is void for every verifier that has seen the new version of the
    ProfileMaster, or a later one. Nobody can promise more to a verifier that is offline: take the
    new version to your devices with mesh export and device update.
    """
    from mesh_hsm_cli.removal import carry_out, plan_removal

    with session.state.writing():
        removal = plan_removal(session, administrator, void, void_all, datetime.now(UTC))
        if not yes:
            _agree(session, removal)
        master = carry_out(session, removal, datetime.now(UTC), delete_key=delete_key)
    gone = removal.administrator
    session.output.result(
        {
            "removed": {"label": gone.label, "udf": gone.udf, "uri": gone.uri},
            "key_deleted": delete_key,
            "mesh": master.value.udf,
            "version": master.value.version,
            "surviving": [_named(one) for one in removal.fates if one.void is None],
            "void": [_named(one) | {"reason": one.void} for one in removal.fates if one.void],
        },
        [
            *fields(
                [
                    ("removed", gone.label),
                    ("UDF", gone.udf),
                    ("its key", None if delete_key else f"not deleted: {gone.uri}"),
                    ("version", str(master.value.version)),
                    *_fates(removal),
                ]
            ),
            "",
            *_spread(master.value.version),
        ],
    )


def _found(session: Session, one: Administrator) -> dict[str, Any]:
    from mesh_hsm.errors import MeshHsmError
    from mesh_hsm_cli.administrators import at_hand

    looked = at_hand(session, one)
    away = isinstance(looked, MeshHsmError)
    return asdict(one) | {"plugged_in": not away, "reason": str(looked) if away else None}


def _make(session: Session, uri: Uri, wanted: WantedKey) -> Added:
    from mesh_hsm_cli.new_administrator import add_with_new_key

    with session.state.writing():
        return add_with_new_key(session, uri, wanted, datetime.now(UTC))


def _free_label(session: Session) -> str:
    from mesh_hsm_cli.administrator import own_mesh

    record, _ = own_mesh(session)
    return f"administrator-{len(record.administrators) + len(record.removed) + 1}"


def _say_added(session: Session, added: Added) -> None:
    one, custody = added.administrator, added.custody.to_json()
    session.output.result(
        {
            "administrator": asdict(one) | {"custody": custody},
            "mesh": added.master.value.udf,
            "version": added.master.value.version,
        },
        [
            *fields(
                [
                    ("administrator", one.label),
                    ("UDF", one.udf),
                    ("key", one.uri),
                    ("version", str(one.since)),
                ]
            ),
            *statement_lines(custody, 2),
            "",
            *_spread(added.master.value.version),
        ],
    )


def _offer_second(session: Session, added: Added, wanted: WantedKey, first: Uri) -> None:
    """One device breaks or is lost: after the first, and only then, a second is offered."""
    from mesh_hsm_cli.find import find_token

    if added.in_devices != 1:
        return
    session.output.notice(
        "No other device has an administrator key. Should it break or be lost, a second one "
        "goes on: mesh-hsm admin add --token TOKEN --label NAME"
    )
    if session.output.as_json or not terminal.confirm("Add a second device now?"):
        return
    token = terminal.ask_line("Its token (URI or label, as token list shows it)")
    uri = find_token(session, token)
    if uri == first:
        raise ConflictError(
            f"{token} is the first device itself: a second key there would be lost with it",
            hint="mesh-hsm admin add --token TOKEN --label NAME, with another device",
            uri=str(uri),
        )
    label = terminal.ask_line("What you call the administrator") or _free_label(session)
    second = replace(wanted, label=label, algorithm=None)
    session.secrets.forget()
    _say_added(session, _make(session, uri, second))


def _agree(session: Session, removal: Removal) -> None:
    label = removal.administrator.label
    for line in fields(_fates(removal)):
        session.output.notice(line)
    if not terminal.confirm(f"Remove {label} for good? It can never be listed again"):
        raise ConflictError("nothing was removed", hint="--yes answers the question")


def _fates(removal: Removal) -> list[tuple[str, str | None]]:
    return [
        ("void", f"{one.filed.label}: {one.void}") if one.void else ("survives", one.filed.label)
        for one in removal.fates
    ]


def _named(fate: Fate) -> dict[str, Any]:
    return {"label": fate.filed.label, "udf": fate.filed.udf}


def _spread(version: int) -> list[str]:
    return [
        f"Your devices have to see version {version}:",
        "  mesh-hsm mesh export --out mesh.dare",
        "and on each of them:",
        "  mesh-hsm device update mesh.dare",
    ]
