"""Custody statements for people: printed from the very JSON that scripts get.

Open this file to change how ``key show`` and ``device show`` look.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mesh_hsm_cli.output import fields, printable


def statement_lines(statement: Mapping[str, Any], indent: int = 0) -> list[str]:
    """A ``CustodyStatement.to_json()``."""
    attack = statement.get("dictionary_attack")
    pcrs = ", ".join(map(str, statement.get("pcrs", ())))
    lines = fields(
        [
            ("custody", str(statement["custody"])),
            ("hardware", str(statement["hardware"])),
            ("device", statement.get("device")),
            ("firmware", statement.get("firmware")),
            ("PIN", str(statement.get("pin", "none"))),
            ("touch", statement.get("touch")),
            ("PCRs", pcrs and f"{pcrs} ({statement.get('pcr_bank')})"),
            ("guessing", attack and _guessing(attack)),
            ("known by", ", ".join(statement.get("known_by", ())) or "nobody else"),
        ],
        indent,
    )
    return lines + [f"{'':{indent}}note: {printable(note)}" for note in statement.get("notes", ())]


def composite_lines(composite: Mapping[str, Any], indent: int = 0) -> list[str]:
    """A ``CompositeCustody.to_json()``: what a thief must take, what may be lost, every share."""
    shares = composite["shares"]
    lines = fields(
        [
            ("a thief must take", f"the {composite['theft']} share"),
            ("most easily lost", f"the {composite['loss']} share"),
            ("needed", f"{composite['threshold']} of {len(shares)} shares"),
            ("composite", str(composite["composite"])),
        ],
        indent,
    )
    for number, share in enumerate(shares, 1):
        lines.append(f"{'':{indent}}share {number}")
        lines += statement_lines(share, indent + 2)
    return lines


def _guessing(attack: Mapping[str, Any]) -> str:
    if not attack["protected"]:
        return "not limited by the device"
    owner = "" if attack["lockout_auth_set"] else "; local root can reset the counter"
    return (
        f"{attack['max_tries']} tries, one back every {attack['recovery_seconds']} s, "
        f"lockout {attack['lockout_recovery_seconds']} s{owner}"
    )
