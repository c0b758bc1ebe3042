"""What command-line tests share: homes, the program run for real, secrets through descriptors."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

PROGRAM = (sys.executable, "-m", "mesh_hsm_cli.main")
PASSPHRASE = b"correct horse battery staple"
STORE = b"a store of its own phrase"
PIN = b"2718-2818"


@dataclass(frozen=True)
class Run:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, Any]:
        """The error object of a command with --json: the last line of stderr."""
        error: dict[str, Any] = json.loads(self.err.splitlines()[-1])["error"]
        return error


@dataclass(frozen=True)
class Home:
    """One machine: its state folder, its working folder, its environment."""

    folder: Path
    env: dict[str, str] = field(default_factory=dict)

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def environment(self, **more: str) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("MESH_HSM")}
        # Set but empty: no PKCS #11 module of this machine answers, whatever is installed here.
        ours = {"MESH_HSM_HOME": str(self.state), "MESH_HSM_PKCS11_MODULE": ""}
        return kept | ours | self.env | more

    def run(
        self,
        *arguments: str | Path,
        secrets: dict[str, bytes] | None = None,
        stdin: bytes | None = None,
        env: dict[str, str] | None = None,
        **popen: Any,
    ) -> Run:
        """Run mesh-hsm. Each of ``secrets`` goes through ``--NAME-fd`` of its own pipe."""
        descriptors = []
        options: list[str] = []
        for name, secret in (secrets or {}).items():
            reader, writer = os.pipe()
            os.write(writer, secret + b"\n")
            os.close(writer)
            descriptors.append(reader)
            options += [f"--{name}-fd", str(reader)]
        try:
            done = subprocess.run(
                [*PROGRAM, *map(str, arguments), *options],
                cwd=self.folder,
                env=self.environment(**(env or {})),
                stdin=None if stdin is not None else subprocess.DEVNULL,
                input=stdin,
                stdout=popen.pop("stdout", subprocess.PIPE),
                stderr=subprocess.PIPE,
                pass_fds=descriptors,
                start_new_session=True,  # no terminal to ask on
                **popen,
            )
        finally:
            for reader in descriptors:
                os.close(reader)
        return Run(done.returncode, (done.stdout or b"").decode(), done.stderr.decode())

    def ok(self, *arguments: str | Path, **settings: Any) -> Run:
        """Run mesh-hsm, which must succeed."""
        done = self.run(*arguments, **settings)
        assert done.code == 0, done.err
        return done


def on_terminal(
    home: Home, arguments: tuple[str, ...], talk: list[tuple[bytes, bytes]], **env: str
) -> tuple[int, str]:
    """Run mesh-hsm on a pseudo-terminal of its own; answer each question once it is asked."""
    pid, screen = os.forkpty()
    if pid == 0:  # pragma: no cover  the child is another program
        os.chdir(home.folder)
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a test run in the background ignores it
        os.execve(PROGRAM[0], [*PROGRAM, *arguments], home.environment(**env))
    seen = b""
    for question, answer in talk:
        while question not in seen:
            octets = _read(screen)
            assert octets, f"never asked {question!r}, but said {seen!r}"
            seen += octets
        seen = seen[seen.index(question) + len(question) :]
        os.write(screen, answer)
    while octets := _read(screen):
        seen += octets
    os.close(screen)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), seen.decode(errors="replace")


def _read(screen: int) -> bytes:
    assert select.select([screen], [], [], 60)[0], "neither question nor end within a minute"
    try:
        return os.read(screen, 4096)
    except OSError:  # Linux: the other side is gone
        return b""


MakeHome = Callable[..., Home]


@pytest.fixture(autouse=True)
def _no_modules_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """For commands run in this process, too. The fixture ``softhsm_token`` comes after it."""
    monkeypatch.setenv("MESH_HSM_PKCS11_MODULE", "")


@pytest.fixture
def make_home(tmp_path: Path) -> MakeHome:
    """Machines by name, each in a folder of its own."""

    def make(name: str = "home", **env: str) -> Home:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        return Home(folder, env)

    return make


@pytest.fixture
def home(make_home: MakeHome) -> Home:
    """An empty machine."""
    return make_home()


@dataclass(frozen=True)
class World:
    """An administrator with a Mesh, and a laptop connected to it, both with software keys."""

    admin: Home
    laptop: Home
    mesh: str
    device: str

    @property
    def folder(self) -> Path:
        return self.admin.folder.parent


def connect(folder: Path, token: str, device_secrets: dict[str, bytes], **env: str) -> World:
    """Go the whole way from nothing to a connected device."""
    admin, laptop = Home(folder / "admin"), Home(folder / "laptop", env)
    for one in (admin, laptop):
        one.folder.mkdir()
    mesh = admin.ok(
        "mesh",
        "create",
        "--backup-to",
        "../backup.json",
        "--json",
        secrets={"passphrase": PASSPHRASE, "store-passphrase": STORE},
    ).json["mesh"]["udf"]
    device = laptop.ok(
        *("device", "init", "--name", "laptop", "--token", token),
        *("--request", "../request.dare", "--json"),
        secrets=device_secrets,
    ).json["device"]["udf"]
    admin.ok(
        *("device", "connect", "../request.dare", "--out", "../response.dare"),
        *("--confirm-udf", device, "--label", "laptop"),
        secrets={"passphrase": STORE},
    )
    laptop.ok(
        *("device", "activate", "../response.dare", "--out", "../connection.dare"),
        *("--confirm-udf", mesh),
        secrets=device_secrets,
    )
    admin.ok("device", "accept", "../connection.dare")
    return World(admin, laptop, mesh, device)


@pytest.fixture(scope="session")
def _soft_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return connect(tmp_path_factory.mktemp("world"), "soft:", {"passphrase": PASSPHRASE})


@pytest.fixture
def world(_soft_world: World, tmp_path: Path) -> World:
    """A copy of the connected world, to be spoilt at will."""
    folder = tmp_path / "world"
    shutil.copytree(_soft_world.folder, folder)
    return World(
        Home(folder / "admin"), Home(folder / "laptop"), _soft_world.mesh, _soft_world.device
    )
