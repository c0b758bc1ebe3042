"""What an administrator's key asks for: said before it is made, and before it is used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from mesh_hsm.custody import CustodyClass, CustodyStatement, Hardware, PinPolicy, TouchPolicy
from mesh_hsm.provider import TokenInfo
from mesh_hsm.testing.softhsm import Softhsm
from mesh_hsm.uri import Uri
from mesh_hsm_cli import main
from mesh_hsm_cli.administrator import _say_who_signs
from mesh_hsm_cli.administrators import AtHand
from mesh_hsm_cli.records import Administrator
from mesh_hsm_cli.session import Session
from tests.cli.conftest import STORE, World


@pytest.mark.parametrize(
    ("pin", "touch", "devices", "several", "said"),
    [
        (PinPolicy.ONCE, TouchPolicy.ALWAYS, 1, False, "signs 3 times: card will ask for 3 touc"),
        (PinPolicy.ONCE, TouchPolicy.ALWAYS, 4, False, "signs 12 times, 3 for each device: card "),
        (PinPolicy.ONCE, TouchPolicy.CACHED, 1, False, "card will ask for a touch, and again"),
        (PinPolicy.ALWAYS, TouchPolicy.NONE, 1, False, "zoe signs 3 times\n"),
        (PinPolicy.ONCE, TouchPolicy.NONE, 2, True, "zoe signs 6 times, 3 for each device\n"),
        (PinPolicy.ONCE, TouchPolicy.NONE, 1, False, ""),
    ],
)
def test_how_many_touches_is_said_beforehand(
    pin: PinPolicy,
    touch: TouchPolicy,
    devices: int,
    several: bool,
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    uri = Uri.parse("card:serial=1")
    info = TokenInfo(uri, "card", "", "", None, None, Hardware.CLAIMED)
    custody = CustodyStatement(
        CustodyClass.GENERATED, Hardware.CLAIMED, "card", pin=pin, touch=touch
    )
    administrator = Administrator("zoe", "card:serial=1;slot=9c", "MAAA-BBBB", 1)
    by = AtHand(administrator, info, custody)
    _say_who_signs(Session(), by, devices, several=several)
    err = capsys.readouterr().err
    assert said in err
    assert bool(err) == bool(said)


@pytest.mark.parametrize("insists", [False, True])
def test_a_token_that_does_not_ask_each_time_is_asked_once_unless_somebody_insists(
    world: World,
    softhsm_token: Softhsm,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    insists: bool,
) -> None:
    """Some store the attribute and sign without: here it is not even stored."""
    from mesh_hsm_pkcs11 import templates

    real = templates.private_key

    def private_key(wish: templates.Wish, kind: int) -> Any:
        return {n: v for n, v in real(wish, kind).items() if n.name != "ALWAYS_AUTHENTICATE"}

    monkeypatch.setattr(templates, "private_key", private_key)
    shutil.copytree(world.admin.state, tmp_path / "state")
    for name, value in {
        "MESH_HSM_HOME": str(tmp_path / "state"),
        "SECRET": softhsm_token.pin,
        "STORE": STORE.decode(),
    }.items():
        monkeypatch.setenv(name, value)
    code = main.main(
        [
            *("admin", "add", "--token", softhsm_token.uri, "--label", "card", "--json"),
            *("--pin-env", "SECRET", "--passphrase-env", "STORE"),
            *(("--pin-policy", "always") if insists else ()),
        ]
    )
    out, err = capsys.readouterr()
    if insists:
        assert code == 6
        assert json.loads(err.splitlines()[-1])["error"]["type"] == "UnsupportedError"
        return
    assert code == 0, err
    assert "PIN always" in err
    assert "signs without" in err
    assert err.index("PIN always") < err.index("signs without") < err.index("PIN once")
    assert json.loads(out)["administrator"]["custody"]["pin"] == "once"
