"""Administrators on devices (SoftHSM): added, used, removed; who is refused then, who is not."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from mesh_hsm.testing.softhsm import Softhsm
from tests.cli.conftest import PASSPHRASE, STORE, Home, World, on_terminal
from tests.cli.test_mesh_and_device import tree

SECRET = {"passphrase": PASSPHRASE}
STORED = {"passphrase": STORE}
SPARE = {"passphrase": STORE, "new-passphrase": PASSPHRASE}
BOTH = {"passphrase": STORE + b"\n" + PASSPHRASE}  # the Mesh's store, then another
ADD_SPARE = ("admin", "add", "--token", "soft:store=spare", "--label", "spare")


@dataclass(frozen=True)
class Two:
    """A connected world with a second administrator, ``spare``: version 2."""

    admin: Home
    laptop: Home
    device: str
    mesh: str

    @property
    def folder(self) -> Path:
        return self.admin.folder.parent

    def export(self, name: str) -> Path:
        """The newest ProfileMaster in a file beside the homes."""
        self.admin.ok("mesh", "export", "--out", f"../{name}")
        return self.folder / name

    def request(self, name: str) -> tuple[Home, str]:
        """Another device, and its UDF; its request is NAME.request.dare beside the homes."""
        home = Home(self.folder / name)
        home.folder.mkdir()
        made = home.ok(
            *("device", "init", "--name", name, "--token", "soft:", "--json"),
            *("--request", f"../{name}.request.dare"),
            secrets=SECRET,
        )
        return home, made.json["device"]["udf"]

    def connect(self, name: str, *more: str, secrets: dict[str, bytes]) -> tuple[Home, str]:
        """Another device, all the way; the administrator is one of ``more``."""
        home, udf = self.request(name)
        self.admin.ok(
            *("device", "connect", f"../{name}.request.dare", "--out", f"../{name}.response.dare"),
            *("--label", name, "--confirm-udf", udf, *more),
            secrets=secrets,
        )
        home.ok(
            *("device", "activate", f"../{name}.response.dare", "--confirm-udf", self.mesh),
            *("--out", f"../{name}.connection.dare"),
            secrets=SECRET,
        )
        self.admin.ok("device", "accept", f"../{name}.connection.dare")
        return home, udf


@pytest.fixture(scope="module")
def _two(_soft_world: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("two") / "world"
    shutil.copytree(_soft_world.folder, folder)
    admin = Home(folder / "admin")
    admin.ok(*ADD_SPARE, secrets=SPARE)
    return World(admin, Home(folder / "laptop"), _soft_world.mesh, _soft_world.device)


@pytest.fixture
def two(_two: World, tmp_path: Path) -> Two:
    """A copy, to be spoilt at will."""
    folder = tmp_path / "world"
    shutil.copytree(_two.folder, folder)
    return Two(Home(folder / "admin"), Home(folder / "laptop"), _two.device, _two.mesh)


# -- the whole story -------------------------------------------------------------------------------


def test_an_administrator_on_a_device_comes_and_goes(
    world: World, softhsm_token: Softhsm, tmp_path: Path
) -> None:
    """What the next version makes void is refused by all who have seen it; the survivor is not."""
    admin, laptop = world.admin, world.laptop
    admin.env.update(softhsm_token.environment)
    two = Two(admin, laptop, world.device, world.mesh)
    pin = {"pin": softhsm_token.pin.encode()}
    added = admin.ok(
        *("admin", "add", "--token", softhsm_token.uri, "--label", "card", "--json"),
        secrets=pin | STORED,
    )
    assert "P-384 in test, PIN always, touch none" in added.err
    assert "mesh-hsm admin add --token TOKEN" in added.err
    assert (added.json["version"], added.json["administrator"]["since"]) == (2, 2)
    assert added.json["administrator"]["custody"]["pin"] == "always"
    first = two.folder / "old.dare"
    laptop.ok("mesh", "export", "--out", first)

    # The device goes before the file, although its label comes later.
    phone, _ = two.connect("phone", secrets=pin)
    rogue_response = two.folder / "rogue.response.dare"
    rogue, udf = two.request("rogue")
    state = tmp_path / "stolen"
    shutil.copytree(admin.folder, state)
    thief = Home(state, admin.env)

    done = admin.ok(
        "admin", "remove", "card", "--yes", "--json", secrets={"master-pin": b"unused"} | STORED
    ).json
    assert [one["label"] for one in done["surviving"]] == ["phone"]
    assert (done["version"], done["void"], done["key_deleted"]) == (3, [], False)

    newest = two.export("mesh.dare")
    for home in (laptop, phone):
        updated = home.ok("device", "update", newest, "--json", secrets=SECRET).json
        assert (updated["version"], updated["void"]) == (3, False)
        again = home.run("device", "update", first, "--json", secrets=SECRET)
        assert (again.code, again.error["type"]) == (7, "VerificationError")
        assert "older than" in again.error["message"]

    # The thief has the card and the records as they were: what he signs now is backdated.
    thief.ok(
        *("device", "connect", "../world/rogue.request.dare", "--out", rogue_response),
        *("--label", "rogue", "--confirm-udf", udf, "--administrator", "card"),
        secrets=pin,
    )
    rogue.ok(
        *("device", "activate", rogue_response, "--confirm-udf", world.mesh),
        *("--out", "../rogue.connection.dare"),
        secrets=SECRET,
    )
    (rogue.folder / "letter").write_text("hello")
    rogue.ok("dare", "encode", "letter", "-r", "rogue", "--sign", "device", secrets=SECRET)
    refused = admin.run("device", "accept", "../rogue.connection.dare", "--json")
    assert (refused.code, refused.error["type"]) == (7, "VerificationError")
    assert "version 3" in refused.error["message"]
    (laptop.folder / "letter").write_text("hello")
    for home in (admin, laptop):
        to = home.run("dare", "encode", "letter", "-r", "../rogue.connection.dare", "--json")
        assert to.code in (4, 7)
    verdict = laptop.run("dare", "verify", "../rogue/letter.dare", "--json")
    assert (verdict.code, verdict.error["type"]) == (7, "CannotVerifyError")

    # The survivor is believed by who connected it, and by itself.
    (admin.folder / "letter").write_text("hello")
    admin.ok("dare", "encode", "letter", "-r", "phone", "-o", "../letter.dare")
    assert phone.ok("dare", "decode", "../letter.dare", secrets=SECRET).out == "hello"
    listed = {one["label"]: one for one in admin.ok("device", "list", "--json").json["devices"]}
    assert {one["status"] for one in listed.values()} == {"connected"}
    assert {one["composite"] for one in listed.values()} == {"proved"}

    # Its key is still on the card, and never again an administrator's.
    back = admin.run("admin", "add", "--key", "card", "--json", secrets=pin | STORED)
    assert (back.code, back.error["type"]) == (11, "ConflictError")
    assert "backdated" in back.error["message"]
    assert admin.ok("key", "delete", "card", "--yes", secrets=pin).out


# -- list and choose -------------------------------------------------------------------------------


def test_the_list_says_where_keys_are_and_what_is_plugged_in(two: Two) -> None:
    listed = two.admin.ok("admin", "list", "--json").json["administrators"]
    assert [(one["label"], one["since"], one["plugged_in"]) for one in listed] == [
        ("mesh-administrator", 1, True),
        ("spare", 2, True),
    ]
    assert listed[1]["uri"] == "soft:store=spare;key=spare"
    shown = two.admin.ok("mesh", "show", "--json").json["mesh"]
    assert shown["administrators"] == [one["udf"] for one in listed]
    (spare,) = two.admin.state.rglob("spare.keys")
    spare.unlink()
    listed = two.admin.ok("admin", "list", "--json").json["administrators"]
    assert [one["plugged_in"] for one in listed] == [True, False]
    assert listed[1]["reason"]
    assert " no " in two.admin.ok("admin", "list").out


def test_another_key_in_an_administrator_s_place_is_not_it(two: Two) -> None:
    (spare,) = two.admin.state.rglob("spare.keys")
    spare.unlink()
    two.admin.ok(
        *("key", "generate", "--token", "soft:store=spare", "--use", "sign", "--label", "spare"),
        secrets=SECRET,
    )
    listed = two.admin.ok("admin", "list", "--json").json["administrators"]
    assert "another key" in listed[1]["reason"]


def test_whoever_is_plugged_in_signs(two: Two) -> None:
    _, udf = two.request("phone")
    connect = ("device", "connect", "../phone.request.dare", "--confirm-udf", udf, "--json")
    named = two.admin.ok(*connect, "--administrator", "spare", "--out", "r", secrets=SECRET)
    assert named.json["administrator"] == "spare"
    assert "spare signs 3 times" in named.err
    stores = list(two.admin.state.rglob("mesh.keys"))
    stores[0].rename(two.folder / "taken.keys")
    other = two.admin.ok(*connect, "--replace", "--out", "s", secrets=SECRET)
    assert other.json["administrator"] == "spare"
    gone = two.admin.run(
        *connect, "--replace", "--administrator", "mesh-administrator", secrets=STORED
    )
    assert gone.code == 4
    next(two.admin.state.rglob("spare.keys")).unlink()
    none = two.admin.run(*connect, "--replace", "--out", "t", secrets=STORED)
    assert (none.code, none.error["type"]) == (4, "NotFoundError")
    assert "mesh-administrator, spare" in none.error["hint"]


# -- refused, and nothing changed ------------------------------------------------------------------

REFUSED: dict[str, tuple[tuple[str, ...], int, str]] = {
    "neither token nor key": (("admin", "add"), 2, "UsageError"),
    "token and key": (("admin", "add", "--token", "soft:", "--key", "spare"), 2, "UsageError"),
    "a policy for an existing key": (
        ("admin", "add", "--key", "spare", "--pin-policy", "once"),
        2,
        "UsageError",
    ),
    "no such token": (("admin", "add", "--token", "card"), 4, "NotFoundError"),
    "a label in use": (ADD_SPARE, 11, "ConflictError"),
    "a key's label in use": (
        ("admin", "add", "--token", "soft:store=mesh", "--label", "mesh-master"),
        11,
        "ConflictError",
    ),
    "a touch that a file cannot ask for": (
        ("admin", "add", "--token", "soft:store=x", "--touch-policy", "always"),
        6,
        "UnsupportedError",
    ),
    "a PIN that a file cannot ask for": (
        ("admin", "add", "--token", "soft:store=x", "--pin-policy", "once"),
        6,
        "UnsupportedError",
    ),
    "a curve that does not sign": (
        ("admin", "add", "--token", "soft:store=x", "--algorithm", "X448"),
        6,
        "UnsupportedError",
    ),
    "the master key": (("admin", "add", "--key", "mesh-master"), 11, "ConflictError"),
    "an administrator": (
        ("admin", "add", "--key", "spare", "--label", "x"),
        11,
        "ConflictError",
    ),
    "a key that is not there": (("admin", "add", "--key", "nothing"), 4, "NotFoundError"),
    "nobody": (("admin", "remove", "nobody", "--yes"), 4, "NotFoundError"),
    "an empty name": (("admin", "remove", "", "--yes"), 4, "NotFoundError"),
    "too short a UDF": (("admin", "remove", "M", "--yes"), 4, "NotFoundError"),
    "a device that it did not connect": (
        ("admin", "remove", "spare", "--void", "laptop", "--yes"),
        4,
        "NotFoundError",
    ),
    "nobody to agree": (("admin", "remove", "spare"), 11, "ConflictError"),
    "a backup that is none": (
        ("mesh", "move-master", "--token", "soft:store=x", "--backup", "../request.dare"),
        3,
        "FormatError",
    ),
    "a mesh that is backed up, made in a device": (
        ("mesh", "create", "--backup-to", "b", "--master-token", "soft:store=x"),
        2,
        "UsageError",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(two: Two, case: str) -> None:
    arguments, code, kind = REFUSED[case]
    before = tree(two.folder)
    done = two.admin.run(*arguments, "--json", secrets=STORED)
    assert (done.code, done.error["type"]) == (code, kind)
    assert tree(two.folder) == before


def test_where_nobody_administers_there_are_no_administrators(two: Two) -> None:
    for arguments in (("list",), ("remove", "x"), ("add", "--token", "soft:")):
        done = two.laptop.run("admin", *arguments, "--json")
        assert (done.code, done.error["type"]) == (4, "NotFoundError")
    home = Home(two.folder / "nowhere")
    home.folder.mkdir()
    assert home.run("mesh", "export", "--out", "x").code == 4
    assert home.run("device", "update", "../request.dare").code == 4
    assert two.admin.run("mesh", "export", "--out", "../request.dare").code == 11


def test_keys_with_another_purpose_do_not_administer(two: Two) -> None:
    """A device's own keys sign nothing that others choose (hsm-1 §6.5)."""
    both = Home(two.laptop.folder, two.laptop.env)
    both.ok(
        *("mesh", "create", "--no-escrow"),
        secrets={"passphrase": PASSPHRASE, "store-passphrase": STORE},
    )
    before = tree(two.folder)
    for key, code in (("laptop-profile", 11), ("laptop-sign", 11), ("laptop-encrypt", 6)):
        assert both.run("admin", "add", "--key", key, secrets=STORED).code == code
    assert tree(two.folder) == before


def test_the_last_administrator_stays(two: Two) -> None:
    two.admin.ok("admin", "remove", "spare", "--yes", secrets=STORED)
    before = tree(two.folder)
    done = two.admin.run("admin", "remove", "mesh-administrator", "--yes", "--json", secrets=STORED)
    assert (done.code, done.error["type"]) == (11, "ConflictError")
    assert "admin add" in done.error["hint"]
    assert tree(two.folder) == before


# -- an existing key -------------------------------------------------------------------------------


def test_a_key_that_is_there_becomes_an_administrator_s(two: Two) -> None:
    two.admin.ok(
        *("key", "generate", "--token", "soft:store=own", "--use", "sign", "--label", "mine"),
        secrets=SECRET,
    )
    added = two.admin.ok("admin", "add", "--key", "mine", "--json", secrets=STORED).json
    assert added["administrator"]["label"] == "mine"
    udf = added["administrator"]["udf"]
    refused = two.admin.run("key", "delete", "mine", "--yes", "--json", secrets=SECRET)
    assert "the administrator key" in refused.error["message"]
    two.admin.ok("admin", "remove", udf, "--yes", "--delete-key", secrets=BOTH)
    assert "mine" not in two.admin.ok("key", "list").out


# -- void ------------------------------------------------------------------------------------------


def test_a_device_that_is_not_to_survive(two: Two) -> None:
    """It files the version that voids it, opens what it could, and signs nothing."""
    admin, laptop = two.admin, two.laptop
    (admin.folder / "letter").write_text("hello")
    admin.ok("dare", "encode", "letter", "-r", "laptop", "-o", "../letter.dare")
    done = admin.ok(
        *("admin", "remove", "mesh-administrator", "--void", "laptop", "--yes", "--json"),
        secrets=STORED,
    ).json
    assert (done["surviving"], [one["label"] for one in done["void"]]) == ([], ["laptop"])
    assert admin.ok("device", "list", "--json").json["devices"][0]["status"] == "invalid"
    assert admin.run("dare", "encode", "letter", "-r", "laptop", "-o", "x").code == 4

    updated = laptop.ok("device", "update", two.export("m"), "--json", secrets=SECRET)
    assert updated.json["void"] is True
    assert "NOT VOUCHED FOR" in updated.err
    assert laptop.ok("dare", "decode", "../letter.dare", secrets=SECRET).out == "hello"
    (laptop.folder / "own").write_text("mine")
    signing = laptop.run("dare", "encode", "own", "--sign", "device", "--json", secrets=SECRET)
    assert (signing.code, signing.error["type"]) == (7, "VerificationError")
    assert laptop.run("dare", "encode", "own", "-r", "laptop").code == 4
    shown = laptop.ok("device", "show", "--json", secrets=SECRET).json["device"]
    assert shown["void"] is True
    assert "void" in laptop.ok("device", "show", secrets=SECRET).out
    codes = {one["code"]: one for one in laptop.run("doctor", "--json").json["findings"]}
    assert "void" in codes["CONNECT002"]["problem"]


def test_void_all_and_a_survivor_that_is_dropped_later(two: Two) -> None:
    two.connect("phone", "--administrator", "spare", secrets=SECRET)
    two.admin.ok(*ADD_SPARE[:-1], "third", secrets={"passphrase": PASSPHRASE + b"\n" + STORE})
    first = two.admin.ok("admin", "remove", "spare", "--yes", "--json", secrets=STORED).json
    assert [one["label"] for one in first["surviving"]] == ["phone"]
    second = two.admin.ok(
        *("admin", "remove", "mesh-administrator", "--void-all", "--void", "phone"),
        *("--yes", "--json"),
        secrets=STORED,
    ).json
    assert {one["label"]: one["reason"] for one in second["void"]} == {
        "laptop": "you said so",
        "phone": "you said so",
    }
    statuses = [one["status"] for one in two.admin.ok("device", "list", "--json").json["devices"]]
    assert statuses == ["invalid", "invalid"]


def test_what_was_issued_and_has_not_come_back_survives(two: Two) -> None:
    phone, udf = two.request("phone")
    two.admin.ok(
        *("device", "connect", "../phone.request.dare", "--out", "../r", "--label", "phone"),
        *("--confirm-udf", udf, "--administrator", "spare"),
        secrets=SECRET,
    )
    done = two.admin.ok("admin", "remove", "spare", "--yes", "--json", secrets=STORED).json
    assert [one["label"] for one in done["surviving"]] == ["phone"]
    phone.ok(
        "device", "activate", "../r", "--out", "../c", "--confirm-udf", two.mesh, secrets=SECRET
    )
    accepted = two.admin.ok("device", "accept", "../c", "--json").json["device"]
    assert accepted["composite"] == "proved"
    updated = phone.ok("device", "update", two.export("m"), "--json", secrets=SECRET).json
    assert updated["void"] is False


# -- what was seen ---------------------------------------------------------------------------------


def test_update_takes_the_newest_of_this_mesh_only(two: Two) -> None:
    stranger = Home(two.folder / "stranger")
    stranger.folder.mkdir()
    stranger.ok(
        *("mesh", "create", "--no-escrow"),
        secrets={"passphrase": PASSPHRASE, "store-passphrase": STORE},
    )
    stranger.ok("mesh", "export", "--out", "../theirs.dare")
    newest = two.export("newest.dare")
    envelope = json.loads(newest.read_text())
    envelope[1] = envelope[1][:-4] + "AAAA"
    (two.folder / "altered.dare").write_text(json.dumps(envelope))
    before = tree(two.laptop.folder)
    for name, code in (("theirs", 7), ("altered", 7), ("request", 3), ("missing", 4)):
        done = two.laptop.run("device", "update", f"../{name}.dare", "--json", secrets=SECRET)
        assert done.code in (code, 3), name
        assert tree(two.laptop.folder) == before
    wrong = {"passphrase": b"another passphrase"}
    assert two.laptop.run("device", "update", newest, secrets=wrong).code == 5
    assert tree(two.laptop.folder) == before
    assert two.laptop.ok("device", "update", newest, secrets=SECRET).out
    after = tree(two.laptop.folder)
    again = two.laptop.ok("device", "update", newest)
    assert "known already" in again.out
    assert tree(two.laptop.folder) == after


def test_a_record_from_an_old_copy_is_refused(two: Two) -> None:
    """The administrator's own machine has no pins: it keeps what it has seen (hsm-1 §7)."""
    record = two.admin.state / "mesh" / "record.json"
    old = record.read_bytes()
    two.admin.ok("admin", "remove", "spare", "--yes", secrets=STORED)
    record.write_bytes(old)
    done = two.admin.run("device", "list", "--json")
    assert (done.code, done.error["type"]) == (7, "VerificationError")
    assert "older than version 3" in done.error["message"]
    shutil.rmtree(two.admin.state / "seen")  # with all of it restored nothing shows
    assert two.admin.run("device", "list").code == 0


def test_a_device_s_record_from_an_old_copy_still_knows_what_was_seen(two: Two) -> None:
    record = two.laptop.state / "device" / "record.json"
    old = record.read_bytes()
    two.admin.ok("admin", "remove", "mesh-administrator", "--void-all", "--yes", secrets=STORED)
    two.laptop.ok("device", "update", two.export("m"), secrets=SECRET)
    record.write_bytes(old)
    assert two.laptop.ok("device", "show", "--json", secrets=SECRET).json["device"]["void"] is True
    assert two.laptop.ok("mesh", "show", "--json").json["mesh"]["version"] == 3


def test_an_old_response_is_not_activated_where_a_newer_version_was_seen(two: Two) -> None:
    phone, udf = two.request("phone")
    two.admin.ok(
        *("device", "connect", "../phone.request.dare", "--out", "../r", "--confirm-udf", udf),
        *("--administrator", "spare"),
        secrets=SECRET,
    )
    two.admin.ok("admin", "remove", "spare", "--void-all", "--yes", secrets=STORED)
    shutil.copytree(two.admin.state / "seen", phone.state / "seen")
    before = tree(two.folder)
    done = phone.run(
        *("device", "activate", "../r", "--out", "../c", "--confirm-udf", two.mesh, "--json"),
        secrets=SECRET,
    )
    assert (done.code, done.error["type"]) == (7, "VerificationError")
    assert "older than version 3" in done.error["message"]
    assert tree(two.folder) == before


def test_what_is_kept_of_another_mesh_or_record_is_not_believed(two: Two) -> None:
    (seen,) = (two.admin.state / "seen").iterdir()
    value = json.loads(seen.read_text())
    seen.write_text(json.dumps(value | {"udf": two.device}))
    assert two.admin.run("device", "list", "--json").error["type"] == "VerificationError"
    seen.write_text("{}")
    assert two.admin.run("device", "list", "--json").error["type"] == "FormatError"
    seen.unlink()
    record = two.admin.state / "mesh" / "record.json"
    value = json.loads(record.read_text())
    for spoilt in (
        value | {"administrators": value["administrators"][:1]},
        value | {"administrators": [one | {"since": "1"} for one in value["administrators"]]},
        value | {"administrators": [one | {"since": True} for one in value["administrators"]]},
        value | {"administrators": [["spare"]]},
        value | {"administrators": [{"label": "spare"}]},
        value | {"removed": [7]},
    ):
        record.write_text(json.dumps(spoilt))
        assert two.admin.run("admin", "list", "--json").code in (3, 7)


# -- several devices at once -----------------------------------------------------------------------


def test_several_devices_with_one_pin_entry(two: Two, softhsm_token: Softhsm) -> None:
    admin = two.admin
    admin.env.update(softhsm_token.environment)
    pin = {"pin": softhsm_token.pin.encode()}
    admin.ok("admin", "add", "--token", softhsm_token.uri, "--label", "zz", secrets=pin | STORED)
    names = ("phone", "tablet")
    udfs = [two.request(name)[1] for name in names]
    requests = [f"../{name}.request.dare" for name in names]
    labels = [word for name in names for word in ("--label", name)]
    confirmed = [word for udf in reversed(udfs) for word in ("--confirm-udf", udf.lower())]
    connect = ("device", "connect", *requests, "--json")
    before = tree(two.folder)

    def refused(*more: str, code: int) -> str:
        done = admin.run(*connect, *more, secrets=pin)
        assert done.code == code
        assert tree(two.folder) == before
        return str(done.error["message"])

    refused(*confirmed, "--label", "phone", code=2)
    refused(*confirmed, "--confirm-udf", udfs[0], code=2)
    refused(*confirmed, *labels, "--out", "nowhere", code=4)
    refused(*confirmed, "--label", "phone", "--label", "phone", code=11)
    refused(*confirmed, "--label", "laptop", "--label", "x", code=11)
    refused(*confirmed[:2], *labels, code=5)
    assert "no request is" in refused("--confirm-udf", two.device, *labels, code=7)
    assert "MAAA" in refused("--confirm-udf", "MAAA", *labels, code=7)
    twice = admin.run(
        *("device", "connect", requests[0], requests[0], "--json"),
        *("--confirm-udf", udfs[0], "--label", "a", "--label", "b"),
        secrets=pin,
    )
    assert twice.code == 11
    assert tree(two.folder) == before

    (admin.folder / "out").mkdir()
    done = admin.ok(*connect, *confirmed, *labels, "--out", "out", secrets=pin)
    assert "zz signs 6 times, 3 for each device" in done.err
    made = done.json["connections"]
    assert [one["device"] for one in made] == [
        {"label": name, "udf": udf} for name, udf in zip(names, udfs, strict=True)
    ]
    assert [one["response"] for one in made] == [f"out/{name}.response.dare" for name in names]
    for name in names:
        Home(two.folder / name).ok(
            *("device", "activate", f"../admin/out/{name}.response.dare", "--out", "c"),
            *("--confirm-udf", two.mesh),
            secrets=SECRET,
        )


def test_one_device_into_a_folder(two: Two) -> None:
    _, udf = two.request("phone")
    done = two.admin.ok(
        *("device", "connect", "../phone.request.dare", "--out", "..", "--label", "phone"),
        *("--confirm-udf", udf, "--json"),
        secrets=STORED,
    )
    assert (done.json["response"], done.json["administrator"]) == (
        "../phone.response.dare",
        "mesh-administrator",
    )


# -- on a terminal ---------------------------------------------------------------------------------


def test_the_first_device_is_no_second_one(two: Two, softhsm_token: Softhsm) -> None:
    """Two keys in one device are lost together; what was added before the question stays."""
    code, said = on_terminal(
        two.admin,
        ("admin", "add", "--token", softhsm_token.uri, "--label", "card"),
        [
            (b"PIN of token test: ", softhsm_token.pin.encode() + b"\n"),
            (b"Passphrase of", STORE + b"\n"),
            (b"Add a second device now? [y/N]: ", b"y\n"),
            (b"list shows it): ", b"test\n"),
        ],
        **softhsm_token.environment,
    )
    assert code == 11, said
    assert "is the first device itself" in said
    listed = two.admin.ok("admin", "list", "--json").json["administrators"]
    assert [one["label"] for one in listed][2:] == ["card"]


def test_a_removed_administrators_key_is_told_of(two: Two) -> None:
    """Off the list is not deleted."""
    done = two.admin.ok("admin", "remove", "mesh-administrator", "--yes", secrets=STORED)
    assert "not deleted: soft:store=mesh;key=mesh-administrator" in done.out


def test_two_keys_in_one_device_are_one_device(two: Two, softhsm_token: Softhsm) -> None:
    """They break together: the second key is no reason to stop saying so."""
    two.admin.env.update(softhsm_token.environment)
    secrets = {"pin": softhsm_token.pin.encode(), "passphrase": STORE}
    for label in ("card", "card-b"):
        add = ("admin", "add", "--token", softhsm_token.uri, "--label", label)
        done = two.admin.ok(*add, secrets=secrets)
        assert "No other device has an administrator key" in done.err


def test_a_second_device_is_offered_once(two: Two, softhsm_token: Softhsm) -> None:
    """Each of two HSMs is asked for its own PIN, and a removal is agreed to."""
    admin, second = two.admin, softhsm_token.add_token("second")
    env = softhsm_token.environment
    code, said = on_terminal(
        admin,
        ("admin", "add", "--token", softhsm_token.uri, "--label", "card"),
        [
            (b"PIN of token test: ", softhsm_token.pin.encode() + b"\n"),
            (b"Passphrase of", STORE + b"\n"),
            (b"Add a second device now? [y/N]: ", b"y\n"),
            (b"list shows it): ", second.uri.encode() + b"\n"),
            (b"administrator: ", b"card-2\n"),
            (b"PIN of token second: ", second.pin.encode() + b"\n"),
        ],
        **env,
    )
    assert code == 0, said
    assert "Add a second" not in said
    admin.env.update(env)
    listed = admin.ok("admin", "list", "--json").json["administrators"]
    assert [one["label"] for one in listed][2:] == ["card", "card-2"]
    code, said = on_terminal(
        admin,
        ("admin", "remove", "card"),
        [(b"Remove card for good", b"n\n")],
        **env,
    )
    assert code == 11
    assert "nothing was removed" in said
