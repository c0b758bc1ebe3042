"""The shape of the command line: help, examples, completion, exit codes, what is imported."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from mesh_hsm import errors
from mesh_hsm.errors import MeshHsmError
from mesh_hsm_cli import failures, main
from mesh_hsm_cli.lazy import Verb
from tests.cli.conftest import Home

DOCS = Path(__file__).parents[2] / "docs" / "reference"
HEAVY = (
    "cryptography",
    "rich",
    "tpm2_pytss",
    "mesh_hsm_pkcs11",
    "mesh_hsm_software",
    "mesh_hsm_tpm2",
    "mesh_hsm.provider",
)


def commands() -> Iterator[tuple[str, click.Command]]:
    context = click.Context(main.cli, info_name="mesh-hsm")
    for noun in main.cli.list_commands(context):
        found = main.cli.get_command(context, noun)
        assert found is not None
        if isinstance(found, click.Group):
            yield from ((f"{noun} {name}", verb) for name, verb in found.commands.items())
        else:
            yield noun, found


COMMANDS = dict(commands())


def test_the_promised_commands_are_there() -> None:
    assert set(COMMANDS) == {
        "admin add",
        "admin list",
        "admin remove",
        "completion",
        "dare decode",
        "dare encode",
        "dare info",
        "dare verify",
        "device accept",
        "device activate",
        "device connect",
        "device init",
        "device list",
        "device show",
        "device update",
        "keyset add",
        "keyset create",
        "keyset list",
        "keyset show",
        "doctor",
        "key attest",
        "key delete",
        "key generate",
        "key list",
        "key move",
        "key show",
        "mesh create",
        "mesh export",
        "mesh move-master",
        "mesh show",
        "pin change",
        "pin reset",
        "pin unblock",
        "provider list",
        "testing softhsm",
        "testing yubikey",
        "token init",
        "token list",
        "token show",
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_an_example_and_json(name: str) -> None:
    command = COMMANDS[name]
    assert isinstance(command, Verb)
    assert command.help
    assert all(line.split("mesh-hsm ", 1)[1].startswith(name) for line in _typed(command.example))
    assert any("--json" in option.opts for option in command.params)
    context = click.Context(command, info_name=name)
    assert command.example.splitlines()[0] in command.get_help(context)


def _typed(example: str) -> list[str]:
    return [line for line in example.splitlines() if "mesh-hsm" in line]


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_use_options_that_exist(name: str) -> None:
    known = {option for param in COMMANDS[name].params for option in param.opts}
    for line in _typed(COMMANDS[name].example):  # type: ignore[attr-defined]  # a Verb, see above
        ours = line.split("mesh-hsm ", 1)[1].split(" > ")[0]
        assert set(re.findall(r"(?<= )--?[a-z][a-z-]*", ours)) <= known


@pytest.mark.parametrize(
    "name", ["key generate", "key delete", "key move", "admin add", "admin remove", "keyset create"]
)
def test_without_a_terminal_too_a_management_key_can_be_given(name: str) -> None:
    """Each of these writes to a YubiKey, whose PIN need not protect that key."""
    options = {option for param in COMMANDS[name].params for option in param.opts}
    assert "--management-key-fd" in options


@pytest.mark.parametrize("name", COMMANDS)
def test_no_option_takes_a_secret_itself(name: str) -> None:
    options = {option for param in COMMANDS[name].params for option in param.opts}
    secret = {
        o for o in options if re.search("pin|puk|passphrase|password|auth|secret|management-key", o)
    }
    allowed = {
        "--no-pin",
        "--pin-policy",
        "--pin-tries",
        "--puk-tries",
        "--allow-unauthenticated",
        "--allow-factory-secrets",
    }
    assert all(option.endswith(("-fd", "-env")) for option in secret - allowed)


@pytest.mark.parametrize("name", COMMANDS)
def test_where_wrong_pins_are_counted_the_last_try_is_consented_to(name: str) -> None:
    options = {option for param in COMMANDS[name].params for option in param.opts}
    assert ("--use-last-try" in options) is bool({"--pin-fd", "--so-pin-fd"} & options)


def test_help_imports_nothing_heavy(home: Home) -> None:
    code = (
        "import sys, mesh_hsm_cli.main as m; m.main(['--help']);"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=home.environment(), capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_listing_providers_imports_none_of_them(home: Home) -> None:
    code = (
        "import sys, mesh_hsm_cli.main as m; m.main(['provider', 'list']);"
        "print([n for n in ('mesh_hsm_software', 'mesh_hsm_tpm2', 'tpm2_pytss')"
        " if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=home.environment(), capture_output=True, text=True
    )
    assert "soft" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_console_script_is_this_program(home: Home) -> None:
    script = Path(sys.executable).with_name("mesh-hsm")
    assert script.exists(), "mesh-hsm is not installed"
    done = subprocess.run([script, "--version"], env=home.environment(), capture_output=True)
    assert done.stdout.startswith(b"mesh-hsm ")


def test_help_lists_every_noun(home: Home) -> None:
    shown = home.ok("--help").out
    assert all(noun in shown for noun in main.NOUNS)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(home: Home, shell: str) -> None:
    assert "_MESH_HSM_COMPLETE" in home.ok("completion", shell).out


def test_completion_completes_verbs_and_options(home: Home) -> None:
    def complete(words: str, at: int) -> str:
        asked = {"_MESH_HSM_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(at)}
        return home.run(env=asked).out

    assert "plain,connect" in complete("mesh-hsm device conn", 2)
    assert "--confirm-udf" in complete("mesh-hsm device connect --conf", 3)
    assert "plain,doctor" in complete("mesh-hsm do", 1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonsense"], "No such command"),
        (["key", "nonsense"], "No such command"),
        (["key", "show"], "Missing argument"),
        (["key", "list", "--colour"], "No such option"),
        (["key", "generate", "--token", "soft:"], "Missing option"),
        (["completion", "tcsh"], "is not one of"),
        (["dare", "encode", "x"], "-r WHO"),
        (["dare", "decode", "x", "--json"], "standard output"),
        (["mesh", "create"], "--backup-to FILE or --no-escrow"),
        (["mesh", "create", "--backup-to", "x", "--no-escrow"], "--backup-to FILE or --no-escrow"),
        (["key", "list", "--pin-fd", "3"], "No such option"),
        (["token", "init", "x"], "Missing option"),
        (["pin", "change", "x", "--token", "y"], "exclude each other"),
        (["pin", "change", "--pin-fd", "3", "--new-pin-fd", "3"], "one secret, not two"),
        (["pin", "change", "--pin-fd", "3", "--pin-env", "X"], "exclude each other"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_usage_is_exit_code_2(home: Home, arguments: list[str], said: str) -> None:
    done = home.run(*arguments)
    assert done.code == failures.EXIT_USAGE
    assert said in done.err
    assert "Traceback" not in done.err
    assert json.loads(home.run(*arguments, "--json").err)["error"]["exit_code"] == 2


def test_a_noun_alone_shows_its_verbs(home: Home) -> None:
    done = home.run("key")
    assert done.code == failures.EXIT_USAGE
    assert "generate" in done.err + done.out


def documented_codes() -> dict[int, set[str]]:
    rows = re.findall(r"^\| (\d+) \| (.*?) \|", (DOCS / "exit-codes.md").read_text(), re.M)
    return {int(code): set(re.findall(r"`(\w+)`", names)) for code, names in rows}


def test_every_error_and_its_exit_code_are_documented() -> None:
    documented = documented_codes()
    for name, kind in inspect.getmembers(errors, inspect.isclass):
        if issubclass(kind, MeshHsmError):
            assert name in documented[kind.exit_code], name


def test_every_documented_error_exists() -> None:
    for code, names in documented_codes().items():
        for name in names - {"UsageError"}:
            assert getattr(errors, name).exit_code == code


def test_the_program_s_own_exit_codes_are_documented() -> None:
    ours = {
        failures.EXIT_USAGE,
        failures.EXIT_UNEXPECTED,
        main.EXIT_INTERRUPTED,
        main.EXIT_BROKEN_PIPE,
        main.EXIT_HUNG_UP,
        main.EXIT_TERMINATED,
    }
    assert ours <= set(documented_codes())


def test_every_doctor_code_is_documented() -> None:
    sections = set(re.findall(r"^### ([A-Z0-9]+\d{3})$", (DOCS / "doctor.md").read_text(), re.M))
    root = Path(__file__).parents[2]
    sources = [*root.glob("cli/**/*.py"), *root.glob("providers/**/*.py")]
    families = "TPM|PKCS11|YUBIKEY|SOFT|STATE|PROVIDER|BACKUP|CONNECT|DEVICE"
    pattern = re.compile(rf'"((?:{families})\d{{3}})"')
    used = {code for path in sources for code in pattern.findall(path.read_text())}
    assert {"STATE001", "YUBIKEY001"} <= used
    assert used <= sections
