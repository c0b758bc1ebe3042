"""``--device SERIAL``: the kit on a YubiKey of yours, once you agreed to lose what is on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mesh_hsm.errors import MeshHsmError

_OPTION = "--device"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        _OPTION,
        metavar="SERIAL",
        type=int,
        help="run the conformance kit on this YubiKey; its PIV application is ERASED",
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Without the option there is nothing to run, and nothing to skip."""
    is_theirs = collection_path.name == "test_yubikey_device.py"
    return True if is_theirs and config.getoption(_OPTION) is None else None


@pytest.fixture(scope="session")
def device_serial(request: pytest.FixtureRequest) -> int:
    """The serial number that was named, once somebody agreed to what is lost."""
    serial: int | None = request.config.getoption(_OPTION)
    if serial is None:
        pytest.skip(f"no YubiKey was named with {_OPTION} SERIAL")
    try:
        _agree(serial)
    except MeshHsmError as error:
        pytest.exit(f"{error}: nothing was erased", returncode=1)
    return serial


def _agree(serial: int) -> None:
    """Say what will be lost, and have the serial number typed. Without a terminal, no."""
    from yubikit.piv import SLOT

    from mesh_hsm_cli import terminal
    from mesh_hsm_yubikey import catalogue, slot_state
    from mesh_hsm_yubikey.card import card_of
    from mesh_hsm_yubikey.slots import OURS

    def held(hold) -> list[str]:
        return [
            SLOT(slot).name
            for slot in OURS
            if slot_state.read(hold.piv, slot) is not None
            or catalogue.has_certificate(hold.piv, slot)
        ]

    card = card_of(serial)
    found = card.run("say what it holds", held)
    card.release()
    what = ", ".join(found) or "no key and no certificate that it shows"
    warning = (
        f"This ERASES the PIV application of YubiKey {serial} many times over: "
        f"{what}, its PIN, PUK and management key"
    )
    agreed = terminal.present() and (
        terminal.ask_line("Type its serial number to go on", above=warning) == str(serial)
    )
    if not agreed:
        pytest.exit("nothing was erased: the serial number was not typed", returncode=1)
