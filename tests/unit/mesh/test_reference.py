"""The reference page names exactly the members that are on the wire."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from mesh_hsm import dare, passphrase_file
from mesh_hsm.mesh import ActivationDevice, EscrowedKeySet, seal_backup
from mesh_hsm.mesh.backup import LABEL

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "mesh-objects.md"
KINDS = [
    "ProfileMaster",
    "ProfileDevice",
    "ConnectionRequest",
    "ConnectionResponse",
    "ConnectionDevice",
    "ActivationDevice",
    "DevicePins",
    "AdministratorKeySet",
    "EscrowedKeySet",
]


@pytest.fixture(scope="module")
def members(
    mesh: Any, device: Any, connected: Any, activated: Any, key_set_object: Any
) -> dict[str, list[str]]:
    """Members of each kind of object, as they were written just now."""
    objects = (
        mesh.profile,
        device.request.value.device,
        device.request,
        connected.response,
        connected.connection,
        activated.pins,
        key_set_object,
    )
    found: dict[str, list[str]] = {}
    for one in objects:
        ((tag, value),) = json.loads(dare.peek_payload(one.envelope)).items()
        found[tag] = list(value)
    activation = ActivationDevice(activated.seed, "M", "M", bytes(64), bytes(64))
    found[activation.TAG] = list(activation.members())
    passphrase = b"correct horse battery staple"
    content = passphrase_file.open_with_passphrase(
        seal_backup(EscrowedKeySet.draw(), passphrase), passphrase, LABEL
    )
    ((tag, value),) = json.loads(content).items()
    found[tag] = list(value)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_names_every_member(members: dict[str, list[str]], kind: str) -> None:
    sections = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    (section,) = (one for one in sections if one.startswith(f"{kind}\n"))
    assert sorted(re.findall(r"^\| `(\w+)`", section, re.MULTILINE)) == sorted(members[kind])


def test_the_page_knows_every_object(members: dict[str, list[str]]) -> None:
    assert sorted(members) == sorted(KINDS)
