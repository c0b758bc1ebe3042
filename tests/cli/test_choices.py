"""What is chosen for a person, and what is said of it, with devices that no simulator here is."""

from __future__ import annotations

import shlex
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from mesh_hsm.curves import P256
from mesh_hsm.custody import CustodyClass, CustodyStatement, Hardware, PinPolicy, TouchPolicy
from mesh_hsm.errors import (
    DeviceError,
    LockedOutError,
    MeshHsmError,
    NotFoundError,
    ProviderUnavailableError,
    UnsupportedError,
)
from mesh_hsm.provider import Capability, KeySpec, Primitive, TokenInfo, Use
from mesh_hsm.secret_source import NoSecrets, SecretKind, SecretRequest, SecretSource
from mesh_hsm.uri import Uri
from mesh_hsm_cli import choices, find, main
from mesh_hsm_cli.session import Session


def token(
    hardware: Hardware,
    *algorithms: str,
    custody: CustodyClass = CustodyClass.GENERATED,
    name: str = "test",
    initialised: bool = True,
) -> Any:
    uri = Uri("test", (("name", name),))
    info = TokenInfo(uri, name, "", "", None, None, hardware, initialised)
    powers = frozenset(Capability(name, Primitive.AGREE_POINT, custody) for name in algorithms)
    return SimpleNamespace(
        info=info,
        capabilities=lambda: powers,
        pins=lambda use: frozenset(PinPolicy),
        tokens=lambda: [info],
        why_not=lambda algorithm, use: "it says so",
    )


class Sealing:
    """An opened token that keeps secrets."""

    def seal(self, label: str, secret: bytes, pin: PinPolicy = PinPolicy.NONE) -> bytes:
        raise NotImplementedError

    def unseal(self, blob: bytes) -> bytes:
        raise NotImplementedError


def session_with(*providers: Any, unsealing: str = "") -> Any:
    """A session; the token called ``unsealing`` keeps no secrets."""

    def opened(uri: Uri, secrets: SecretSource) -> Any:
        return nullcontext(object() if uri.get("name") == unsealing else Sealing())

    return SimpleNamespace(providers=lambda: providers, open=opened)


# -- algorithms ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (["P-256", "P-384", "P-521", "X25519", "X448"], "X448"),
        (["P-256", "P-384", "P-521", "X25519"], "P-384"),
        (["P-256", "P-521", "X25519"], "X25519"),
        (["P-256", "P-521"], "P-521"),
        (["P-256"], "P-256"),
    ],
)
def test_the_strongest_that_is_offered(offered: list[str], chosen: str) -> None:
    device = token(Hardware.CLAIMED, *offered)
    assert choices.choose_algorithm(device, Use.ENCRYPT, None) == chosen


@pytest.mark.parametrize("custody", [CustodyClass.EXPORTABLE, CustodyClass.UNKNOWN])
def test_keys_that_could_leave_are_not_chosen_unless_allowed(custody: CustodyClass) -> None:
    device = token(Hardware.CLAIMED, "P-384", custody=custody)
    with pytest.raises(UnsupportedError):
        choices.choose_algorithm(device, Use.ENCRYPT, None)
    assert choices.choose_algorithm(device, Use.ENCRYPT, None, allow_exportable=True) == "P-384"


def test_a_key_that_stays_goes_before_a_better_one_that_could_leave() -> None:
    stays = token(Hardware.CLAIMED, "P-256").capabilities()
    leaves = token(Hardware.CLAIMED, "X448", custody=CustodyClass.EXPORTABLE).capabilities()
    both: Any = SimpleNamespace(capabilities=lambda: stays | leaves)
    assert choices.choose_algorithm(both, Use.ENCRYPT, None, allow_exportable=True) == "P-256"


def test_a_pin_unless_refused_or_senseless() -> None:
    hardware, file = token(Hardware.CLAIMED), token(Hardware.NONE)
    assert choices.pin_policy(hardware, Use.ENCRYPT, no_pin=False) is PinPolicy.ONCE
    assert choices.pin_policy(hardware, Use.ENCRYPT, no_pin=True) is PinPolicy.NONE
    assert choices.pin_policy(file, Use.ENCRYPT, no_pin=False) is PinPolicy.NONE


class OnePin:
    """A token whose keys share one PIN."""

    def __init__(self, hardware: Hardware) -> None:
        self.info = token(hardware).info

    def pins(self, use: Use) -> frozenset[PinPolicy]:
        return frozenset({PinPolicy.ONCE})


def test_a_pin_that_all_keys_share_is_not_left_out_for_one() -> None:
    device: Any = OnePin(Hardware.CLAIMED)
    assert choices.pin_policy(device, Use.ENCRYPT, no_pin=False) is PinPolicy.ONCE
    with pytest.raises(UnsupportedError):
        choices.pin_policy(device, Use.ENCRYPT, no_pin=True)
    file: Any = OnePin(Hardware.NONE)
    assert choices.pin_policy(file, Use.ENCRYPT, no_pin=True) is PinPolicy.NONE


# -- tokens ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("passed_over", [Hardware.NONE, Hardware.SIMULATOR])
@pytest.mark.parametrize("real", [Hardware.CLAIMED, Hardware.ATTESTED])
def test_the_one_real_device_is_chosen(real: Hardware, passed_over: Hardware) -> None:
    one = session_with(token(passed_over), token(real, name="real"), token(passed_over))
    assert choices.choose_token(one, None).get("name") == "real"


def test_a_simulator_is_chosen_where_there_is_nothing_else() -> None:
    one = session_with(token(Hardware.NONE), token(Hardware.SIMULATOR, name="simulator"))
    assert choices.choose_token(one, None).get("name") == "simulator"


@pytest.mark.parametrize("hardware", [Hardware.CLAIMED, Hardware.SIMULATOR])
def test_several_devices_are_not_chosen_between(hardware: Hardware) -> None:
    two = session_with(token(hardware, name="one"), token(hardware, name="two;of"))
    with pytest.raises(NotFoundError, match="several devices") as caught:
        choices.choose_token(two, None)
    assert "test:name=one, test:name=two%3Bof" in str(caught.value.hint)


def test_a_device_that_cannot_keep_the_seed_is_not_chosen() -> None:
    card, tpm = token(Hardware.CLAIMED, name="card"), token(Hardware.CLAIMED, name="tpm")
    both = session_with(card, tpm, unsealing="card")
    assert choices.choose_token(both, None).get("name") == "tpm"


def test_a_token_that_is_not_initialised_is_not_chosen() -> None:
    new = token(Hardware.CLAIMED, name="new", initialised=False)
    both = session_with(new, token(Hardware.CLAIMED))
    assert choices.choose_token(both, None).get("name") == "test"
    with pytest.raises(ProviderUnavailableError):
        choices.choose_token(session_with(new), None)


@pytest.mark.parametrize(
    "providers",
    [(), (token(Hardware.NONE),), (token(Hardware.NONE), ProviderUnavailableError("no library"))],
    ids=["none", "software", "software and a broken one"],
)
def test_software_is_never_chosen_silently(providers: tuple[Any, ...]) -> None:
    with pytest.raises(ProviderUnavailableError) as caught:
        choices.choose_token(session_with(*providers), None)
    assert "--token soft:" in str(caught.value.hint)


def test_a_token_is_named_by_uri_or_label() -> None:
    two = session_with(token(Hardware.CLAIMED, name="one"), token(Hardware.NONE, name="two"))
    assert find.find_token(two, "two") == Uri("test", (("name", "two"),))
    assert find.find_token(two, "tpm2:") == Uri("tpm2")
    with pytest.raises(NotFoundError, match="no token is called 'three'"):
        find.find_token(two, "three")


def test_a_label_of_two_tokens_names_neither() -> None:
    two = session_with(token(Hardware.CLAIMED, name="same"), token(Hardware.NONE, name="same"))
    with pytest.raises(NotFoundError, match="fits 2 tokens") as caught:
        find.find_token(two, "same")
    assert str(caught.value.hint).count("test:name=same") == 2


def test_names_in_hints_are_shown_as_a_shell_takes_them() -> None:
    uri = Uri("test", (("token", "Alice's"), ("object", "a")), (("module-path", "/a b"),))
    assert shlex.split(find.quoted(uri)) == [str(uri)]
    assert ";" in str(uri)


# -- devices that behave as no simulator does ------------------------------------------------------


class Leaky:
    """A provider and its only token and key: made as asked, of the custody that it was given.

    ``fault`` is what listing its keys raises; what it is asked for is written down.
    """

    touches = frozenset({TouchPolicy.NONE})

    def __init__(
        self, custody: CustodyClass, fault: MeshHsmError | None = None, scheme: str = "test"
    ) -> None:
        self.scheme, self.custody_class, self.fault = scheme, custody, fault
        self.info = replace(token(Hardware.CLAIMED).info, uri=Uri(scheme))
        self.specs: list[KeySpec] = []
        self.sources: list[SecretSource] = []

    def tokens(self) -> list[TokenInfo]:
        return [self.info]

    def open(self, uri: Uri, secrets: SecretSource) -> Any:
        self.sources.append(secrets)
        return self

    def capabilities(self) -> frozenset[Capability]:
        return frozenset({Capability("P-256", Primitive.AGREE_POINT, self.custody_class)})

    def why_not(self, algorithm: str, use: Use) -> None:
        return None

    def pins(self, use: Use) -> frozenset[PinPolicy]:
        return frozenset(PinPolicy)

    def keys(self) -> list[Any]:
        if self.fault:
            raise self.fault
        return [self.key(self.info.uri)]

    def key(self, uri: Uri) -> Any:
        return SimpleNamespace(
            uri=self.info.uri.with_attribute("key", "mine"),
            label="mine",
            use=Use.ENCRYPT,
            public=P256.base,
            custody=lambda: CustodyStatement(self.custody_class, Hardware.CLAIMED, "leaky"),
        )

    def generate(self, spec: KeySpec) -> Any:
        self.specs.append(spec)
        return self.key(self.info.uri)

    def __enter__(self) -> Leaky:
        return self

    def __exit__(self, *error: object) -> None:
        pass


GENERATE = ["key", "generate", "--token", "test", "--use", "encrypt", "--label", "mine"]


@pytest.mark.parametrize(
    ("custody", "said"),
    [
        (CustodyClass.EXPORTABLE, "mine can LEAVE its device"),
        (CustodyClass.UNKNOWN, "mine may LEAVE its device"),
    ],
)
def test_a_key_that_may_leave_is_made_when_asked_for_and_said(
    custody: CustodyClass,
    said: str,
    plugged_in: Any,
    capfd: pytest.CaptureFixture[str],
) -> None:
    device = plugged_in(Leaky(custody))
    assert main.main(GENERATE) == 6
    assert device.specs == []
    capfd.readouterr()
    assert main.main([*GENERATE, "--allow-exportable"]) == 0
    assert [spec.allow_exportable for spec in device.specs] == [True]
    assert said in capfd.readouterr().err


def test_nothing_is_said_of_a_key_that_stays(
    plugged_in: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    device = plugged_in(Leaky(CustodyClass.GENERATED))
    assert main.main([*GENERATE, "--allow-exportable"]) == 0
    assert main.main(GENERATE) == 0
    assert [spec.allow_exportable for spec in device.specs] == [True, False]
    assert "LEAVE" not in capfd.readouterr().err


@pytest.mark.parametrize(
    "fault", [LockedOutError("it is locked"), DeviceError("it vanished"), NotFoundError("gone")]
)
def test_a_token_that_does_not_answer_hides_no_other(
    fault: MeshHsmError, plugged_in: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    plugged_in(Leaky(CustodyClass.GENERATED, fault), Leaky(CustodyClass.GENERATED, scheme="other"))
    assert main.main(["key", "list"]) == 0
    seen = capfd.readouterr()
    assert "mine" in seen.out
    assert str(fault) in seen.err


def test_searching_has_no_secret_to_give(
    plugged_in: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    device = plugged_in(Leaky(CustodyClass.GENERATED))
    for command in (["key", "list"], ["key", "show", "mine"]):
        assert main.main(command) == 0
    listed, searched, shown = device.sources
    assert isinstance(listed, NoSecrets)
    assert isinstance(searched, NoSecrets)
    assert not isinstance(shown, NoSecrets)


@pytest.fixture
def plugged_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Any:
    """Make the given providers the only ones."""

    def plug(*devices: Leaky) -> Leaky:
        monkeypatch.setenv("MESH_HSM_HOME", str(tmp_path / "state"))
        monkeypatch.setattr(Session, "providers", lambda self: iter(devices))
        found = {device.scheme: device for device in devices}
        monkeypatch.setattr(Session, "provider", lambda self, scheme: found[scheme])
        return devices[0]

    return plug


# -- what is asked ---------------------------------------------------------------------------------


def test_one_new_pin_for_many_keys_is_asked_as_such() -> None:
    secrets = Session().secrets
    request = SecretRequest(SecretKind.NEW_PIN, "build-hsm")
    assert secrets._called(request) == "build-hsm"
    secrets.many_keys = True
    assert secrets._called(request) == "build-hsm and of every other key that this command touches"
