"""Keys and tokens: named by URI, UDF or label; made, shown, deleted, re-protected."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cli.conftest import PASSPHRASE, Home, World

SECRET = {"passphrase": PASSPHRASE}


def generate(home: Home, label: str, use: str = "encrypt", *more: str) -> dict[str, Any]:
    made: dict[str, Any] = home.ok(
        *("key", "generate", "--token", "soft:", "--use", use, "--label", label, "--json", *more),
        secrets=SECRET,
    ).json["key"]
    return made


@pytest.mark.parametrize(
    ("use", "algorithm"), [("encrypt", "X448"), ("authenticate", "X448"), ("sign", "P-384")]
)
def test_the_preferred_algorithm_is_chosen(home: Home, use: str, algorithm: str) -> None:
    assert generate(home, "a", use)["algorithm"] == algorithm


def test_a_named_algorithm_is_used_or_refused(home: Home) -> None:
    assert generate(home, "a", "sign", "--algorithm", "Ed25519")["algorithm"] == "Ed25519"
    refused = home.run(
        *("key", "generate", "--token", "soft:", "--use", "sign", "--label", "b", "--json"),
        *("--algorithm", "X448"),
        secrets=SECRET,
    )
    assert (refused.code, refused.error["type"]) == (6, "UnsupportedError")


def test_a_key_is_found_by_uri_udf_prefix_and_label(home: Home) -> None:
    made = generate(home, "archive")
    generate(home, "other")
    shown = {
        name: home.ok("key", "show", name, "--json").json["key"]
        for name in ("archive", made["uri"], made["udf"], made["udf"][:9].lower())
    }
    assert all(one == made for one in shown.values())


def test_a_label_goes_before_a_udf(home: Home) -> None:
    first = generate(home, "first")
    prefix = first["udf"].split("-")[0]
    second = generate(home, prefix)
    assert home.ok("key", "show", prefix, "--json").json["key"]["udf"] == second["udf"]


@pytest.mark.parametrize(
    ("name", "code", "kind"),
    [
        ("nothing", 4, "NotFoundError"),
        ("M", 4, "NotFoundError"),  # every UDF of a key begins so
        ("soft:store=default;key=nothing", 4, "NotFoundError"),
        ("nosuch:key=a", 4, "NotFoundError"),
        ("soft:key", 3, "FormatError"),
        ("soft:key=a;pin=1234", 3, "FormatError"),
        ("soft:store=../../etc", 4, "NotFoundError"),
    ],
)
def test_names_that_name_no_key(home: Home, name: str, code: int, kind: str) -> None:
    generate(home, "a")
    generate(home, "b")
    done = home.run("key", "show", name, "--json")
    assert (done.code, done.error["type"]) == (code, kind)
    assert "1234" not in done.err


def test_a_label_in_use_is_refused(home: Home) -> None:
    made = generate(home, "a")
    done = home.run(
        "key", "generate", "--token", "soft:", "--use", "encrypt", "--label", "a", secrets=SECRET
    )
    assert done.code == 11
    assert home.ok("key", "show", "a", "--json").json["key"] == made


@pytest.mark.parametrize("pcrs", ["x", "0,24", "-1", "0;7"])
def test_pcrs_that_are_none(home: Home, pcrs: str) -> None:
    done = home.run(
        *("key", "generate", "--token", "soft:", "--use", "encrypt", "--label", "a"),
        *("--pcrs", pcrs, "--json"),
        secrets=SECRET,
    )
    assert (done.code, done.error["type"]) == (3, "FormatError")


def test_what_a_key_file_cannot_do_is_refused_before_a_passphrase_is_asked(home: Home) -> None:
    done = home.run(
        *("key", "generate", "--token", "soft:", "--use", "encrypt", "--label", "a"),
        *("--pcrs", "7"),
    )
    assert done.code == 6


def test_deleting(home: Home) -> None:
    generate(home, "a")
    assert home.run("key", "delete", "a", secrets=SECRET).code == 11  # nobody said yes
    home.ok("key", "delete", "a", "--yes", secrets=SECRET)
    assert home.run("key", "show", "a").code == 4


@pytest.mark.parametrize("key", ["laptop-encrypt", "laptop-profile", "soft:key=laptop-sign"])
def test_a_key_that_the_device_needs_is_not_deleted_by_the_way(world: World, key: str) -> None:
    done = world.laptop.run("key", "delete", key, "--yes", "--json", secrets=SECRET)
    assert (done.code, done.error["type"]) == (11, "ConflictError")
    assert "laptop" in done.error["message"]
    world.laptop.ok("key", "show", key)
    world.laptop.ok("key", "delete", key, "--yes", "--force", secrets=SECRET)
    assert world.laptop.run("key", "show", key).code == 4


def test_a_key_that_the_device_needs_is_known_whatever_it_is_called(world: World) -> None:
    record = world.laptop.state / "device" / "record.json"
    noted = record.read_text()
    record.write_text(noted.replace("soft:store=default;key=", "soft:key="))
    assert record.read_text() != noted
    for key in ("laptop-encrypt", "laptop-sign", "laptop-authenticate", "laptop-profile"):
        done = world.laptop.run("key", "delete", key, "--yes", secrets=SECRET)
        assert done.code == 11, key


def test_a_key_that_the_mesh_needs_is_not_deleted_by_the_way(world: World) -> None:
    for uri in ("soft:store=mesh;key=mesh-master", "soft:key=mesh-master;store=mesh"):
        assert world.admin.run("key", "delete", uri, "--yes").code == 11


def test_a_changed_passphrase_is_the_one_that_opens(home: Home) -> None:
    generate(home, "a")
    new = {"passphrase": PASSPHRASE, "new-passphrase": b"another good passphrase"}
    home.ok("pin", "change", "a", secrets=new)
    assert home.run("key", "delete", "a", "--yes", secrets=SECRET).code == 5
    home.ok("key", "delete", "a", "--yes", secrets={"passphrase": b"another good passphrase"})


def test_changing_without_a_device_or_key(home: Home) -> None:
    assert home.run("pin", "change").code == 4


def test_listings_for_people(world: World) -> None:
    listed = world.laptop.ok("key", "list").out
    assert "laptop-encrypt" in listed
    assert "software" in listed
    shown = world.laptop.ok("key", "show", "laptop-encrypt").out
    assert "custody:  software" in shown
    assert "known by: nobody else" in shown
    assert "soft:store=default" in world.laptop.ok("token", "list").out
    assert "agree, x only" in world.laptop.ok("token", "show", "soft:").out
    assert "mesh_hsm_software" in world.laptop.ok("provider", "list").out


def test_an_empty_listing_says_so(home: Home) -> None:
    assert "there are no keys" in home.ok("key", "list").out


def test_looking_leaves_no_trace(home: Home) -> None:
    for command in (("key", "list"), ("token", "list"), ("doctor",), ("provider", "list")):
        home.run(*command)
    assert not home.state.exists()
