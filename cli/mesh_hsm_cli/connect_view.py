"""``device connect`` on the way in and out: which answer belongs to which request, and the result.

Open this file to see how the UDFs of several devices are confirmed: each by a person, none by the
file that came with it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mesh_hsm.errors import NotFoundError, SecretRequiredError, VerificationError
from mesh_hsm_cli import terminal
from mesh_hsm_cli.device_view import custody_lines
from mesh_hsm_cli.output import fields, printable
from mesh_hsm_cli.paths import read_object

if TYPE_CHECKING:
    from mesh_hsm_cli.administrator import Vouched, Vouching


def vouchings(
    requests: tuple[Path, ...],
    out: Path | None,
    confirmed: tuple[str, ...],
    labels: tuple[str, ...],
) -> list[Vouching]:
    """What is asked for each request. Whoever is not confirmed on the command line is asked for.

    Raises ``VerificationError`` for a UDF that is confirmed and not that of any request.
    """
    from mesh_hsm.mesh import open_request
    from mesh_hsm_cli.administrator import Vouching

    if labels and len(labels) != len(requests):
        raise click.UsageError("--label is given once for each request, or not at all")
    if len(confirmed) > len(requests):
        raise click.UsageError("--confirm-udf is given at most once for each request")
    if len(requests) > 1 and out is not None and not out.is_dir():
        raise NotFoundError(f"{out} is not a folder", hint="make it first: it takes the responses")
    contents = [read_object(one) for one in requests]
    devices = [open_request(one).value.device.value.udf for one in contents]
    typed = list(confirmed)
    if len(requests) > 1:
        for udf in typed:
            if _plain(udf) not in map(_plain, devices):
                raise VerificationError(
                    f"no request is that of the device {udf}",
                    hint="somebody may have exchanged a file: fetch the requests anew",
                )
        by_device = {_plain(udf): udf for udf in typed}
    else:  # whatever was typed is for this one, and refused if it is another's
        by_device = {_plain(devices[0]): udf for udf in typed}
    found = []
    for at, (request, content, udf) in enumerate(zip(requests, contents, devices, strict=True)):
        label = labels[at] if labels else udf.split("-")[0]
        where = f"the screen of {label} ({request})" if len(requests) > 1 else "the device's screen"
        agreed = by_device.get(_plain(udf)) or compare(udf, where)
        found.append(Vouching(content, agreed, label, _place(out, label)))
    return found


def compare(udf: str, where: str) -> str:
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


def describe(one: Vouched) -> dict[str, Any]:
    """The JSON form of a device that was connected."""
    return {
        "device": {"label": one.filed.label, "udf": one.filed.udf},
        "mesh": one.connected.connection.value.authority_udf,
        "administrator": one.administrator,
        "response": str(one.out),
        "witness": one.connected.witness,
        "custody": one.connected.request.value.custody,
    }


def lines(one: Vouched) -> list[str]:
    """The same for people."""
    mesh, out = one.connected.connection.value.authority_udf, printable(str(one.out))
    return [
        *fields(
            [
                ("device", one.filed.label),
                ("UDF", one.filed.udf),
                ("Mesh", mesh),
                ("signed by", one.administrator),
                ("witness", one.connected.witness),
            ]
        ),
        "The device states of its keys (a statement, not yet a proof):",
        *custody_lines(one.connected.request.value.custody),
        "",
        f"The response is in {out}. On the device:",
        f"  mesh-hsm device activate {out} --confirm-udf {mesh}",
        "Both machines must then show the same witness.",
    ]


def _place(out: Path | None, label: str) -> Path:
    name = f"{label}.response.dare"
    if out is None:
        return Path(name)
    return out / name if out.is_dir() else out


def _plain(udf: str) -> str:
    return "".join(udf.split()).replace("-", "").upper()
