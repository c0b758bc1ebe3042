"""The command line over an HSM (SoftHSM): a device whose keys it holds does what a TPM's does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from mesh_hsm.errors import DeviceError, ProviderUnavailableError
from mesh_hsm.testing.softhsm import Softhsm
from mesh_hsm_cli import main
from mesh_hsm_pkcs11.token import Pkcs11Token
from tests.cli.conftest import PASSPHRASE, Home, connect, on_terminal

WRONG = b"3141-5926"
CHANGED = b"a new and longer PIN"
LETTER = "../letter"


@pytest.fixture
def hsm(softhsm_token: Softhsm, home: Home) -> Softhsm:
    """A SoftHSM with one empty token, which the machine ``home`` sees."""
    home.env.update(softhsm_token.environment)
    return softhsm_token


@pytest.fixture
def right(hsm: Softhsm) -> dict[str, bytes]:
    """The token's PIN."""
    return {"pin": hsm.pin.encode()}


@dataclass(frozen=True)
class Connected:
    """An administrator, and a laptop connected by its HSM, with a letter to send."""

    admin: Home
    laptop: Home
    folder: Path
    uri: str
    right: dict[str, bytes]

    @property
    def tokens(self) -> Path:
        """SoftHSM's own folder."""
        return self.folder / "tokens"


@pytest.fixture(scope="session")
def _connected(tmp_path_factory: pytest.TempPathFactory) -> Connected:
    try:
        rig = Softhsm()
    except ProviderUnavailableError as error:
        pytest.skip(f"{error} ({error.hint})")
    with rig:
        folder, right = tmp_path_factory.mktemp("hsm") / "world", {"pin": rig.pin.encode()}
        folder.mkdir()
        made = connect(folder, rig.uri, right, **rig.environment)
        (folder / "letter").write_text("hello")
        shutil.copytree(rig.folder / "tokens", folder / "tokens")
        env = rig.environment
    return Connected(made.admin, Home(folder / "laptop", env), folder, rig.uri, right)


@pytest.fixture
def world(_connected: Connected, tmp_path: Path) -> Connected:
    """A copy of the connected world and its HSM, to be spoilt at will."""
    folder = tmp_path / "world"
    shutil.copytree(_connected.folder, folder)
    conf = folder / "softhsm2.conf"
    conf.write_text(f"directories.tokendir = {folder}/tokens\nlog.level = ERROR\n")
    laptop = Home(folder / "laptop", _connected.laptop.env | {"SOFTHSM2_CONF": str(conf)})
    return replace(_connected, admin=Home(folder / "admin"), laptop=laptop, folder=folder)


def generate(home: Home, label: str, use: str, *more: str, **settings: Any) -> Any:
    return home.run(
        *("key", "generate", "--token", "test", "--use", use, "--label", label, "--json", *more),
        **settings,
    )


def listed(home: Home) -> dict[str, dict[str, Any]]:
    return {key["label"]: key for key in home.ok("key", "list", "--json").json["keys"]}


# -- a device --------------------------------------------------------------------------------------


def test_the_promise(world: Connected) -> None:
    """A file for the laptop opens with its HSM, or with the backup, and in no other way."""
    keys = listed(world.laptop)
    assert {label: (key["use"], key["algorithm"]) for label, key in keys.items()} == {
        "laptop-encrypt": ("encrypt", "X448"),
        "laptop-authenticate": ("authenticate", "X448"),
        "laptop-sign": ("sign", "P-384"),
        "laptop-profile": ("sign", "P-384"),
    }
    assert {key["custody"]["custody"] for key in keys.values()} == {"generated"}

    world.admin.ok("dare", "encode", LETTER, "-r", "laptop")
    assert world.laptop.ok("dare", "decode", f"{LETTER}.dare", secrets=world.right).out == "hello"

    shown = world.laptop.ok("device", "show", "--json", secrets=world.right).json["device"]
    assert shown["token"] == world.uri
    for use in ("encryption", "authentication"):
        custody = shown["combined"][use]["custody"]
        assert (custody["theft"], custody["composite"]) == ("generated", "proved")
        assert [share["custody"] for share in custody["shares"]] == ["generated", "sealed"]
    assert shown["combined"]["signature"]["custody"]["theft"] == "generated"

    for token in world.tokens.iterdir():
        shutil.rmtree(token)
    (new,) = world.laptop.ok("token", "list", "--json").json["tokens"][:1]
    pins = {"new-so-pin": WRONG, "new-pin": world.right["pin"]}  # the same PIN on another token
    world.laptop.ok("token", "init", new["uri"], "--label", "test", secrets=pins)
    stolen = world.laptop.run("dare", "decode", f"{LETTER}.dare", "-o", "x", secrets=world.right)
    assert stolen.code in (4, 10)
    assert not (world.laptop.folder / "x").exists()
    codes = {one["code"] for one in world.laptop.run("doctor", "--json").json["findings"]}
    assert "DEVICE002" in codes

    backup = ("--backup", "../backup.json")
    secret = {"passphrase": PASSPHRASE}
    assert (
        world.admin.ok("dare", "decode", f"{LETTER}.dare", *backup, secrets=secret).out == "hello"
    )


def test_what_the_device_signs_is_verified_by_others(world: Connected) -> None:
    world.laptop.ok(
        "dare", "encode", LETTER, "--sign", "device", "-r", "laptop", secrets=world.right
    )
    report = world.admin.ok("dare", "verify", f"{LETTER}.dare", "--json").json["report"]
    assert [one["status"] for one in report["signers"]] == ["verified"]

    envelope = world.folder / "letter.dare"
    data = bytearray(envelope.read_bytes())
    data[len(data) // 2] ^= 1
    envelope.write_bytes(data)
    assert world.admin.run("dare", "verify", f"{LETTER}.dare").code in (3, 7)
    spoilt = world.laptop.run("dare", "decode", f"{LETTER}.dare", "-o", "x", secrets=world.right)
    assert spoilt.code in (3, 7, 8)
    assert not (world.laptop.folder / "x").exists()


def test_a_wrong_pin_opens_nothing_and_a_right_one_does_afterwards(world: Connected) -> None:
    world.admin.ok("dare", "encode", LETTER, "-r", "laptop")
    decode = ("dare", "decode", f"{LETTER}.dare", "-o", "x", "--json")
    for _ in range(3):
        wrong = world.laptop.run(*decode, secrets={"pin": WRONG})
        assert (wrong.code, wrong.error["type"]) == (5, "WrongSecretError")
        assert WRONG.decode() not in wrong.err
        assert not (world.laptop.folder / "x").exists()
    assert world.laptop.run(*decode).error["type"] == "SecretRequiredError"
    world.laptop.ok(*decode, secrets=world.right)


def test_the_pin_of_all_keys_is_changed_once(world: Connected) -> None:
    changed = world.laptop.ok("pin", "change", "--json", secrets=world.right | {"new-pin": CHANGED})
    assert changed.json == {"changed": [world.uri]}
    world.admin.ok("dare", "encode", LETTER, "-r", "laptop")
    assert world.laptop.run("dare", "decode", f"{LETTER}.dare", secrets=world.right).code == 5
    world.laptop.ok("dare", "decode", f"{LETTER}.dare", secrets={"pin": CHANGED})


@pytest.mark.parametrize(
    "secrets",
    [{"pin": WRONG, "new-pin": CHANGED}, {"new-pin": b"123"}, {"new-pin": b""}, {}],
    ids=["wrong old one", "short new one", "empty new one", "no new one"],
)
def test_a_pin_that_is_not_changed_still_opens(world: Connected, secrets: dict[str, bytes]) -> None:
    assert world.laptop.run("pin", "change", secrets=world.right | secrets).code in (3, 5)
    world.admin.ok("dare", "encode", LETTER, "-r", "laptop")
    world.laptop.ok("dare", "decode", f"{LETTER}.dare", secrets=world.right)


def test_keys_of_the_device_are_not_deleted_by_the_way(world: Connected) -> None:
    keys = listed(world.laptop)
    encrypt = keys["laptop-encrypt"]
    for name in (*keys, encrypt["uri"], encrypt["udf"]):
        done = world.laptop.run("key", "delete", name, "--yes", "--json", secrets=world.right)
        assert (done.code, done.error["type"]) == (11, "ConflictError")
    world.laptop.ok("key", "delete", "laptop-sign", "--yes", "--force", secrets=world.right)
    assert "laptop-sign" not in listed(world.laptop)
    codes = {one["code"] for one in world.laptop.run("doctor", "--json").json["findings"]}
    assert "DEVICE002" in codes


@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_no_orphan_in_the_hsm_after_a_failed_init(
    hsm: Softhsm, home: Home, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """In this process: no simulator fails at the third key of four."""
    monkeypatch.chdir(home.folder)
    monkeypatch.setenv("MESH_HSM_HOME", str(home.state))
    monkeypatch.setenv("RIGHT", hsm.pin)
    calls = []
    real: Callable[..., Any] = Pkcs11Token.generate

    def failing(token: Pkcs11Token, spec: Any) -> Any:
        calls.append(spec)
        made = real(token, spec)
        if len(calls) == at:
            raise DeviceError("vanished")
        return made

    init = ["device", "init", "--name", "laptop", "--token", hsm.uri, "--pin-env", "RIGHT"]
    with monkeypatch.context() as patch:
        patch.setattr(Pkcs11Token, "generate", failing)
        assert main.main(init) == 10
    assert listed(home) == {}
    assert main.main(init) == 0
    assert len(listed(home)) == 4


# -- keys ------------------------------------------------------------------------------------------


def test_looking_asks_nobody(home: Home, hsm: Softhsm, right: dict[str, bytes]) -> None:
    """On a terminal, where a question would be put; and a wrong PIN would cost a try."""
    made = generate(home, "mine", "encrypt", secrets=right).json["key"]
    for command in (("key", "list"), ("token", "list"), ("token", "show", "test"), ("doctor",)):
        code, seen = on_terminal(home, command, [])
        assert code == 0, seen
        assert "PIN of" not in seen
    assert listed(home)["mine"]["custody"]["custody"] == "generated"
    udf = made["udf"][:12].lower()
    for name in (made["label"], made["uri"], udf):
        code, seen = on_terminal(
            home, ("key", "show", name), [(b"PIN of ", hsm.pin.encode() + b"\n")]
        )
        assert code == 0, seen
        assert "after its PIN" not in seen


def test_a_key_is_shown_with_its_pin_and_as_it_was_without(
    home: Home, hsm: Softhsm, right: dict[str, bytes]
) -> None:
    generate(home, "mine", "encrypt", secrets=right)
    with_pin = home.ok("key", "show", "mine", "--json", secrets=right).json["key"]["custody"]
    without = home.ok("key", "show", "mine", "--json").json["key"]["custody"]
    assert "after its PIN" in without["notes"][0]
    assert with_pin == without | {"notes": without["notes"][1:]}
    assert with_pin["hardware"] == "simulator"
    assert home.run("key", "show", "mine", secrets={"pin": WRONG}).code == 5


def test_a_key_is_made_used_and_deleted(home: Home, hsm: Softhsm, right: dict[str, bytes]) -> None:
    (home.folder / "letter").write_text("hello")
    for label in ("mine", "stays"):
        made = generate(home, label, "sign", secrets=right)
        assert made.code == 0
    sign = ("dare", "encode", "letter", "--sign", "mine", "--force", "--json")
    home.ok(*sign, secrets=right)
    home.ok("dare", "verify", "letter.dare", "--signer", "mine")

    assert home.run("key", "delete", "mine", secrets=right).code == 11
    assert home.run("key", "delete", "mine", "--yes", secrets={"pin": WRONG}).code == 5
    assert home.run("key", "delete", "mine", "--yes").code == 5
    assert set(listed(home)) == {"mine", "stays"}
    assert (
        home.ok("key", "delete", "mine", "--yes", "--json", secrets=right).json["deleted"]["label"]
        == "mine"
    )
    assert set(listed(home)) == {"stays"}
    assert home.run(*sign, secrets=right).code == 4
    assert home.run("key", "delete", "mine", "--yes", secrets=right).code == 4


@pytest.mark.parametrize(
    ("more", "code", "kind"),
    [
        (("--algorithm", "P-257"), 6, "UnsupportedError"),
        (("--algorithm", "Ed25519"), 6, "UnsupportedError"),  # it signs
        (("--pcrs", "7"), 6, "UnsupportedError"),
        (("--no-pin",), 6, "UnsupportedError"),
        (("--token", "nothing"), 4, "NotFoundError"),
        (("--token", "pkcs11:token=nothing"), 4, "NotFoundError"),
        (("--token", "pkcs11:token=test;pin-value=1234"), 3, "FormatError"),
        (("--token", "pkcs11:token=test?pin-value=1234"), 3, "FormatError"),
        (("--token", "pkcs11:token=%zz"), 3, "FormatError"),
        (("--label", "taken"), 11, "ConflictError"),
        (("--label", "a\x1b[2J"), 3, "FormatError"),
    ],
    ids=lambda value: " ".join(value).replace("\x1b", "ESC") if isinstance(value, tuple) else None,
)
def test_what_cannot_be_is_refused_before_the_pin_is_asked(
    home: Home, hsm: Softhsm, right: dict[str, bytes], more: tuple[str, ...], code: int, kind: str
) -> None:
    generate(home, "taken", "encrypt", secrets=right)
    done = generate(home, "other", "encrypt", *more)
    assert (done.code, done.error["type"]) == (code, kind), done.err
    assert "1234" not in done.err
    assert set(listed(home)) == {"taken"}


def test_a_token_that_can_keep_a_key_keeps_it_with_consent_too(
    home: Home, hsm: Softhsm, right: dict[str, bytes]
) -> None:
    for label, more in (("stays", ()), ("stays too", ("--allow-exportable",))):
        made = generate(home, label, "encrypt", *more, secrets=right)
        assert made.json["key"]["custody"]["custody"] == "generated"
        assert "LEAVE" not in made.err


# -- tokens ----------------------------------------------------------------------------------------


def test_a_token_s_pin_is_changed_before_it_has_keys(
    home: Home, hsm: Softhsm, right: dict[str, bytes]
) -> None:
    old, new = (pin + b"\n" for pin in (hsm.pin.encode(), CHANGED))
    code, seen = on_terminal(
        home,
        ("pin", "change", "--token", "test"),
        [(b"PIN of token test: ", old), (b"New PIN of token test: ", new), (b"again: ", new)],
    )
    assert code == 0, seen
    assert generate(home, "mine", "encrypt", secrets=right).code == 5
    assert generate(home, "mine", "encrypt", secrets={"pin": CHANGED}).code == 0


def test_of_two_tokens_each_answers_to_its_name(
    home: Home, hsm: Softhsm, right: dict[str, bytes]
) -> None:
    other = hsm.add_token("second; with? 'signs'")
    unnamed = home.run("device", "init", "--name", "laptop", "--json")
    assert (unnamed.code, unnamed.error["type"]) == (4, "NotFoundError")
    assert hsm.uri in unnamed.error["hint"]
    generate(home, "mine", "encrypt", secrets=right)
    second = generate(
        home, "mine", "encrypt", "--token", other.label, secrets={"pin": other.pin.encode()}
    )
    assert second.code == 0, second.err
    both = home.run("key", "show", "mine", "--json")
    assert (both.code, both.error["type"]) == (4, "NotFoundError")
    uri = second.json["key"]["uri"]
    assert home.ok("key", "show", uri, "--json").json["key"]["udf"] == second.json["key"]["udf"]
    home.ok("key", "delete", uri, "--yes", secrets={"pin": other.pin.encode()})
    assert list(listed(home)) == ["mine"]

    hsm.add_token("test")
    twice = generate(home, "another", "encrypt", secrets=right)
    assert (twice.code, twice.error["type"]) == (4, "NotFoundError")
    assert "fits 2 tokens" in twice.error["message"]


def test_a_module_named_by_the_uri_stays_named(
    home: Home, hsm: Softhsm, right: dict[str, bytes], tmp_path: Path
) -> None:
    """The URI's query is in the device's record: nothing else says where the module is."""
    hidden = Home(home.folder, {"SOFTHSM2_CONF": str(hsm.conf)})
    assert generate(hidden, "mine", "sign", secrets=right).code == 4
    pin = tmp_path / "pin"
    pin.write_bytes(hsm.pin.encode() + b"\n")
    pin.chmod(0o600)
    uri = f"{hsm.uri}?module-path={hsm.module}&pin-source=file:{pin}"
    made = hidden.ok("device", "init", "--name", "laptop", "--token", uri, "--json").json
    assert made["device"]["token"] == uri
    assert hsm.pin not in json.dumps(made)
    shown = hidden.ok("device", "show", "--json").json["device"]["custody"]["Encryption"]
    assert not any("after its PIN" in note for note in shown["notes"])
    pin.chmod(0o644)
    assert hidden.run("device", "show").code == 5


# -- what is missing -------------------------------------------------------------------------------


def test_a_module_that_is_not_there(home: Home) -> None:
    home.env["MESH_HSM_PKCS11_MODULE"] = "/nowhere/module.so"
    done = generate(home, "mine", "sign", "--token", "pkcs11:token=test")
    assert (done.code, done.error["type"]) == (9, "ProviderUnavailableError")
    for command in ("token", "key"):
        assert "/nowhere/module.so" in home.ok(command, "list").err
    assert "/nowhere/module.so" in home.run("doctor").out


@pytest.fixture
def without_extra(home: Home, tmp_path: Path) -> Home:
    """A machine where python-pkcs11 is not installed."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "pkcs11.py").write_text('raise ModuleNotFoundError("no", name="pkcs11")\n')
    home.env["PYTHONPATH"] = str(hidden)
    return home


def test_without_the_extra_the_rest_works_and_the_remedy_is_named(without_extra: Home) -> None:
    remedy = "pip install 'mesh-hsm[pkcs11]'"
    done = generate(without_extra, "mine", "sign", "--token", "pkcs11:token=test")
    assert (done.code, done.error["hint"]) == (9, remedy)
    assert "pkcs11" in without_extra.ok("provider", "list").out
    assert remedy in without_extra.ok("token", "list").err
    assert "_MESH_HSM_COMPLETE" in without_extra.ok("completion", "bash").out
    findings = without_extra.ok("doctor", "--json").json["findings"]
    assert ("PROVIDER001", remedy) in {(one["code"], one["remedy"]) for one in findings}
    soft = ("--token", "soft:")
    assert (
        generate(without_extra, "mine", "sign", *soft, secrets={"passphrase": PASSPHRASE}).code == 0
    )
    assert list(listed(without_extra)) == ["mine"]
