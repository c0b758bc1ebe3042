"""The tutorial's commands, run just as they stand over a software TPM, answers included."""

from __future__ import annotations

import os
import re
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh_hsm.testing.swtpm import Swtpm
from tests.cli.conftest import PASSPHRASE, PIN, PROGRAM, Home

TUTORIALS = Path(__file__).parents[2] / "docs" / "tutorial"
ANSWERS = [
    (rb"PUK of YubiKey [^\n]*: $", b"31415926"),
    (rb"PIN of YubiKey [^\n]*: $", b"271828"),
    (rb"(?i)PIN of [^\n]*: $", PIN),
    (rb"(?i)passphrase of [^\n]*: $", PASSPHRASE),
    (rb"\[y/N\]: $", b"y"),
]


def commands(page: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Machine, command and the lines that are shown under it, for each command of a page."""
    for block in re.findall(r"```console\n(.*?)```", page.read_text(), re.S):
        parts = re.split(r"^(\w+)\$ (.*)\n", block, flags=re.M)
        for machine, command, shown in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
            yield machine, command, shown.splitlines()


def answers(shown: list[str]) -> list[tuple[bytes, bytes]]:
    """What a page's reader types: what it shows after a question, else the usual."""
    typed = [line.partition("]: ") for line in shown if "[y/N]: " in line]
    return [(re.escape(f"{ask}]: ".encode()) + b"$", say.encode()) for ask, _, say in typed]


def talk(home: Home, command: str, cwd: Path, shown: list[str]) -> tuple[int, str]:
    """Run a shell command on a terminal of its own, and answer what is asked."""
    pid, screen = os.forkpty()
    if pid == 0:  # pragma: no cover  the child is another program
        os.chdir(cwd)
        program = " ".join(PROGRAM)
        script = f'mesh-hsm() {{ {program} "$@"; }}\n{command}'
        os.execve("/bin/bash", ["bash", "-c", script], home.environment())
    seen, answered = b"", 0
    while True:
        assert select.select([screen], [], [], 120)[0], seen
        try:
            octets = os.read(screen, 4096)
        except OSError:  # Linux: the other side is gone
            break
        seen += octets
        for question, answer in answers(shown) + ANSWERS:
            if re.search(question, seen[answered:]):
                answered = len(seen)
                os.write(screen, answer + b"\n")
                break
    os.close(screen)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), seen.decode()


def plain(text: str) -> str:
    """Without colours, and with single spaces."""
    return re.sub(r"[ \t]+", " ", re.sub(r"\x1b\[[0-9;]*m", "", text))


def yubikeys(request: pytest.FixtureRequest) -> dict[str, str]:
    """Two YubiKeys as they leave the factory, plugged into every machine of a page."""
    rig = request.getfixturevalue("factory_yubikey")
    rig.add()
    return {"PCSCLITE_CSOCK_NAME": rig.environment["PCSCLITE_CSOCK_NAME"]}


@pytest.mark.parametrize("page", sorted(TUTORIALS.glob("*.md")), ids=lambda page: page.stem)
def test_a_tutorial_s_commands_do_what_it_says(
    page: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    found = list(commands(page))
    plugged = yubikeys(request) if "YubiKey" in page.read_text() else {}
    if page.stem == "laptop-tpm":
        assert len(found) > 10
    with Swtpm() as tpm:
        homes: dict[str, Home] = {}
        for machine, command, shown in found:
            if machine not in homes:
                (tmp_path / machine).mkdir()
                env = {"MESH_HSM_TPM2_TCTI": tpm.tcti} | plugged
                homes[machine] = Home(tmp_path / machine, env)
            code, seen = talk(homes[machine], command, tmp_path, shown)
            assert code == 0, f"{command}\n{seen}"
            rest = plain(seen)
            for line in shown:
                pattern = re.escape(plain(line).strip()).replace("…", r"[^\n]*")
                match = re.search(pattern, rest)
                assert match, f"{command}: {line!r} is not in what is left of\n{seen}"
                rest = rest[match.end() :]
