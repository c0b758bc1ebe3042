"""Providers are found by entry point, and none of their libraries is imported to list them."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from mesh_hsm import registry
from mesh_hsm.errors import NotFoundError

PROVIDER = """
from mesh_hsm.provider import Provider

class ThirdProvider:
    scheme = "third"
    def __init__(self, records):
        self.records = records
    def tokens(self):
        return []
    def open(self, uri, secrets):
        raise NotImplementedError
"""


def python(code: str, *paths: Path) -> subprocess.CompletedProcess[str]:
    """Run code in an interpreter of its own, with these folders in front of its path."""
    folders = [*map(str, paths), *sys.path]
    prelude = f"import sys; sys.path[:0] = {folders!r}\n"
    return subprocess.run(
        [sys.executable, "-c", prelude + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def third_party(tmp_path: Path) -> Path:
    """A folder as pip leaves it: a provider's module and its metadata."""
    (tmp_path / "third_provider.py").write_text(PROVIDER)
    info = tmp_path / "third_provider-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: third-provider\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[mesh_hsm.providers]\n"
        "third = third_provider:ThirdProvider\n"
        "broken = no_such_library.provider:Provider\n"
        "missing = third_provider:NoSuchProvider\n"
    )
    return tmp_path


def test_a_third_party_provider_is_found(third_party: Path) -> None:
    done = python(
        """
        from pathlib import Path
        from mesh_hsm import registry
        assert "third" in registry.installed()
        assert "third_provider" not in sys.modules, "listing imported it"
        provider = registry.load("third", Path("/records"))
        assert (provider.scheme, provider.records) == ("third", Path("/records"))
        """,
        third_party,
    )
    assert done.returncode == 0, done.stderr


def test_listing_imports_no_providers_library(third_party: Path) -> None:
    done = python(
        """
        from mesh_hsm import registry
        registry.installed()
        heavy = {"tpm2_pytss", "mesh_hsm_tpm2", "mesh_hsm_software", "filelock", "yubikit"}
        print(sorted(heavy & sys.modules.keys()))
        """,
        third_party,
    )
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize("scheme", ["broken", "tpm2"])
def test_a_missing_library_says_what_to_install(third_party: Path, scheme: str) -> None:
    if scheme not in {"broken", *registry.installed()}:
        pytest.skip("the package is not installed here, so its entry points are not either")
    done = python(
        f"""
        from pathlib import Path
        from mesh_hsm import registry
        from mesh_hsm.errors import ProviderUnavailableError
        sys.modules["tpm2_pytss"] = None  # an import of it fails as if it were absent
        try:
            registry.load({scheme!r}, Path("/records")).tokens()
        except ProviderUnavailableError as error:
            print(error.hint)
        """,
        third_party,
    )
    assert f"pip install 'mesh-hsm[{scheme}]'" in done.stdout, done.stderr


def test_an_unknown_scheme_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="nonsense"):
        registry.load("nonsense", tmp_path)


def test_a_provider_that_fails_to_load_is_named(third_party: Path) -> None:
    done = python(
        """
        from pathlib import Path
        from mesh_hsm import registry
        from mesh_hsm.errors import ProviderUnavailableError
        try:
            registry.load("missing", Path("/records"))
        except ProviderUnavailableError as error:
            assert "AttributeError" in str(error)
            assert "third_provider:NoSuchProvider" in error.hint
        else:
            raise SystemExit("it loaded")
        """,
        third_party,
    )
    assert done.returncode == 0, done.stderr
