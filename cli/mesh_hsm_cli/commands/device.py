"""``mesh-hsm device``: provision this machine, and connect devices to the Mesh (hsm-1 §6)."""

from __future__ import annotations

import platform
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mesh_hsm.errors import MeshHsmError, SecretRequiredError, VerificationError
from mesh_hsm.uri import Uri
from mesh_hsm_cli import terminal
from mesh_hsm_cli.device_view import (
    combined_custody,
    custody_lines,
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
    example="mesh-hsm device connect laptop.request.dare --out laptop.response.dare",
)
@click.argument("request", type=FILE)
@click.option("--out", type=FILE, help="Where the response goes. [LABEL.response.dare]")
@click.option("--confirm-udf", metavar="UDF", help="The UDF that the device itself shows.")
@click.option("--label", help="What you call the device. [the first group of its UDF]")
@click.option("--days", default=365, show_default=True, type=click.IntRange(1, 3650))
@click.option("--replace", is_flag=True, help="Make a new response; the one before becomes void.")
@secret_options("passphrase")
@click.pass_obj
def connect(
    session: Session,
    request: Path,
    out: Path | None,
    confirm_udf: str | None,
    label: str | None,
    days: int,
    replace: bool,
) -> None:
    """Vouch for a device (administrator), after comparing its UDF with what its screen shows."""
    from mesh_hsm.mesh import open_request
    from mesh_hsm_cli.administrator import connect_device

    data = read_object(request)
    udf = open_request(data).value.device.value.udf
    confirmed = confirm_udf or _compare(udf, "the device's screen")
    label = label or udf.split("-")[0]
    out = out or Path(f"{label}.response.dare")
    with session.state.writing():
        filed, connected = connect_device(
            session,
            data,
            confirmed=confirmed,
            label=label,
            out=out,
            replacing=replace,
            valid_for=timedelta(days=days),
            now=datetime.now(UTC),
        )
    session.output.result(
        {
            "device": {"label": filed.label, "udf": filed.udf},
            "mesh": connected.connection.value.authority_udf,
            "response": str(out),
            "witness": connected.witness,
            "custody": connected.request.value.custody,
        },
        [
            *fields(
                [
                    ("device", filed.label),
                    ("UDF", filed.udf),
                    ("Mesh", connected.connection.value.authority_udf),
                    ("witness", connected.witness),
                ]
            ),
            "The device states of its keys (a statement, not yet a proof):",
            *custody_lines(connected.request.value.custody),
            "",
            f"The response is in {printable(str(out))}. On the device:",
            f"  mesh-hsm device activate {printable(str(out))} "
            f"--confirm-udf {connected.connection.value.authority_udf}",
            "Both machines must then show the same witness.",
        ],
    )


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
    from mesh_hsm_cli.own_device import activate_device, own_request

    data = read_object(response)
    out = out or Path(f"{own_request(session)[0].name}.connection.dare")
    confirmed = confirm_udf or _compare(
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
        }
    session.output.result({"device": shown}, device_lines(shown))


def _compare(udf: str, where: str) -> str:
    """Let a person compare a UDF with another screen. Raises ``SecretRequiredError`` with none."""
    if not terminal.present():
        raise SecretRequiredError(
            "the UDF has to be confirmed and there is nobody to ask",
            hint=f"--confirm-udf with the UDF from {where}",
        )
    if not terminal.confirm(f"Is this exactly what {where} shows?", f"  {udf}"):
        raise VerificationError(
            "the UDF was not confirmed", hint="somebody may have exchanged the file: fetch it anew"
        )
    return udf


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
