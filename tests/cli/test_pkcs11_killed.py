"""A device init that is killed amid its keys: the next one begins with a clean token."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from mesh_hsm.testing.softhsm import Softhsm
from tests.cli.conftest import MakeHome
from tests.simulators.pkcs11.interposer import Action, Interposer, Rule

INIT = ("device", "init", "--name", "box", "--request", "request.dare")


def key_calls(log: Path) -> int:
    return log.read_text().split().count("C_GenerateKeyPair")


@pytest.mark.parametrize("before_the_end", [0, 1, 2])
def test_what_a_killed_device_init_left_is_named_and_goes(
    make_home: MakeHome, softhsm_token: Softhsm, tmp_path: Path, before_the_end: int
) -> None:
    rig, pin = softhsm_token, {"pin": softhsm_token.pin.encode()}
    interposer = Interposer(rig.module, tmp_path / "interposer")
    module = {"MESH_HSM_PKCS11_MODULE": str(interposer.path)}
    other = make_home("other", **rig.environment)
    log = tmp_path / "calls"
    init = (*INIT, "--token", rig.uri)
    counting = interposer.environment(log=log)
    other.ok(*init, secrets=pin, env=module | counting)

    home = make_home("hsm", **rig.environment)
    named = [word if word != "box" else "laptop" for word in init]
    # The last calls make the stored keys; the sealing key is there from the first device.
    nth = key_calls(log) - 1 - before_the_end
    rules = [Rule("C_GenerateKeyPair", nth, Action.KILL_AFTER)]
    killed = home.run(*named, secrets=pin, env=module | interposer.environment(rules=rules))
    assert killed.code == -signal.SIGKILL
    found = {one["code"]: one for one in home.run("doctor", "--json").json["findings"]}
    assert "laptop-profile" in found["DEVICE003"]["problem"]

    done = home.ok(*named, secrets=pin)
    if before_the_end < 2:
        assert "deleted laptop-profile, left by a command that was interrupted" in done.err
    labels = [key["label"] for key in home.ok("key", "list", "--json").json["keys"]]
    endings = ("authenticate", "encrypt", "profile", "sign")
    assert labels == [f"{name}-{ending}" for name in ("box", "laptop") for ending in endings]
    codes = {one["code"] for one in home.run("doctor", "--json").json["findings"]}
    assert not codes & {"DEVICE003", "PKCS11023"}
