"""How a page of the documentation is run: its blocks, its machines, a terminal to type on.

A page's ``console`` blocks are one session, typed command by command on a pseudo-terminal; what the
page shows must be what appears. ``$`` is this machine, ``admin$`` and ``laptop$`` are others: each
has its own state folder, all share one working folder and one swtpm, the page's own unless it
starts with a connected device. In what a page shows,

* a UDF stands for whatever UDF appears there first, and for the same one from then on, in commands
  too (a reader copies it from the screen as well);
* ``…`` stands for anything, over several lines too; times and firmware versions are not compared.

``python`` blocks share one namespace. Comments in front of a block steer it::

    <!-- not run: REASON -->       shown only: it needs what no simulator has
    <!-- file: NAME -->            a file that the page's reader writes
    <!-- world: connected -->      (anywhere) the page starts with a connected device, laptop
    <!-- world: hsm -->            (anywhere) every machine but admin sees an HSM that is empty:
                                   SoftHSM, wherever it is, at the place that the page names
    <!-- world: yubikeys -->       (anywhere) the page starts where the tutorial on YubiKeys ends,
                                   and has a third one, new
"""

from __future__ import annotations

import os
import re
import select
import shutil
import sys
import termios
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mesh_hsm.testing.softhsm import Softhsm
from mesh_hsm.testing.swtpm import Swtpm
from mesh_hsm.testing.virtual_yubikey.rig import YubiKeyRig, rig_in_process
from tests.cli.test_docs import commands

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(
    r"^(?:<!-- (?P<mark>not run|file): (?P<value>[^>]+) -->\n)?"
    r"```(?P<language>[\w{}-]*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_COMMAND = re.compile(
    r"^(?P<machine>\w*)\$ (?P<command>.*(?:\n> .*)*)\n(?P<shown>(?:(?!\w*\$ ).*\n)*)",
    re.MULTILINE,
)
_UDF = r"(?:[A-Z2-7]{4}-){3,}[A-Z2-7]{4}"
_VARIABLE = re.compile(
    rf"(?P<udf>{_UDF})|(?P<time>\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\S*)"
    r"|(?P<version>\b\d+(?:\.\d+){3}\b)|(?P<lines>^…\n)|(?P<any>…)|(?P<space>(?<=\S) +)",
    re.MULTILINE,
)
_SOFTHSM = "/usr/lib/softhsm/libsofthsm2.so"
_COLOUR = re.compile(r"\x1b\[[\d;]*m")
_QUESTION = re.compile(r"[^\n]*(?:\bof [^\n]*|again|\[y/N\]): \Z")
PIN, PASSPHRASE = b"2718-2818\n", b"correct horse battery staple\n"
YUBIKEY_PIN, YUBIKEY_PUK = b"271828\n", b"31415926\n"
TUTORIAL = ROOT / "docs/tutorial/yubikey-administrator.md"


@dataclass(frozen=True)
class Block:
    """A fenced block, where it stands, and the comment in front of it."""

    page: Path
    line: int
    language: str
    text: str
    mark: str | None
    value: str | None


def blocks(page: Path) -> list[Block]:
    """Every fenced block of a page."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page,
            text.count("\n", 0, found.start()) + 1,
            found["language"],
            found["text"],
            found["mark"],
            found["value"],
        )
        for found in _FENCE.finditer(text)
    ]


@dataclass
class Reader:
    """Somebody who follows a page: a folder, machines, and the UDFs seen so far."""

    folder: Path
    tcti: str
    hsm: Softhsm | None = None
    yubikeys: YubiKeyRig | None = None
    udfs: dict[str, str] = field(default_factory=dict)
    names: dict[str, object] = field(default_factory=lambda: {"__name__": "page"})

    def follow(self, page: Path) -> None:
        """Do all that a page says, in order."""
        for block in blocks(page):
            try:
                if block.mark == "file":
                    assert block.value
                    text = self._real(block.text)
                    (self.folder / block.value).write_text(text, encoding="utf-8")
                elif block.mark is None and block.language == "console":
                    self._type_all(block.text)
                elif block.mark is None and block.language == "python":
                    code = compile("\n" * block.line + block.text, str(page), "exec")
                    exec(code, self.names)
            except Exception as error:
                raise AssertionError(f"{page.relative_to(ROOT)}:{block.line}: {error}") from error

    def _type_all(self, text: str) -> None:
        assert _COMMAND.match(text), "a console block begins with a prompt"
        for found in _COMMAND.finditer(text):
            command = self._real(found["command"].replace("\n> ", "\n"))
            code, seen = self._type(found["machine"] or "here", command, found["shown"])
            fails = re.search(r"^error: ", found["shown"], re.MULTILINE)
            assert bool(code) == bool(fails), f"{command}\nended with {code}:\n{seen}"
            self._compare(command, found["shown"].strip("\n") + "\n", seen.strip("\n") + "\n")

    def _type(self, machine: str, command: str, shown: str) -> tuple[int, str]:
        """Run a command on a terminal of its own; answer what it asks."""
        pid, screen = os.forkpty()
        if pid == 0:  # pragma: no cover  the child is another program
            os.chdir(self.folder)
            os.execve("/bin/bash", ["bash", "-c", command], self._environment(machine))
        termios.tcsetwinsize(screen, (50, 200))
        octets, seen, answered = b"", "", 0
        while more := _read(screen):
            octets += more
            seen = octets.decode(errors="ignore")  # a character may come in two halves
            question = _QUESTION.search(seen, answered)
            if question:
                os.write(screen, self._answer(question[0], shown))
                answered = len(seen)
        _, status = os.waitpid(pid, 0)
        os.close(screen)  # only now: to a program that still ends it would be a SIGHUP
        lines = [line.rstrip() for line in _COLOUR.sub("", seen).splitlines()]
        return os.waitstatus_to_exitcode(status), "\n".join(lines)

    def _answer(self, question: str, shown: str) -> bytes:
        if question.endswith("[y/N]: "):
            typed = re.search(re.escape(question) + r"([yn])\n", shown)
            assert typed, f"the page does not show the question {question!r}"
            return typed[1].encode() + b"\n"
        if "YubiKey" in question:
            return YUBIKEY_PUK if "PUK" in question else YUBIKEY_PIN
        return PASSPHRASE if "passphrase" in question.lower() else PIN

    def _environment(self, machine: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if "MESH_HSM" not in name}
        if self.hsm is None or machine == "admin":
            kept["MESH_HSM_PKCS11_MODULE"] = ""  # not the HSMs that this machine may have
        if self.yubikeys is not None:
            kept |= {"PCSCLITE_CSOCK_NAME": self.yubikeys.environment["PCSCLITE_CSOCK_NAME"]}
        return kept | {
            "MESH_HSM_HOME": str(self.folder / machine),
            "MESH_HSM_TPM2_TCTI": self.tcti,
            "TPM2TOOLS_TCTI": self.tcti,
            "TERM": "dumb",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }

    def _real(self, text: str) -> str:
        if self.hsm is not None:
            text = text.replace(_SOFTHSM, str(self.hsm.module))
        return re.sub(_UDF, lambda found: self.udfs.get(found[0], found[0]), text)

    def _compare(self, command: str, shown: str, seen: str) -> None:
        groups: dict[str, str] = {}

        def pattern(found: re.Match[str]) -> str:
            if found["udf"]:
                shown_udf = found["udf"]
                if shown_udf in self.udfs:
                    return re.escape(self.udfs[shown_udf])
                if shown_udf in groups:
                    return f"(?P={groups[shown_udf]})"
                groups[shown_udf] = f"udf{len(groups)}"
                return f"(?P<{groups[shown_udf]}>{_UDF})"
            if found["time"]:
                return r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\S*"
            if found["version"]:
                return r"\d+(?:\.\d+){3}"
            if found["lines"]:
                return r"(?s:.*?\n)??"
            return "(?s:.*?)" if found["any"] else " +"

        expected, at = "", 0
        for found in _VARIABLE.finditer(shown):
            expected += re.escape(shown[at : found.start()]) + pattern(found)
            at = found.end()
        expected += re.escape(shown[at:])
        match = re.fullmatch(expected, seen)
        assert match, f"{command}\nthe page shows\n{shown}\nand there appears\n{seen}"
        self.udfs |= {udf: match[name] for udf, name in groups.items()}


def _read(screen: int) -> bytes:
    assert select.select([screen], [], [], 120)[0], "neither question nor end within two minutes"
    try:
        return os.read(screen, 4096)
    except OSError:  # Linux: the other side is gone
        return b""


@pytest.fixture(scope="session")
def _connected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """The end of README's session: an administrator, and a laptop whose keys are in the TPM."""
    with Swtpm() as rig:
        reader = Reader(tmp_path_factory.mktemp("connected"), rig.tcti)
        reader.follow(ROOT / "README.md")
        yield reader


@dataclass
class Toured:
    """The end of the tutorial on YubiKeys: its folder and TPM, and what the two YubiKeys hold."""

    reader: Reader
    states: list[bytes]


@pytest.fixture(scope="session")
def _toured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Toured]:
    with Swtpm() as tpm, rig_in_process(factory=True) as rig:
        rig.add()
        reader = Reader(tmp_path_factory.mktemp("toured"), tpm.tcti, yubikeys=rig)
        for machine, command, shown in commands(TUTORIAL):
            code, seen = reader._type(machine, command, "\n".join(shown) + "\n")
            assert code == 0, f"{command}\n{seen}"
        states = [one.device.save() for one in rig.keys]
        for one in list(rig.keys):  # out again: every page plugs in its own
            rig.unplug(one)
        yield Toured(reader, states)


@pytest.fixture
def reader(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Reader:
    """Somebody about to follow the page that the test names, with a TPM of his own."""
    page: Path = request.getfixturevalue("page")
    text = page.read_text(encoding="utf-8")
    if "testing softhsm" in text:
        request.getfixturevalue("softhsm_token")  # skips where there is none to be had
    if "testing yubikey" in text:
        request.getfixturevalue("virtual_yubikey")
    hsm: Softhsm | None = None
    if "<!-- world: hsm -->" in text:
        hsm = request.getfixturevalue("softhsm_token")
        hsm.clear()
    yubikeys: YubiKeyRig | None = None
    if "<!-- world: yubikeys -->" in text:
        toured: Toured = request.getfixturevalue("_toured")
        tcti = toured.reader.tcti
        for machine in ("admin", "laptop"):
            shutil.copytree(toured.reader.folder / machine, tmp_path / machine)
        shutil.copy(toured.reader.folder / "mesh-backup.json", tmp_path)
        yubikeys = request.getfixturevalue("factory_yubikey")
        for one, state in zip((yubikeys.first, yubikeys.add()), toured.states, strict=True):
            one.device.load(state)
        yubikeys.add()
    elif "<!-- world: connected -->" in text:
        connected: Reader = request.getfixturevalue("_connected")
        tcti = connected.tcti
        for machine in ("admin", "laptop"):
            shutil.copytree(connected.folder / machine, tmp_path / machine)
        for name in ("letter.txt", "mesh-backup.json"):
            shutil.copy(connected.folder / name, tmp_path)
    else:
        tcti = request.getfixturevalue("swtpm").tcti
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MESH_HSM_TPM2_TCTI", tcti)
    return Reader(tmp_path, tcti, hsm, yubikeys)
