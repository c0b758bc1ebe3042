"""What the documentation shows is what happens: every page is followed on a software TPM."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml  # comes with myst-parser, which builds these pages

from tests.docs.conftest import ROOT, Reader, blocks

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *sorted(ROOT.glob("docs/how-to/*.md")),
    *sorted(ROOT.glob("docs/reference/*.md")),
    *sorted(ROOT.glob("docs/explanation/*.md")),
]
RUN = [page for page in PAGES if any(b.language in ("console", "python") for b in blocks(page))]
# What is shown and not run. A shell's language is not among them: commands stand in ``console``.
SHOWN = {"console", "python", "text", "json", "toml", "yaml", "{eval-rst}"}
_LINK = re.compile(r"\]\((?!https?:|#)(?P<path>[^)#]+)(?:#[^)]*)?\)")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", RUN, ids=name)
def test_a_page_says_what_happens(page: Path, reader: Reader) -> None:
    reader.follow(page)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_nothing_escapes_being_run(page: Path) -> None:
    for block in blocks(page):
        assert block.language in SHOWN, f"{name(page)}:{block.line}: {block.language!r}"
        if block.language == "yaml":
            assert yaml.safe_load(block.text)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for found in _LINK.finditer(text):
        assert (page.parent / found["path"]).exists(), f"{name(page)}: {found['path']}"


def test_there_are_pages_to_follow() -> None:
    assert {"README.md", "docs/how-to/script-it.md"} <= {name(page) for page in RUN}
