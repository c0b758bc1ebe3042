"""What a person need not say: names of files and of the device, one passphrase for two uses."""

from __future__ import annotations

import platform

from tests.cli.conftest import PASSPHRASE, MakeHome

SECRET = {"passphrase": PASSPHRASE}


def test_the_whole_way_with_nothing_but_what_must_be_said(make_home: MakeHome) -> None:
    home = make_home()
    # The descriptor gives one line; it serves the backup and the store.
    mesh = home.ok("mesh", "create", "--backup-to", "backup.json", "--json", secrets=SECRET)
    name = platform.node().split(".")[0]
    made = home.ok("device", "init", "--token", "soft:", "--json", secrets=SECRET).json
    assert made["device"]["name"] == name
    assert made["request"] == f"{name}.request.dare"
    udf = made["device"]["udf"]
    label = udf.split("-")[0]
    home.ok("device", "connect", made["request"], "--confirm-udf", udf, secrets=SECRET)
    confirmed = ("--confirm-udf", mesh.json["mesh"]["udf"])
    home.ok("device", "activate", f"{label}.response.dare", *confirmed, secrets=SECRET)
    home.ok("device", "accept", f"{name}.connection.dare")
    assert "proved" in home.ok("device", "list").out


def test_a_file_that_is_not_there_is_not_found(make_home: MakeHome) -> None:
    for verb in ("decode", "verify", "info"):
        done = make_home().run("dare", verb, "nowhere.dare")
        assert done.code == 4
        assert "nowhere.dare is not there" in done.err
