"""``mesh-hsm mesh``: your personal Mesh, from its first key and its backup on."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mesh_hsm.errors import (
    AccessError,
    DeviceError,
    NotFoundError,
    ProviderUnavailableError,
)
from mesh_hsm.secret_source import NoSecrets
from mesh_hsm.uri import Uri
from mesh_hsm_cli.custody_view import statement_lines
from mesh_hsm_cli.lazy import noun, verb
from mesh_hsm_cli.output import fields
from mesh_hsm_cli.policy_options import policy_options
from mesh_hsm_cli.records import load_mesh
from mesh_hsm_cli.secret_options import secret_options
from mesh_hsm_cli.session import Session

if TYPE_CHECKING:
    from mesh_hsm.custody import PinPolicy, TouchPolicy
    from mesh_hsm.mesh import ProfileMaster
    from mesh_hsm_cli.records import MeshRecord

command = noun("Your personal Mesh: create it, back it up, show it.")


@verb(
    command,
    "create",
    example="mesh-hsm mesh create --backup-to /media/usb/mesh-backup.json\n"
    "mesh-hsm mesh create --backup-to backup.json --passphrase-fd 3 3<passphrase",
)
@click.option(
    "--backup-to",
    type=click.Path(path_type=Path),
    help="Where the encrypted backup of master and escrow keys is written.",
)
@click.option("--no-escrow", is_flag=True, help="No backup: what is lost stays lost.")
@click.option("--name", default="mesh", show_default=True, help="What you call it, here alone.")
@click.option(
    "--master-token",
    metavar="TOKEN",
    help="The device that makes the master key itself; only with --no-escrow.",
)
@secret_options("pin", "passphrase", "store-passphrase", "management-key")
@click.pass_obj
def create(
    session: Session,
    backup_to: Path | None,
    no_escrow: bool,
    name: str,
    master_token: str | None,
) -> None:
    """Create a personal Mesh: master, administrator and escrow keys, backed up first.

    The backup is written, read back and opened before anything depends on it; then the escrow
    private key is forgotten here. Keep the backup away from this machine.
    """
    from mesh_hsm_cli.find import find_token
    from mesh_hsm_cli.making_keys import WantedKey
    from mesh_hsm_cli.new_mesh import create_mesh

    if no_escrow == (backup_to is not None):
        raise click.UsageError("either --backup-to FILE or --no-escrow is needed")
    if master_token is not None and not no_escrow:
        raise click.UsageError(
            "a device gives no backup of a master key that it made: --master-token is only for "
            "--no-escrow; mesh move-master moves one that is backed up"
        )
    if no_escrow:
        session.output.notice(
            "NO BACKUP: when this machine or its passphrase is lost, the Mesh is lost, and what is "
            "encrypted to a lost device stays closed",
            loud=True,
        )
    now, place = datetime.now(UTC), None
    if master_token is not None:
        place = (find_token(session, master_token), WantedKey(f"{name}-master"))
    with session.state.writing():
        record, profile = create_mesh(session, name, backup_to, now, place)
    shown = describe(record, profile) | {"keys": _custody(session, record)}
    session.output.result({"mesh": shown}, _lines(shown))


@verb(command, "show", example="mesh-hsm mesh show")
@click.pass_obj
def show(session: Session) -> None:
    """Show the Mesh that is administered here, or the one that this device belongs to."""
    from mesh_hsm_cli.administrator import own_mesh
    from mesh_hsm_cli.trust import pinned_master

    if load_mesh(session.state) is not None:
        record, profile = own_mesh(session)
        shown = describe(record, profile.value)
        shown["keys"] = _custody(session, record)
    elif master := pinned_master(session, datetime.now(UTC)):
        shown = describe(None, master.value)
    else:
        raise NotFoundError(
            "there is no Mesh here", hint="mesh-hsm mesh create --backup-to FILE, or device init"
        )
    session.output.result({"mesh": shown}, _lines(shown))


@verb(command, "export", example="mesh-hsm mesh export --out mesh.dare")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The file to make.")
@click.pass_obj
def export(session: Session, out: Path) -> None:
    """Write the newest ProfileMaster, for device update to take. It holds no secret."""
    from mesh_hsm.files import write_atomic
    from mesh_hsm_cli.administrator import own_mesh
    from mesh_hsm_cli.paths import refuse_existing
    from mesh_hsm_cli.trust import pinned_master

    refuse_existing(out)
    if load_mesh(session.state) is not None:
        master = own_mesh(session)[1]
    elif known := pinned_master(session, datetime.now(UTC)):
        master = known
    else:
        raise NotFoundError("there is no Mesh here", hint="run it where the Mesh is administered")
    write_atomic(out, master.text, 0o644, exclusive=True)
    udf, version = master.value.udf, master.value.version
    session.output.result(
        {"mesh": udf, "version": version, "file": str(out)},
        fields([("Mesh", udf), ("version", str(version)), ("file", str(out))]),
    )


@verb(
    command,
    "move-master",
    example="mesh-hsm mesh move-master --token build-hsm --backup /media/usb/mesh-backup.json",
)
@click.option("--token", required=True, help="The device that takes the key: a URI or label.")
@click.option(
    "--backup",
    required=True,
    type=click.Path(path_type=Path),
    help="The backup that mesh create wrote; it is opened again.",
)
@click.option("--label", help="What the key is called there. [NAME-master]")
@policy_options()
@secret_options("pin", "passphrase", "store-passphrase", "management-key")
@click.pass_obj
def move_master(
    session: Session,
    token: str,
    backup: Path,
    label: str | None,
    slot: str | None,
    pin: PinPolicy | None,
    touch: TouchPolicy | None,
) -> None:
    """Move the master key from software into a device, once its backup has been opened again.

    The software copy is deleted last. Interrupted, the same command goes on where it was.
    """
    from mesh_hsm_cli.administrator import own_mesh
    from mesh_hsm_cli.find import find_token
    from mesh_hsm_cli.making_keys import WantedKey
    from mesh_hsm_cli.moving_master import move_master as move

    uri = find_token(session, token)
    with session.state.writing():
        wanted = WantedKey(
            label=label or f"{own_mesh(session)[0].name}-master",
            slot=slot,
            pin=pin,
            touch=touch,
        )
        moved = move(session, uri, wanted, backup)
    custody = moved.custody.to_json()
    udf = moved.master.value.udf
    session.output.result(
        {
            "mesh": udf,
            "master": {"uri": moved.record.master, "custody": custody},
            "deleted": list(moved.deleted),
        },
        [
            *fields([("Mesh", udf), ("master", moved.record.master)]),
            *statement_lines(custody, 2),
            *fields([("deleted", uri) for uri in moved.deleted]),
        ],
    )


def describe(record: MeshRecord | None, profile: ProfileMaster) -> dict[str, Any]:
    """The JSON form of a Mesh."""
    from mesh_hsm.udf import udf_of

    return {
        "name": record.name if record else None,
        "udf": profile.udf,
        "version": profile.version,
        "administrators": [udf_of(key) for key in profile.administrator_signature],
        "escrow": [udf_of(key) for key in profile.escrow_encryption],
        "administered_here": record is not None,
        "backup": record.backup if record else None,
        "keys": {},
    }


def _custody(session: Session, record: MeshRecord) -> dict[str, Any]:
    """Of the master key; those of administrators are listed by ``admin list``."""
    uri = Uri.parse(record.master)
    custody: dict[str, Any] | None = None
    try:
        with session.open(uri, NoSecrets()) as token:
            custody = token.key(uri).custody().to_json()
    except (AccessError, DeviceError, NotFoundError, ProviderUnavailableError) as error:
        session.output.notice(f"the master key is not at hand: {error}")
    return {"master": {"uri": record.master, "custody": custody}}


def _lines(shown: dict[str, Any]) -> list[str]:
    lines = fields(
        [
            ("Mesh", shown["name"]),
            ("UDF", shown["udf"]),
            ("version", str(shown["version"])),
            *(("administrator", udf) for udf in shown["administrators"]),
            *(("escrow", udf) for udf in shown["escrow"]),
            ("backup", shown["backup"] or ("none" if shown["administered_here"] else None)),
        ]
    )
    for use, key in shown["keys"].items():
        lines += ["", *fields([(use, key["uri"])])]
        lines += statement_lines(key["custody"], 2) if key["custody"] else []
    return lines
