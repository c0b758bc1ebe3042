"""What we ship: the wheel holds every package and nothing else, and works where it is installed."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "mesh_hsm",
    "mesh_hsm_cli",
    "mesh_hsm_pkcs11",
    "mesh_hsm_software",
    "mesh_hsm_tpm2",
    "mesh_hsm_yubikey",
}


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT]
    subprocess.run(build, check=True, capture_output=True)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel in a new environment that sees our dependencies but not our source tree."""
    home = tmp_path_factory.mktemp("installed")
    venv.create(home, with_pip=False)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(home)}))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*command, "--target", site, wheel], check=True, capture_output=True)
    # A path in a .pth file is searched, but .pth files inside it are not read: no editable install.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home / "bin" / "python"


def run(python: Path, *arguments: str) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("COV", "PYTHON"))}
    done = subprocess.run(
        [python, *arguments], check=True, capture_output=True, text=True, env=environment, cwd="/"
    )
    return done.stdout


def test_the_wheel_holds_our_packages_and_no_stray_name(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == PACKAGES
    assert all(f"{package}/__init__.py" in names for package in PACKAGES)
    assert "mesh_hsm/py.typed" in names


def test_every_module_in_the_tree_is_in_the_wheel(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    roots = [ROOT, ROOT / "providers", ROOT / "cli"]
    for root in roots:
        for package in PACKAGES:
            for module in (root / package).rglob("*.py"):
                assert module.relative_to(root).as_posix() in names


def test_the_installed_command_finds_every_provider(installed: Path) -> None:
    listed = run(installed, "-m", "mesh_hsm_cli.main", "provider", "list", "--json")
    assert '"pkcs11"' in listed
    assert '"soft"' in listed
    assert '"tpm2"' in listed


def test_the_installed_code_is_the_wheel(installed: Path) -> None:
    where = run(installed, "-c", "import mesh_hsm; print(mesh_hsm.__file__)")
    assert Path(where.strip()).is_relative_to(installed.parents[1])
