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


def talk(home: Home, command: str, cwd: Path) -> tuple[int, str]:
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
        for question, answer in ANSWERS:
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


@pytest.mark.parametrize("page", sorted(TUTORIALS.glob("*.md")), ids=lambda page: page.stem)
def test_a_tutorial_s_commands_do_what_it_says(page: Path, tmp_path: Path) -> None:
    found = list(commands(page))
    if page.stem == "laptop-tpm":
        assert len(found) > 10
    with Swtpm() as tpm:
        homes: dict[str, Home] = {}
        for machine, command, shown in found:
            if machine not in homes:
                (tmp_path / machine).mkdir()
                env = {"MESH_HSM_TPM2_TCTI": tpm.tcti}
                homes[machine] = Home(tmp_path / machine, env)
            code, seen = talk(homes[machine], command, tmp_path)
            assert code == 0, f"{command}\n{seen}"
            rest = plain(seen)
            for line in shown:
                pattern = re.escape(plain(line).strip()).replace("…", r"[^\n]*")
                match = re.search(pattern, rest)
                assert match, f"{command}: {line!r} is not in what is left of\n{seen}"
                rest = rest[match.end() :]
