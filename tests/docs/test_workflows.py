"""The pages' GitHub Actions examples: their ``run:`` steps, as they stand, in a new project.

What a runner brings is stood in for, and only that:

* ``uses:`` steps are not run; those that are known to be right are listed below.
* ``sudo`` runs its command as it is. ``apt-get install`` is asked of the real apt-get, which only
  pretends; it must answer that all that it names is here already, so that the steps that follow
  have what the page gives them and no less. ``apt-get update`` does nothing.
* ``pip`` really installs, into an environment of its own, but takes this source tree for the
  repository that the reader is to name, and asks no index: what we depend on must be here.

The steps' variables come from the page; no variable of this process reaches them.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sysconfig
import venv
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.conftest import ROOT, blocks

USES = {"actions/checkout@v4", "actions/setup-python@v5"}
PAGES = {
    "softhsm": ROOT / "docs/how-to/softhsm-ci.md",
    "swtpm": ROOT / "docs/how-to/test-on-swtpm-in-ci.md",
    "yubikey": ROOT / "docs/how-to/virtual-yubikey.md",
}
FIXTURES = {"softhsm": "softhsm_token", "swtpm": "swtpm", "yubikey": "virtual_yubikey"}
PROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "letters"
version = "1"
[tool.hatch.build.targets.wheel]
packages = ["letters"]
"""
APT_GET = """\
#!/bin/sh
if [ "$1" = update ]; then exit 0; fi
exec {real} --simulate "$@"
"""
SUDO = '#!/bin/sh\nexec "$@"\n'
YKMAN = '#!/bin/sh\nexec python -c "from ykman._cli.__main__ import main; main()" "$@"\n'
PIP = '#!/bin/sh\nexec python -m pip "$@"\n'


def program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def runner(tmp_path: Path) -> dict[str, str]:
    """A machine with Python, as the variables that lead to it."""
    real = shutil.which("apt-get")
    if real is None:
        pytest.skip("this machine is no Debian: apt-get is not there to be asked")
    home = tmp_path / "python"
    venv.create(home, with_pip=False)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(home)}))
    # A path in a .pth file is searched, but .pth files inside it are not read: no editable install.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    program(home / "bin" / "pip", PIP)
    program(home / "bin" / "ykman", YKMAN)  # which pip finds installed, and does not install
    program(home / "bin" / "sudo", SUDO)
    program(home / "bin" / "apt-get", APT_GET.format(real=real))
    return {
        "PATH": f"{home / 'bin'}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "HOME": str(tmp_path),
        "LC_ALL": "C.UTF-8",
        "CI": "true",
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # pip reads it as the value of --build-isolation
    }


def project(folder: Path, page: Path) -> Path:
    """What the page's reader has checked out: the page's files, and a package of theirs."""
    (folder / "letters").mkdir(parents=True)
    (folder / "letters" / "__init__.py").touch()
    (folder / "pyproject.toml").write_text(PROJECT)
    for block in blocks(page):
        if block.mark == "file":
            assert block.value
            (folder / block.value).write_text(block.text)
    return folder


def job(page: Path) -> dict[str, Any]:
    """The one job of the page's one workflow."""
    (workflow,) = (yaml.safe_load(b.text) for b in blocks(page) if b.language == "yaml")
    (found,) = workflow["jobs"].values()
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("name", PAGES)
def test_the_steps_of_a_workflow_work(
    name: str, runner: dict[str, str], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    request.getfixturevalue(FIXTURES[name])  # skips where the simulator is not installed
    page = PAGES[name]
    folder = project(tmp_path / "project", page)
    described = job(page)
    said = {}
    variables = described["env"] | {"MESH_HSM": ROOT.as_uri()}
    for step in described["steps"]:
        if "run" not in step:
            continue
        script = tmp_path / "step.sh"
        script.write_text(step["run"])
        done = subprocess.run(
            ["bash", "-e", script],  # as GitHub runs a step that names no shell
            cwd=folder,
            env=runner | variables | step.get("env", {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, f"{step['name']}\n{done.stdout}"
        said[step["name"]] = done.stdout
    installed, packages, tests, *rest = said.values()
    assert " 0 newly installed" in installed, f"these are not installed here:\n{installed}"
    assert re.search(r"Successfully installed .*mesh-hsm-", packages)
    assert "WARNING" not in packages  # as for an extra that does not exist
    assert re.search(r"\d+ passed", tests)
    assert not re.search("skipped|failed|error", tests)
    if name == "softhsm":
        (commands,) = rest
        assert "SIMULATOR" in commands
        assert '"label": "release"' in commands
    if name == "yubikey":
        (commands,) = rest
        assert "SIMULATOR" in commands
        assert "Private key type: ECCP256" in commands


@pytest.mark.parametrize("name", PAGES)
def test_the_other_steps_are_known(name: str) -> None:
    described = job(PAGES[name])
    assert described["runs-on"] == "ubuntu-24.04"
    assert {step["uses"] for step in described["steps"] if "uses" in step} == USES
    assert all(set(step) <= {"name", "run", "uses", "with"} for step in described["steps"])
    oldest = re.search(r'requires-python = ">=3\.(\d+)"', (ROOT / "pyproject.toml").read_text())
    (python,) = (step["with"]["python-version"] for step in described["steps"] if "with" in step)
    assert oldest
    assert int(python.removeprefix("3.")) >= int(oldest[1])


def test_every_workflow_is_run() -> None:
    shown = {
        page
        for page in (ROOT / "docs").rglob("*.md")
        for block in blocks(page)
        if block.language == "yaml" and "runs-on" in block.text
    }
    assert shown == set(PAGES.values())
