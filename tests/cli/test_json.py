"""Every command's JSON has the shape that docs/reference/json.md shows, and no member more."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from mesh_hsm.testing.softhsm import Softhsm
from mesh_hsm.testing.virtual_yubikey import attestation_root
from mesh_hsm.testing.virtual_yubikey.rig import YubiKeyRig
from tests.cli.conftest import PASSPHRASE, PIN, STORE, Home, World
from tests.cli.test_basics import COMMANDS

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "json.md"
LEFT_OUT = {"custody statement", "report"}


@cache
def sections() -> dict[str, Any]:
    """The example of each section."""
    found = re.findall(r"^##+ ([\w -]+)\n(.*?)(?=^##|\Z)", PAGE.read_text(), re.M | re.S)
    examples = {title: re.search(r"```json\n(.*?)```", text, re.S) for title, text in found}
    return {title: json.loads(found[1]) for title, found in examples.items() if found}


@cache
def nullable() -> set[str]:
    text = " ".join(PAGE.read_text().split())
    listed = re.search(r"These members may be null: (.*?)\.", text)
    assert listed
    return set(re.findall(r"`(\w+)`", listed[1]))


def check(actual: Any, example: Any, where: str, sparse: bool = False) -> None:
    """Fail unless ``actual`` has the shape of ``example``."""
    if isinstance(example, str) and (named := re.fullmatch(r"<([\w ]+)>", example)):
        check(actual, sections()[named[1]], f"{where} ({named[1]})", named[1] in LEFT_OUT)
    elif isinstance(example, dict):
        assert isinstance(actual, dict), where
        assert actual.keys() <= example.keys(), where
        if not sparse and actual:
            assert actual.keys() == example.keys(), where
        for name, value in actual.items():
            if value is None:
                assert name in nullable(), f"{where}.{name} is null"
            else:
                check(value, example[name], f"{where}.{name}", sparse and name == "error")
    elif isinstance(example, list):
        assert isinstance(actual, list), where
        for value in actual:
            check(value, example[0], f"{where}[]")
    elif example is not None:
        assert type(actual) is type(example), where


def test_every_command_is_documented() -> None:
    assert set(COMMANDS) <= set(sections())


def test_the_check_itself_finds_what_differs() -> None:
    good = {"file": "x", "report": {"form": "hsm-1"}}
    check(good, sections()["dare encode"], "good")
    bad: list[dict[str, Any]] = [
        {"file": "x"},
        {"file": 3, "report": {}},
        {"file": None, "report": {}},
        {"file": "x", "report": {"more": 1}},
        {"file": "x", "report": {"recipients": [1]}},
    ]
    for value in bad:
        with pytest.raises(AssertionError):
            check(value, sections()["dare encode"], "bad")


def test_every_command_s_json(
    world: World, softhsm_token: Softhsm, virtual_yubikey: YubiKeyRig
) -> None:
    admin, laptop = world.admin, world.laptop
    (laptop.folder / "letter").write_text("hello")
    secret = {"passphrase": PASSPHRASE}
    store = {"passphrase": STORE}
    generate = ("key", "generate", "--token", "soft:", "--use", "sign", "--label", "spare")
    fresh = Home(world.folder / "fresh")
    fresh.folder.mkdir()
    backup = {"passphrase": PASSPHRASE, "store-passphrase": STORE}
    done = {
        "mesh create": fresh.ok("mesh", "create", "--backup-to", "b", "--json", secrets=backup),
        "mesh show": admin.ok("mesh", "show", "--json"),
        "device init": fresh.ok(
            "device", "init", "--name", "tablet", "--token", "soft:", "--json", secrets=secret
        ),
        "device list": admin.ok("device", "list", "--json"),
        "device show": laptop.ok("device", "show", "--json", secrets=secret),
        "key generate": laptop.ok(*generate, "--json", secrets=secret),
        "key list": laptop.ok("key", "list", "--json"),
        "key show": laptop.ok("key", "show", "laptop-sign", "--json"),
        "key delete": laptop.ok("key", "delete", "spare", "--yes", "--json", secrets=secret),
        "pin change": laptop.ok(
            "pin", "change", "--json", secrets=secret | {"new-passphrase": PASSPHRASE}
        ),
        "provider list": laptop.ok("provider", "list", "--json"),
        "token list": laptop.ok("token", "list", "--json"),
        "token show": laptop.ok("token", "show", "soft:", "--json"),
        "dare encode": laptop.ok(
            *("dare", "encode", "letter", "-r", "laptop", "--sign", "device", "--json"),
            secrets=secret,
        ),
        "dare decode": laptop.ok(
            "dare", "decode", "letter.dare", "-o", "back", "--json", secrets=secret
        ),
        "dare verify": admin.ok("dare", "verify", "../laptop/letter.dare", "--json"),
        "dare info": admin.ok("dare", "info", "../laptop/letter.dare", "--json"),
        "doctor": admin.run("doctor", "--json"),
        "testing softhsm": admin.ok("testing", "softhsm", "--json", "echo", "more"),
        "testing yubikey": admin.ok("testing", "yubikey", "--json", "echo", "more"),
        "completion": admin.ok("completion", "zsh", "--json"),
    }
    phrases = {f"PIN_{name}": f"the phrase of {name} alone" for name in ("anna", "ben", "carla")}
    named = [("--token", f"{n}=soft:store={n}") for n in ("anna", "ben", "carla")]
    pins = [("--admin-pin-env", f"{n}=PIN_{n}") for n in ("anna", "ben", "carla")]
    done |= {
        "keyset create": admin.ok(
            *("keyset", "create", "--name", "board", "--json"),
            *(word for option in (*named, *pins) for word in option),
            secrets=store,
            env=phrases,
        ),
        "keyset list": admin.ok("keyset", "list", "--json"),
        "keyset show": laptop.ok("keyset", "show", "../admin/board.keyset.dare", "--json"),
        "keyset add": laptop.ok("keyset", "add", "../admin/board.keyset.dare", "--json"),
    }
    udf = done["device init"].json["device"]["udf"]
    mesh = done["mesh create"].json["mesh"]["udf"]
    done["device connect"] = fresh.ok(
        *("device", "connect", "tablet.request.dare", "--out", "r", "--confirm-udf", udf),
        "--json",
        secrets=store,
    )
    done["device activate"] = fresh.ok(
        *("device", "activate", "r", "--out", "c", "--confirm-udf", mesh, "--json"),
        secrets=secret,
    )
    done["device accept"] = fresh.ok("device", "accept", "c", "--json")
    done["admin add"] = fresh.ok(
        *("admin", "add", "--token", "soft:store=spare", "--json"),
        secrets={"passphrase": STORE, "new-passphrase": PASSPHRASE},
    )
    done["admin list"] = fresh.ok("admin", "list", "--json")
    move = ("mesh", "move-master", "--token", "soft:store=card", "--backup", "b", "--json")
    done["mesh move-master"] = fresh.ok(
        *move, secrets=backup | {"store-passphrase": STORE + b"\n" + STORE}
    )
    gone = ("admin", "remove", "mesh-administrator", "--void", udf, "--yes", "--json")
    done["admin remove"] = fresh.ok(*gone, secrets=store)
    done["mesh export"] = fresh.ok("mesh", "export", "--out", "mesh.dare", "--json")
    done["device update"] = fresh.ok("device", "update", "mesh.dare", "--json", secrets=secret)
    fresh.env.update(softhsm_token.environment)
    officer = {"so-pin": softhsm_token.so_pin.encode(), "new-pin": PIN}
    done["pin reset"] = fresh.ok("pin", "reset", softhsm_token.uri, "--json", secrets=officer)
    done["token init"] = fresh.ok(
        *("token", "init", softhsm_token.uri, "--label", "x", "--erase", "--yes", "--json"),
        secrets=officer,
    )
    done |= yubikey_commands(fresh, virtual_yubikey)
    assert set(done) == set(COMMANDS)
    for name, run in done.items():
        if name != "doctor":
            check(run.json, sections()[name], name)
    check(done["doctor"].json["findings"], sections()["doctor"]["findings"], "doctor")
    assert done["doctor"].json["versions"].keys() <= sections()["doctor"]["versions"].keys()


def yubikey_commands(home: Home, rig: YubiKeyRig) -> dict[str, Any]:
    """What only a YubiKey does, its root being trusted here."""
    home.env.update(rig.environment)
    roots = home.folder / "state" / "providers" / "yubikey" / "piv-roots"
    roots.mkdir(parents=True)
    (roots / "simulator.pem").write_bytes(attestation_root().public_bytes(Encoding.PEM))
    pin = {"pin": rig.pin.encode()}
    make = ("key", "generate", "--token", rig.uri, "--use", "sign", "--label", "card")
    home.ok(*make, secrets=pin)
    return {
        "key attest": home.ok("key", "attest", "card", "--json", secrets=pin),
        "key move": home.ok("key", "move", "card", "82", "--json", secrets=pin),
        "pin unblock": home.ok(
            *("pin", "unblock", rig.uri, "--json"),
            secrets={"puk": rig.puk.encode(), "new-pin": b"135790"},
        ),
    }


def test_an_error_as_json(world: World) -> None:
    error = world.laptop.run(
        "device", "show", "--json", secrets={"passphrase": b"another passphrase"}
    )
    assert error.code == 5
    assert error.error.keys() <= sections()["Errors"]["error"].keys()
    assert PIN.decode() not in error.err
