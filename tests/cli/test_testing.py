"""``mesh-hsm testing softhsm``: what COMMAND finds, what comes back, and that nothing stays."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import PROGRAM, Home

pytestmark = pytest.mark.usefixtures("softhsm_token")  # which skips where there is no SoftHSM

RUNNER = ("testing", "softhsm", "--")
LOOK = """
import json, os, pkcs11
tokens = pkcs11.lib(os.environ["MESH_HSM_PKCS11_MODULE"]).get_tokens()
found = {token.label.rstrip("\\0 "): token for token in tokens}
found.pop("")
opened = [(label, suffix) for suffix in ("", "_2", "_3")
          for label, token in found.items()
          if f"serial={token.serial.decode()}" in os.environ.get(f"MESH_HSM_TEST_TOKEN{suffix}", "")
          and token.open(user_pin=os.environ[f"MESH_HSM_TEST_PIN{suffix}"])]
print(json.dumps({"environment": dict(os.environ), "tokens": sorted(found), "opened": opened}))
"""
LISTEN = """
import os, signal
def tell(number, frame):
    print(signal.Signals(number).name, flush=True)
    if number == ENDS:
        os._exit(9)
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, tell)
print(os.environ["SOFTHSM2_CONF"], flush=True)
while True:
    signal.pause()
"""


def look(home: Home, *options: str, **env: str) -> dict[str, Any]:
    command = ("testing", "softhsm", *options, "--", sys.executable, "-c", LOOK)
    seen: dict[str, Any] = json.loads(home.ok(*command, env=env).out)
    return seen


def test_the_command_finds_a_token_that_its_pin_opens(home: Home) -> None:
    seen = look(home, SOFTHSM2_CONF="/the/users/own.conf", MESH_HSM_PKCS11_MODULE="/their/own.so")
    assert seen["tokens"] == ["test"]
    assert seen["opened"] == [["test", ""]]
    environment = seen["environment"]
    assert environment["MESH_HSM_TEST_TOKEN"].startswith("pkcs11:token=test;manufacturer=")
    assert environment["MESH_HSM_TEST_SO_PIN"].isdigit()
    assert environment["MESH_HSM_TEST_SO_PIN"] != environment["MESH_HSM_TEST_PIN"]
    assert environment["PATH"] == os.environ["PATH"]
    folder = Path(environment["SOFTHSM2_CONF"]).parent
    assert Path(environment["MESH_HSM_HOME"]).parent == folder
    assert not folder.exists()


def test_each_run_has_another_token(home: Home) -> None:
    one, two = look(home)["environment"], look(home)["environment"]
    for name in ("TOKEN", "PIN", "SO_PIN"):
        assert one[f"MESH_HSM_TEST_{name}"] != two[f"MESH_HSM_TEST_{name}"]


def test_several_tokens_each_with_its_own_pin(home: Home) -> None:
    seen = look(home, "--tokens", "3", "--label", "build")
    assert seen["tokens"] == ["build", "build-2", "build-3"]
    assert seen["opened"] == [["build", ""], ["build-2", "_2"], ["build-3", "_3"]]


def test_it_says_on_stderr_alone_that_it_is_a_simulator(home: Home) -> None:
    done = home.ok(*RUNNER, "echo", "hello")
    assert done.out == "hello\n"
    assert done.err.startswith("SIMULATOR: ")


def test_json_leaves_standard_output_to_one_object(home: Home) -> None:
    done = home.run("testing", "softhsm", "--json", "--", "sh", "-c", "echo hello; exit 3")
    assert done.code == done.json["exit_code"] == 3
    (token,) = done.json["tokens"]
    assert token.startswith("pkcs11:token=test;")
    assert "SIMULATOR" in json.loads(done.err.splitlines()[0])["notice"]
    assert done.err.splitlines()[1:] == ["hello"]


@pytest.mark.parametrize(
    ("script", "code"), [("true", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143)]
)
def test_the_exit_code_is_the_command_s(home: Home, script: str, code: int) -> None:
    assert home.run(*RUNNER, "sh", "-c", script).code == code


def test_the_exit_code_comes_back_where_ended_children_are_ignored(home: Home) -> None:
    def ignore() -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    assert home.run(*RUNNER, "sh", "-c", "exit 7", preexec_fn=ignore).code == 7


def test_what_follows_the_command_is_its_own(home: Home) -> None:
    assert home.ok("testing", "softhsm", "echo", "--json", "--label", "-h").out == (
        "--json --label -h\n"
    )


def test_signals_and_descriptors_reach_the_command_as_if_run_alone(home: Home) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"2718-2818\n")
    os.close(writer)
    # The first 28 signals: 32 and 33 are the C library's own.
    show = "sed -nE 's/^(Sig(Blk|Ign)):.*(.{7})$/\\1 \\3/p' /proc/self/status"
    alone = subprocess.run(["sh", "-c", show], capture_output=True, text=True)
    assert len(alone.stdout.splitlines()) == 2
    done = subprocess.run(
        [*PROGRAM, *RUNNER, "sh", "-c", f"{show}; cat /dev/fd/{reader}"],
        env=home.environment(),
        pass_fds=[reader],
        capture_output=True,
        text=True,
    )
    os.close(reader)
    assert done.stdout == alone.stdout + "2718-2818\n"


@pytest.mark.parametrize("arguments", [(), ("--",), ("--label", "x")], ids=" ".join)
def test_a_command_is_needed(home: Home, arguments: tuple[str, ...]) -> None:
    done = home.run("testing", "softhsm", *arguments)
    assert done.code == 2
    assert "Missing argument 'COMMAND...'" in done.err


@pytest.mark.parametrize("program", ["/nowhere/program", "no-such-program", "."])
def test_what_cannot_be_run_is_said_and_nothing_stays(home: Home, program: str) -> None:
    done = home.run(*RUNNER, program, env={"TMPDIR": str(home.folder)})
    assert done.code == 4
    assert f"error: {program} cannot be run: " in done.err
    assert list(home.folder.iterdir()) == []


def test_a_label_that_does_not_fit_is_refused(home: Home) -> None:
    done = home.run(
        *("testing", "softhsm", "--label", "x" * 31, "--tokens", "2", "true"),
        env={"TMPDIR": str(home.folder)},
    )
    assert done.code == 3
    assert "1 to 32 octets" in done.err
    assert list(home.folder.iterdir()) == []


def test_an_absent_softhsm_is_said(home: Home) -> None:
    done = home.run(*RUNNER, "true", env={"MESH_HSM_SOFTHSM": "/nowhere"})
    assert done.code == 9
    assert "SoftHSM is not installed" in done.err
    assert "hint: apt install softhsm2" in done.err


def test_it_needs_no_pytest(home: Home) -> None:
    code = (
        "import sys; sys.modules['pytest'] = None\n"
        "from mesh_hsm_cli.main import main\n"
        "sys.exit(main(['testing', 'softhsm', 'echo', 'hello']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=home.environment(), capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "hello\n")


@pytest.mark.parametrize(
    "number", [signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM], ids=lambda n: n.name
)
def test_a_signal_goes_through_and_nothing_stays(home: Home, number: signal.Signals) -> None:
    listen = LISTEN.replace("ENDS", str(int(number)))
    with subprocess.Popen(
        [*PROGRAM, *RUNNER, sys.executable, "-c", listen],
        env=home.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as running:
        assert running.stdout
        conf = Path(running.stdout.readline().rstrip())
        assert conf.exists()
        running.send_signal(signal.SIGUSR1)
        assert running.stdout.readline() == "SIGUSR1\n"
        running.send_signal(number)
        assert running.stdout.read() == f"{number.name}\n"
        assert running.wait() == 9
    assert not conf.parent.exists()


def test_ctrl_c_is_left_to_the_terminal(home: Home) -> None:
    # In a group of its own the terminal does not reach it: what arrives, the runner has sent.
    listen = "import os; os.setpgid(0, 0)" + LISTEN.replace("ENDS", str(int(signal.SIGUSR1)))
    pid, screen = os.forkpty()
    if pid == 0:  # pragma: no cover  the child is another program
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a test run in the background ignores it
        program = [*PROGRAM, *RUNNER, sys.executable, "-c", listen]
        os.execve(program[0], program, home.environment())
    seen = _until(screen, b"softhsm2.conf")
    os.write(screen, b"\x03")
    seen += _until(screen, b"^C")  # shown once the signal is sent
    os.kill(pid, signal.SIGUSR1)  # taken by the runner after it
    seen += _until(screen, None)
    os.close(screen)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 9
    assert b"SIGUSR1" in seen
    assert b"SIGINT" not in seen


def test_ctrl_c_before_there_is_a_program_ends_it() -> None:
    code = (
        "import signal, sys\n"
        "from mesh_hsm_cli.foreground import run, signals_held\n"
        "with signals_held():\n"
        "    print('held', flush=True)\n"
        "    while signal.SIGINT not in signal.sigpending():\n"
        "        pass\n"
        "    code = run(['sleep', '600'], {'PATH': '/usr/bin:/bin'})\n"
        "sys.exit(code)"
    )
    pid, screen = os.forkpty()
    if pid == 0:  # pragma: no cover  the child is another program
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.execv(sys.executable, [sys.executable, "-c", code])
    _until(screen, b"held")
    os.write(screen, b"\x03")
    _until(screen, None)
    os.close(screen)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 130


def test_a_signal_after_the_program_waits_until_all_is_removed() -> None:
    code = (
        "import os, signal\n"
        "from mesh_hsm_cli.foreground import run, signals_held\n"
        "with signals_held():\n"
        "    code = run(['true'], {'PATH': '/usr/bin:/bin'})\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    print('removed', code, flush=True)\n"
        "print('never here')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "removed 0\n")


def _until(screen: int, wanted: bytes | None) -> bytes:
    """What appears until ``wanted`` does; None: to the end."""
    seen = b""
    while wanted is None or wanted not in seen:
        assert select.select([screen], [], [], 60)[0], f"neither {wanted!r} nor an end: {seen!r}"
        try:
            octets = os.read(screen, 4096)
        except OSError:  # Linux: the other side is gone
            octets = b""
        if not octets:
            assert wanted is None, f"never {wanted!r}, but {seen!r}"
            return seen
        seen += octets
    return seen
