"""A device for people and scripts: its keys, their custody, what it is connected to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mesh_hsm_cli.custody_view import composite_lines, statement_lines
from mesh_hsm_cli.output import fields, printable

if TYPE_CHECKING:
    from mesh_hsm.mesh import BaseKeys, CompositeKeys, ConnectionRequest, Signed
    from mesh_hsm_cli.records import DeviceRecord


def requested(record: DeviceRecord, request: Signed[ConnectionRequest]) -> dict[str, Any]:
    """The JSON form of a device. ``custody`` is what its request said."""
    return {
        "name": record.name,
        "udf": record.udf,
        "token": record.token,
        "status": "connected" if record.connection is not None else "requested",
        "custody": request.value.custody,
        "mesh": None,
        "composite": None,
        "not_on_or_after": None,
        "combined": {},
        "void": False,
    }


def live_custody(keys: BaseKeys) -> dict[str, Any]:
    """What the token says of the four keys now, under the names that the request uses."""
    return {
        "ProfileSignature": keys.profile.custody().to_json(),
        "Encryption": keys.encryption.custody().to_json(),
        "Signature": keys.signature.custody().to_json(),
        "Authentication": keys.authentication.custody().to_json(),
    }


def combined_custody(keys: CompositeKeys) -> dict[str, Any]:
    """What the combined keys are worth."""
    from mesh_hsm.udf import udf_of

    return {
        "encryption": {
            "udf": udf_of(keys.encryption.public),
            "custody": keys.encryption.custody().to_json(),
        },
        "authentication": {
            "udf": udf_of(keys.authentication.public),
            "custody": keys.authentication.custody().to_json(),
        },
        "signature": {
            "udf": udf_of(keys.signature.public),
            "custody": keys.signature.custody().to_json(),
        },
    }


def device_lines(shown: dict[str, Any]) -> list[str]:
    """The JSON form for people."""
    lines = fields(
        [
            ("device", shown["name"]),
            ("UDF", shown["udf"]),
            ("token", shown["token"]),
            ("status", "void: its administrator was removed" if shown["void"] else shown["status"]),
            ("Mesh", shown["mesh"]),
            ("composite", shown["composite"]),
            ("valid until", shown["not_on_or_after"]),
        ]
    )
    lines += ["", "The keys as the token holds them:", *custody_lines(shown["custody"])]
    for use, key in shown["combined"].items():
        lines += ["", f"Combined {use} key {key['udf']}", *composite_lines(key["custody"], 2)]
    return lines


def custody_lines(custody: dict[str, dict[str, Any]]) -> list[str]:
    """Statements by key name; keys of which the same is said stand together."""
    together: list[tuple[list[str], dict[str, Any]]] = []
    for name, statement in custody.items():
        for names, said in together:
            if said == statement:
                names.append(name)
                break
        else:
            together.append(([name], statement))
    lines = []
    for names, said in together:
        lines += [printable(", ".join(names)), *statement_lines(said, 2)]
    return lines
