"""token init and pin reset on SoftHSM: new tokens, erased ones, and what is refused before."""

from __future__ import annotations

from typing import Any

import pytest

from mesh_hsm.testing.softhsm import Softhsm
from tests.cli.conftest import PASSPHRASE, Home, connect, on_terminal

USER, OFFICER = b"a user's 2718", b"an officer's 3141"
NEW = {"new-so-pin": OFFICER, "new-pin": USER}
LABEL = "build-hsm"


@pytest.fixture
def hsm(softhsm_token: Softhsm, home: Home) -> Softhsm:
    """A SoftHSM that the machine ``home`` sees; it has a token ``test``, and a slot for another."""
    home.env.update(softhsm_token.environment)
    return softhsm_token


@pytest.fixture
def new(hsm: Softhsm, home: Home) -> str:
    """The URI of the token that is not initialised."""
    (uri,) = (one["uri"] for one in tokens(home) if not one["initialised"])
    return str(uri)


def tokens(home: Home) -> list[dict[str, Any]]:
    found = home.ok("token", "list", "--json").json["tokens"]
    return [one for one in found if one["uri"].startswith("pkcs11:")]


def generate(home: Home, token: str, pin: bytes, label: str = "mine") -> Any:
    return home.run(
        *("key", "generate", "--token", token, "--use", "encrypt", "--label", label, "--json"),
        secrets={"pin": pin},
    )


def keys(home: Home) -> list[str]:
    return [one["label"] for one in home.ok("key", "list", "--json").json["keys"]]


# -- a new token -----------------------------------------------------------------------------------


def test_a_new_token_is_shown_as_one_and_initialised_by_the_line_that_is_shown(
    home: Home, new: str
) -> None:
    listed = home.ok("token", "list").out
    assert f"not initialised: mesh-hsm token init '{new}' --label NAME" in listed
    shown = home.ok("token", "show", new, "--json").json
    assert shown["token"]["initialised"] is False
    assert shown["capabilities"] == []
    assert "can do nothing yet" in home.ok("token", "show", new).out

    made = home.ok("token", "init", new, "--label", LABEL, "--json", secrets=NEW)
    assert made.json["token"]["label"] == LABEL
    assert made.json["token"]["initialised"] is True
    assert "SIMULATOR" in made.err
    assert made.json["token"] in tokens(home)
    assert generate(home, LABEL, USER).code == 0
    assert generate(home, LABEL, OFFICER, "other").code == 5
    assert keys(home) == ["mine"]


def test_new_pins_are_asked_twice_on_a_terminal(home: Home, new: str) -> None:
    officer, user = OFFICER + b"\n", USER + b"\n"
    code, seen = on_terminal(
        home,
        ("token", "init", new, "--label", LABEL),
        [
            (b"New security officer's PIN of", officer),
            (b"again: ", officer),
            (b"New PIN of token: ", user),
            (b"again: ", user),
        ],
    )
    assert code == 0, seen
    assert LABEL in seen
    assert generate(home, LABEL, USER).code == 0


@pytest.mark.parametrize("missing", ["new-so-pin", "new-pin"])
@pytest.mark.parametrize("instead", ["so-pin", None])
def test_each_pin_has_its_own_door(home: Home, new: str, missing: str, instead: str | None) -> None:
    given = {name: pin for name, pin in NEW.items() if name != missing}
    given |= {instead: OFFICER} if instead else {}
    before = tokens(home)
    done = home.run("token", "init", new, "--label", LABEL, "--json", secrets=given)
    assert (done.code, done.error["type"]) == (5, "SecretRequiredError")
    assert f"--{missing}-fd" in done.error["hint"]
    assert tokens(home) == before


@pytest.mark.parametrize("which", NEW)
@pytest.mark.parametrize("pin", [b"123", b"1" * 256, b"\xff\xfe\xfd\xfc"])
def test_a_pin_that_the_token_does_not_take_changes_nothing(
    home: Home, new: str, which: str, pin: bytes
) -> None:
    before = tokens(home)
    done = home.run("token", "init", new, "--label", LABEL, "--json", secrets=NEW | {which: pin})
    assert (done.code, done.error["type"]) == (3, "FormatError")
    assert pin.decode("latin-1") not in done.err
    assert tokens(home) == before


@pytest.mark.parametrize("label", ["", "x" * 33, "鍵" * 11, "a\x1b[2Jb", " a"])
def test_a_label_that_no_token_can_have_changes_nothing(home: Home, new: str, label: str) -> None:
    before = tokens(home)
    done = home.run("token", "init", new, "--label", label, "--json", secrets=NEW)
    assert (done.code, done.error["type"]) == (3, "FormatError")
    assert tokens(home) == before


def test_a_label_may_be_as_wide_as_a_token_takes(home: Home, new: str) -> None:
    label = "鍵" * 10
    home.ok("token", "init", new, "--label", label, secrets=NEW)
    assert label in home.ok("token", "show", label).out


def test_a_label_of_another_token_is_refused(home: Home, hsm: Softhsm, new: str) -> None:
    assert home.run("token", "init", new, "--label", hsm.label, secrets=NEW).code == 11


def test_what_is_not_initialised_is_no_place_for_keys(home: Home, new: str) -> None:
    done = generate(home, new, USER)
    assert (done.code, done.error["type"]) == (6, "UnsupportedError")
    assert "mesh-hsm token init" in done.error["hint"]
    reset = home.run("pin", "reset", new, secrets={"so-pin": OFFICER, "new-pin": USER})
    assert reset.code == 6
    listed = home.ok("key", "list")
    assert "initialised" not in listed.err


def test_a_device_is_not_made_in_a_token_that_is_not_initialised(home: Home, hsm: Softhsm) -> None:
    hsm.clear()
    done = home.run("device", "init", "--name", "laptop", "--json", secrets={"pin": USER})
    assert (done.code, done.error["type"]) == (9, "ProviderUnavailableError")


# -- an initialised one ----------------------------------------------------------------------------


@pytest.fixture
def full(hsm: Softhsm, home: Home) -> Softhsm:
    """The token has a key."""
    assert generate(home, hsm.label, hsm.pin.encode()).code == 0
    return hsm


def renewing(hsm: Softhsm) -> dict[str, bytes]:
    return {"so-pin": hsm.so_pin.encode(), "new-pin": USER}


def test_an_initialised_token_is_left_alone(home: Home, full: Softhsm) -> None:
    done = home.run(
        *("token", "init", full.uri, "--label", LABEL, "--yes", "--json"), secrets=renewing(full)
    )
    assert (done.code, done.error["type"]) == (11, "ConflictError")
    assert "--erase" in done.error["hint"]
    assert keys(home) == ["mine"]


def test_it_is_not_erased_unless_somebody_says_yes(home: Home, full: Softhsm) -> None:
    init = ("token", "init", full.uri, "--label", LABEL, "--erase")
    done = home.run(*init, "--json", secrets=renewing(full))
    assert (done.code, done.error["type"]) == (11, "ConflictError")
    question = f"Erase {full.label} and all keys on it (1 of ours: mine) for good? [y/N]: "
    for answer in (b"n\n", b"\n"):
        assert on_terminal(home, init, [(question.encode(), answer)])[0] == 11
    assert keys(home) == ["mine"]


def test_it_is_erased_by_its_security_officer(home: Home, full: Softhsm) -> None:
    init = ("token", "init", full.label, "--label", LABEL, "--erase", "--json")
    made = home.ok(*init, "--yes", secrets=renewing(full)).json["token"]
    assert made["label"] == LABEL
    assert keys(home) == []
    assert generate(home, LABEL, full.pin.encode()).code == 5
    assert generate(home, LABEL, USER).code == 0
    assert keys(home) == ["mine"]


def test_it_is_erased_on_a_terminal(home: Home, full: Softhsm) -> None:
    officer = full.so_pin.encode() + b"\n"
    code, seen = on_terminal(
        home,
        ("token", "init", full.label, "--label", LABEL, "--erase"),
        [
            (b"[y/N]: ", b"y\n"),
            (b"Security officer's PIN of", officer),
            (b"New PIN of", USER + b"\n"),
            (b"again: ", USER + b"\n"),
        ],
    )
    assert code == 0, seen
    assert keys(home) == []


def test_a_wrong_officer_erases_nothing(home: Home, full: Softhsm) -> None:
    done = home.run(
        *("token", "init", full.label, "--label", LABEL, "--erase", "--yes", "--json"),
        secrets={"so-pin": OFFICER, "new-pin": USER},
    )
    assert (done.code, done.error["type"]) == (5, "WrongSecretError")
    assert OFFICER.decode() not in done.err
    assert keys(home) == ["mine"]
    assert generate(home, full.label, full.pin.encode(), "other").code == 0


def test_keys_that_the_device_needs_are_not_erased_by_the_way(
    softhsm_token: Softhsm, tmp_path: Any
) -> None:
    pin = {"pin": softhsm_token.pin.encode()}
    laptop = connect(tmp_path, softhsm_token.uri, pin, **softhsm_token.environment).laptop
    init = ("token", "init", softhsm_token.label, "--label", LABEL, "--erase", "--yes", "--json")
    done = laptop.run(*init, secrets=renewing(softhsm_token))
    assert (done.code, done.error["type"]) == (11, "ConflictError")
    assert "key of laptop" in done.error["message"]
    assert len(keys(laptop)) == 4
    laptop.ok(*init, "--force", secrets=renewing(softhsm_token))
    assert keys(laptop) == []


# -- pin reset -------------------------------------------------------------------------------------


def test_a_forgotten_pin_is_set_anew_and_the_keys_stay(home: Home, full: Softhsm) -> None:
    reset = ("pin", "reset", full.label, "--json")
    assert home.ok(*reset, secrets=renewing(full)).json == {"reset": full.uri}
    assert generate(home, full.label, full.pin.encode(), "other").code == 5
    assert generate(home, full.label, USER, "other").code == 0
    assert keys(home) == ["mine", "other"]


@pytest.mark.parametrize(
    ("given", "code", "kind"),
    [
        ({"so-pin": OFFICER}, 5, "WrongSecretError"),
        ({"new-pin": b"123"}, 3, "FormatError"),
        ({"so-pin": b""}, 5, "SecretRequiredError"),
        ({"new-pin": b""}, 5, "SecretRequiredError"),
    ],
    ids=["wrong officer", "short", "no officer", "no PIN"],
)
def test_a_pin_that_is_not_reset_stays(
    home: Home, full: Softhsm, given: dict[str, bytes], code: int, kind: str
) -> None:
    secrets = renewing(full) | given
    done = home.run("pin", "reset", full.label, "--json", secrets=secrets)
    assert (done.code, done.error["type"]) == (code, kind)
    assert generate(home, full.label, full.pin.encode(), "other").code == 0


# -- others ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["soft:", "default"])
def test_a_key_file_has_no_security_officer(home: Home, token: str) -> None:
    home.ok(
        *("key", "generate", "--token", token, "--use", "sign", "--label", "a"),
        secrets={"passphrase": PASSPHRASE},
    )
    erase = ("token", "init", token, "--label", LABEL, "--erase", "--yes", "--force", "--json")
    for command in (erase, ("pin", "reset", token, "--json")):
        done = home.run(*command)
        assert (done.code, done.error["type"]) == (6, "UnsupportedError")
    assert keys(home) == ["a"]


def test_a_token_that_is_not_there(home: Home, hsm: Softhsm) -> None:
    for name in ("nothing", "pkcs11:token=nothing", f"{hsm.uri};object=mine"):
        done = home.run("token", "init", name, "--label", LABEL, "--json", secrets=NEW)
        assert (done.code, done.error["type"]) in [(4, "NotFoundError"), (11, "ConflictError")]
    assert [one["label"] for one in tokens(home)] == [hsm.label, ""]
