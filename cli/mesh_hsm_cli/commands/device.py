"""``mesh-hsm device``: provision this machine, and connect devices to the Mesh (hsm-1 §6)."""

from __future__ import annotations

import platform
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mesh_hsm.errors import MeshHsmError
from mesh_hsm.uri import Uri
from mesh_hsm_cli.device_view import (
    combined_custody,
    device_lines,
    live_custody,
    requested,
)
from mesh_hsm_cli.lazy import noun, verb
from mesh_hsm_cli.output import fields, printable, table
from mesh_hsm_cli.paths import read_object
from mesh_hsm_cli.records import FiledDevice, filed_devices
from mesh_hsm_cli.secret_options import secret_options
from mesh_hsm_cli.session import Session

if TYPE_CHECKING:
    from mesh_hsm.mesh import ProfileMaster, Signed

command = noun("Devices: provision this machine, connect others to your Mesh.")
FILE = click.Path(path_type=Path)


@verb(
    command,
    "init",
    example="mesh-hsm device init --name laptop\n"
    "mesh-hsm device init --name laptop --request laptop.request.dare --pin-fd 3 3<pin",
)
@click.option("--name", help="What you call the device; its keys' labels begin so. [host name]")
@click.option("--token", help="What holds the keys: a URI or label. Default: the one device.")
@click.option("--request", type=FILE, help="Where the request is written. [NAME.request.dare]")
@click.option("--no-pin", is_flag=True, help="Whoever has the machine may use the keys.")
@click.option("--pcrs", default="", help="PCRs that must not change, such as 0,7.")
@click.option("--persistent", is_flag=True, help="Keep the keys inside the device, without blobs.")
@click.option("--algorithm", metavar="CURVE", help="One curve for all keys. Default: the best.")
@secret_options("pin", "passphrase", "owner-auth")
@click.pass_obj
def init(
    session: Session,
    name: str | None,
    token: str | None,
    request: Path | None,
    no_pin: bool,
    pcrs: str,
    persistent: bool,
    algorithm: str | None,
) -> None:
    """Make this machine's device keys, and a request for an administrator.

    The keys are made in the one TPM or HSM that is plugged in; where there are several, --token
    names it. Where there is none, nothing is made: a key file is used only if you name it
    (--token soft:).
    """
    from mesh_hsm_cli.choices import choose_token
    from mesh_hsm_cli.commands.key import parse_pcrs
    from mesh_hsm_cli.new_device import NewDevice, init_device

    session.secrets.many_keys = True
    name = name or platform.node().split(".")[0] or "device"
    wanted = NewDevice(
        name=name,
        token=choose_token(session, token),
        algorithm=algorithm,
        no_pin=no_pin,
        pcrs=parse_pcrs(pcrs),
        persistent=persistent,
        request=request or Path(f"{name}.request.dare"),
    )
    with session.state.writing():
        record, signed = init_device(session, wanted, datetime.now(UTC))
    session.output.result(
        {"device": requested(record, signed), "request": str(wanted.request)},
        [
            *device_lines(requested(record, signed)),
            "",
            f"The request is in {printable(str(wanted.request))}. Take it to an administrator:",
            f"  mesh-hsm device connect {printable(str(wanted.request))} "
            f"--label {printable(name)} --confirm-udf {record.udf}",
        ],
    )


@verb(
    command,
    "connect",
    example="mesh-hsm device connect laptop.request.dare --out laptop.response.dare\n"
    "mesh-hsm device connect laptop.request.dare phone.request.dare --label laptop --label phone",
)
@click.argument("requests", type=FILE, metavar="REQUEST...", nargs=-1, required=True)
@click.option(
    "--out",
    type=FILE,
    help="Where the response goes; a folder, for several. [LABEL.response.dare]",
)
@click.option(
    "--confirm-udf",
    "confirmed",
    metavar="UDF",
    multiple=True,
    help="The UDF that the device itself shows; once for each device.",
)
@click.option(
    "--label",
    "labels",
    multiple=True,
    help="What you call the device, in the order of the requests. [the first group of its UDF]",
)
@click.option("--administrator", metavar="NAME", help="Whose key signs. [one that is plugged in]")
@click.option("--days", default=365, show_default=True, type=click.IntRange(1, 3650))
@click.option("--replace", is_flag=True, help="Make a new response; the one before becomes void.")
@secret_options("pin", "passphrase")
@click.pass_obj
def connect(
    session: Session,
    requests: tuple[Path, ...],
    out: Path | None,
    confirmed: tuple[str, ...],
    labels: tuple[str, ...],
    administrator: str | None,
    days: int,
    replace: bool,
) -> None:
    """Vouch for devices (administrator), after comparing each UDF with what its screen shows.

    Signs with the administrator key that is plugged in, and says first how often. Several devices
    are connected with one PIN entry.
    """
    from mesh_hsm_cli import connect_view
    from mesh_hsm_cli.administrator import connect_devices

    wanted = connect_view.vouchings(requests, out, confirmed, labels)
    with session.state.writing():
        done = connect_devices(
            session,
            wanted,
            administrator=administrator,
            replacing=replace,
            valid_for=timedelta(days=days),
            now=datetime.now(UTC),
        )
    shown = [connect_view.describe(one) for one in done]
    lines = [line for one in done for line in ["", *connect_view.lines(one)]]
    session.output.result(shown[0] if len(shown) == 1 else {"connections": shown}, lines[1:])


@verb(
    command,
    "activate",
    example="mesh-hsm device activate laptop.response.dare --out laptop.connection.dare",
)
@click.argument("response", type=FILE)
@click.option(
    "--out", type=FILE, help="Where the countersigned connection goes. [NAME.connection.dare]"
)
@click.option("--confirm-udf", metavar="UDF", help="The Mesh's UDF, as its administrator says it.")
@secret_options("pin", "passphrase")
@click.pass_obj
def activate(session: Session, response: Path, out: Path | None, confirm_udf: str | None) -> None:
    """Join a Mesh (device): check everything that the administrator sent, then countersign."""
    from mesh_hsm.mesh import open_response
    from mesh_hsm_cli.connect_view import compare
    from mesh_hsm_cli.own_device import activate_device, own_request

    data = read_object(response)
    out = out or Path(f"{own_request(session)[0].name}.connection.dare")
    confirmed = confirm_udf or compare(
        open_response(data).value.master.value.udf, "the administrator's screen"
    )
    with session.state.writing():
        record, activated = activate_device(session, data, confirmed, out, datetime.now(UTC))
    connection = activated.connection.value
    session.output.result(
        {
            "device": {"label": record.name, "udf": record.udf},
            "mesh": connection.authority_udf,
            "connection": str(out),
            "witness": activated.witness,
        },
        [
            *fields(
                [
                    ("device", record.name),
                    ("UDF", record.udf),
                    ("Mesh", connection.authority_udf),
                    ("witness", activated.witness),
                ]
            ),
            "",
            "Compare the witness with the administrator's. The countersigned connection is in "
            f"{printable(str(out))}; the administrator files it:",
            f"  mesh-hsm device accept {printable(str(out))}",
        ],
    )


@verb(command, "update", example="mesh-hsm device update mesh.dare")
@click.argument("profile", type=FILE)
@secret_options("pin", "passphrase")
@click.pass_obj
def update(session: Session, profile: Path) -> None:
    """Take the newest ProfileMaster of your Mesh, as mesh export wrote it, and keep to it.

    From then on this device refuses every older one, and whatever a removed administrator signed.
    """
    from mesh_hsm_cli.device_update import update_device

    with session.state.writing():
        done = update_device(session, read_object(profile), datetime.now(UTC))
    if done.void:
        session.output.notice(
            f"{done.device.record.name} is NOT VOUCHED FOR any more: the administrator who "
            "connected it was removed. It opens what was encrypted to it, and signs nothing",
            loud=True,
        )
    version = done.master.value.version
    shown = {
        "device": {"label": done.device.record.name, "udf": done.device.record.udf},
        "mesh": done.master.value.udf,
        "version": version,
        "before": done.before,
        "void": done.void,
    }
    known = "" if version > done.before else ", known already"
    session.output.result(
        shown,
        fields(
            [
                ("device", done.device.record.name),
                ("Mesh", done.master.value.udf),
                ("version", f"{version}{known}"),
                ("connection", "void" if done.void else "valid"),
            ]
        ),
    )


@verb(command, "accept", example="mesh-hsm device accept laptop.connection.dare")
@click.argument("connection", type=FILE)
@click.pass_obj
def accept(session: Session, connection: Path) -> None:
    """File the countersigned connection that a device sent back (administrator)."""
    from mesh_hsm_cli.administrator import accept_device

    with session.state.writing():
        filed, verified = accept_device(session, read_object(connection), datetime.now(UTC))
    shown = {
        "label": filed.label,
        "udf": filed.udf,
        "composite": verified.composite,
        "not_on_or_after": verified.connection.value.not_on_or_after.isoformat(),
    }
    session.output.result(
        {"device": shown},
        fields(
            [
                ("device", filed.label),
                ("UDF", filed.udf),
                ("composite", verified.composite),
                ("valid until", shown["not_on_or_after"]),
            ]
        ),
    )


@verb(command, "list", example="mesh-hsm device list")
@click.pass_obj
def list_devices(session: Session) -> None:
    """List the devices of the Mesh that is administered here, each verified now."""
    from mesh_hsm_cli.administrator import own_mesh

    _, master = own_mesh(session)
    found = [_filed(one, master) for one in filed_devices(session.state)]
    rows = [
        [one["label"], one["udf"], one["status"], one["composite"] or "", one["reason"] or ""]
        for one in found
    ]
    session.output.result(
        {"devices": found},
        table(["LABEL", "UDF", "STATUS", "COMPOSITE", ""], rows, "no device is connected"),
    )


@verb(command, "show", example="mesh-hsm device show")
@secret_options("pin", "passphrase")
@click.pass_obj
def show(session: Session) -> None:
    """Show this machine as a device: its keys, who holds them, and what it is connected to."""
    from mesh_hsm_cli.own_device import base_keys, own_device, own_request

    record, request = own_request(session)
    shown = requested(record, request)
    with session.open(Uri.parse(record.token)) as token:
        shown["custody"] = live_custody(base_keys(token, record))
    if record.connection is not None:
        device = own_device(session, datetime.now(UTC))
        connection = device.verified.connection.value
        with device.open(session) as keys:
            combined = combined_custody(keys)
        shown |= {
            "mesh": connection.authority_udf,
            "composite": device.verified.composite,
            "not_on_or_after": connection.not_on_or_after.isoformat(),
            "combined": combined,
            "void": device.void,
        }
    session.output.result({"device": shown}, device_lines(shown))


def _filed(filed: FiledDevice, master: Signed[ProfileMaster]) -> dict[str, Any]:
    from mesh_hsm_cli.administrator import verify_filed

    shown: dict[str, Any] = {"label": filed.label, "udf": filed.udf}
    shown |= {"status": "issued", "composite": None, "not_on_or_after": None, "reason": None}
    if filed.connection is None:
        return shown
    try:
        verified = verify_filed(filed, master, datetime.now(UTC))
    except MeshHsmError as error:
        return shown | {"status": "invalid", "reason": str(error)}
    return shown | {
        "status": "connected",
        "composite": verified.composite,
        "not_on_or_after": verified.connection.value.not_on_or_after.isoformat(),
    }
