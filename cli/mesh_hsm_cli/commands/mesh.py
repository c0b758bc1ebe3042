"""``mesh-hsm mesh``: your personal Mesh, from its first key and its backup on."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mesh_hsm.errors import NotFoundError
from mesh_hsm.uri import Uri
from mesh_hsm_cli.custody_view import statement_lines
from mesh_hsm_cli.lazy import noun, verb
from mesh_hsm_cli.output import fields
from mesh_hsm_cli.records import load_mesh
from mesh_hsm_cli.secret_options import secret_options
from mesh_hsm_cli.session import Session

if TYPE_CHECKING:
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
@secret_options("passphrase", "store-passphrase")
@click.pass_obj
def create(session: Session, backup_to: Path | None, no_escrow: bool, name: str) -> None:
    """Create a personal Mesh: master, administrator and escrow keys, backed up first.

    The backup is written, read back and opened before anything depends on it; then the escrow
    private key is forgotten here. Keep the backup away from this machine.
    """
    from mesh_hsm_cli.new_mesh import create_mesh

    if no_escrow == (backup_to is not None):
        raise click.UsageError("either --backup-to FILE or --no-escrow is needed")
    if no_escrow:
        session.output.notice(
            "NO BACKUP: when this machine or its passphrase is lost, the Mesh is lost, and what is "
            "encrypted to a lost device stays closed",
            loud=True,
        )
    with session.state.writing():
        record, profile = create_mesh(session, name, backup_to, datetime.now(UTC))
    shown = describe(record, profile) | {"keys": _custody(session, record)}
    session.output.result({"mesh": shown}, _lines(shown))


@verb(command, "show", example="mesh-hsm mesh show")
@click.pass_obj
def show(session: Session) -> None:
    """Show the Mesh that is administered here, or the one that this device belongs to."""
    from mesh_hsm.mesh import open_profile_master
    from mesh_hsm_cli.trust import pinned_master

    record = load_mesh(session.state)
    if record is not None:
        shown = describe(record, open_profile_master(record.profile).value)
        shown["keys"] = _custody(session, record)
    elif master := pinned_master(session, datetime.now(UTC)):
        shown = describe(None, master.value)
    else:
        raise NotFoundError(
            "there is no Mesh here", hint="mesh-hsm mesh create --backup-to FILE, or device init"
        )
    session.output.result({"mesh": shown}, _lines(shown))


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
    keys = {"master": record.master, "administrator": record.administrator}
    shown: dict[str, Any] = {}
    for use, uri in keys.items():
        with session.open(Uri.parse(uri)) as token:
            shown[use] = {"uri": uri, "custody": token.key(Uri.parse(uri)).custody().to_json()}
    return shown


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
        lines += ["", *fields([(use, key["uri"])]), *statement_lines(key["custody"], 2)]
    return lines
