"""The page "PKCS#11 modules tried" says what the probe finds today."""

from __future__ import annotations

import pytest
from probe_table import PAGE, facts, modules, put, shown, table

from mesh_hsm.errors import ProviderUnavailableError


@pytest.mark.parametrize("name", modules())
def test_the_page_says_what_the_probe_finds(name: str) -> None:
    said = shown(PAGE.read_text(encoding="utf-8"), name)
    try:
        found = facts(name)
    except ProviderUnavailableError as error:
        pytest.skip(f"{error} ({error.hint})")
    if not said.startswith(f"### {name} {found['version']}\n"):
        pytest.skip(f"the page is about another version than {found['version']}, which is here")
    assert table(name, found) == said


def test_a_table_is_put_in_its_place() -> None:
    page = PAGE.read_text(encoding="utf-8")
    changed = put(page, "NSS", "### other\n\n\\1 and more")
    assert shown(changed, "NSS") == "### other\n\n\\1 and more"
    assert shown(changed, "SoftHSM") == shown(page, "SoftHSM") != ""
    assert put(changed, "NSS", shown(page, "NSS")) == page
