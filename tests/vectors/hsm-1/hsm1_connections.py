"""Opened for the records on connecting a device: the activation, and what a connection proves."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from hsm1_envelopes import case
from hsm1_fixed import Case, FixedSigner, Json, chance, octets, secret

from mesh_hsm import udf
from mesh_hsm.curves import X448, SecretScalar
from mesh_hsm.custody import CustodyClass, CustodyStatement, Hardware
from mesh_hsm.dare.strict_json import compact
from mesh_hsm.mesh import (
    BaseKeys,
    CombinedKey,
    Connected,
    ConnectionDevice,
    OneTimeKey,
    ProfileMaster,
    Signed,
    activate,
    connect,
    create_profile_master,
    create_request,
)
from mesh_hsm.mesh.signed import sign_object
from mesh_hsm.provider import DeviceKey, Use
from mesh_hsm.threshold import prove
from mesh_hsm.threshold.scalar_share import ScalarShare
from mesh_hsm.uri import Uri

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
CUSTODY = CustodyStatement(CustodyClass.GENERATED, Hardware.SIMULATOR, "test data")
MASTER, ADMINISTRATOR = FixedSigner("P-384", "master"), FixedSigner("P-384", "administrator 0")
SUCCESSOR = FixedSigner("P-384", "administrator 1")


class _Base(DeviceKey):
    """A device's signature key whose signatures repeat."""

    use = Use.SIGN

    def __init__(self, on: str, name: str) -> None:
        self.uri, self.label = Uri("told", (("key", name),)), name
        self._signer = FixedSigner(on, name)
        self.public = self._signer.public

    def custody(self) -> CustodyStatement:
        return CUSTODY

    def _sign(self, octets: bytes) -> bytes:
        return self._signer.sign(octets)


class _Device:
    """A device, connected and activated."""

    def __init__(self, agrees: str, signs: str, master: Signed[ProfileMaster]) -> None:
        self.agrees, name = agrees, f"device {agrees} {signs}"
        self.keys = BaseKeys(
            profile=_Base("P-384", f"{name} profile"),
            encryption=self._share(Use.ENCRYPT),
            signature=_Base(signs, f"{name} sign"),
            authentication=self._share(Use.AUTHENTICATE),
        )
        once = secret("X448", "once")
        self.once = OneTimeKey(X448.scalar_octets(once.value))
        with chance(name):
            self.request = create_request(self.keys, self.once.public, now=NOW)
            self.connected = self._connect(master)
            self.activated = activate(
                self.connected.response.envelope,
                request=self.request.envelope,
                keys=self.keys,
                once=self.once,
                confirm_master_udf=master.value.udf,
                pins=None,
                srk_name="",
                now=NOW,
            )

    @property
    def profile(self) -> str:
        return self.request.value.device.text.decode().strip()

    def _share(self, use: Use) -> DeviceKey:
        return ScalarShare(self.secret(use), use, label=use.value, custody=CUSTODY)

    def secret(self, use: Use) -> SecretScalar:
        return secret(self.agrees, f"base {use.value}")

    def _connect(self, master: Signed[ProfileMaster]) -> Connected:
        return connect(
            self.request.envelope,
            confirm_udf=self.request.value.device.value.udf,
            master=master,
            administrator=ADMINISTRATOR,
            now=NOW,
            seed=b"\x01\x03" + octets("activation seed"),
        )


def connections() -> list[Case]:
    """hsm-1 §5, §6.3, §7."""
    with chance("connections"):
        master = _master(None, ADMINISTRATOR)
        stranger = create_profile_master(SUCCESSOR, [ADMINISTRATOR.public], [], now=NOW)
    cases = []
    for agrees, signs in (("P-384", "P-384"), ("X448", "P-256"), ("X25519", "P-384")):
        device = _Device(agrees, signs, master)
        inputs = _inputs(master, device, device.activated.connection)
        cases.append(_case(f"proved, {agrees} and {signs}", inputs))
        once = {"crv": "X448", "private": device.once.secret.hex()}
        base = device.secret(Use.ENCRYPT)
        own = {"crv": agrees, "private": base.curve.scalar_octets(base.value).hex()}
        sealed = compact(device.connected.response.value.activation)
        name, note = f"activation for {agrees} and X448", "ActivationKey is the seed of three keys"
        cases.append(case(name, sealed, [own, once], [ADMINISTRATOR], note))
    first, other = _Device("P-384", "P-384", master), _Device("P-256", "P-256", master)
    inputs = _inputs(master, first, first.activated.connection)
    note = "the device has not countersigned"
    cases.append(_case("claimed", _inputs(master, first, first.connected.connection), note=note))
    cases += [
        _case("another device", {**inputs, "profile_device": other.profile}, "verification"),
        _case("another Mesh", {**inputs, "profile_master": _text(stranger)}, "verification"),
        _case("a year later", {**inputs, "now": "2027-11-23T12:00:00Z"}, "verification"),
    ]
    return cases + _forged(master, first) + _removed(master, first, inputs)


def _forged(master: Signed[ProfileMaster], device: _Device) -> list[Case]:
    """A dishonest administrator who publishes Z = zG, and claims or proves what he can."""
    value, z = device.connected.connection.value, secret("P-384", "z")
    X, base = secret("P-384", "not the device's").public(), device.request.value.device
    Z = X + z.public()
    with chance("forged"):
        shown = prove(z, X, Z, Use.ENCRYPT, base.digest, master.value.udf)
        unproved = replace(value, encryption=CombinedKey(Z, None))
        proved = replace(value, encryption=CombinedKey(Z, shown))
        wrong = replace(value, authentication=replace(value.authentication, proof=shown))
        made = {
            "no proof": (sign_object(unproved, ADMINISTRATOR, NOW), None),
            "a proof over another X": (sign_object(proved, ADMINISTRATOR, NOW), "verification"),
            "the proof of another use": (sign_object(wrong, ADMINISTRATOR, NOW), "verification"),
            "by nobody whom the Mesh names": (sign_object(value, SUCCESSOR, NOW), "verification"),
        }
    return [
        _case(name, _inputs(master, device, connection), failure)
        for name, (connection, failure) in made.items()
    ]


def _removed(master: Signed[ProfileMaster], device: _Device, inputs: Json) -> list[Case]:
    """Version 2 without the administrator who signed."""
    with chance("removed"):
        void = _master(master, SUCCESSOR)
        kept = _master(master, SUCCESSOR, device.activated.connection.digest)
        backdated = replace(device.connected.connection.value, serial=udf.nonce())
        unlisted = sign_object(backdated, ADMINISTRATOR, NOW)
    later = {**inputs, "profile_master": _text(kept)}
    other = {**_inputs(master, device, unlisted), "profile_master": _text(kept)}
    note = "the digest in the ProfileMaster vouches; who signed is not known"
    return [
        _case("void", {**inputs, "profile_master": _text(void)}, "verification"),
        _case("surviving", later, note=note),
        _case("backdated by the administrator who was removed", other, "verification"),
    ]


def _master(
    previous: Signed[ProfileMaster] | None, administrator: FixedSigner, *surviving: bytes
) -> Signed[ProfileMaster]:
    return create_profile_master(
        MASTER,
        [administrator.public],
        [secret("X448", "escrow").public()],
        now=NOW,
        previous=previous,
        surviving_connections=surviving,
    )


def _inputs(
    master: Signed[ProfileMaster], device: _Device, connection: Signed[ConnectionDevice]
) -> Json:
    return {
        "profile_master": _text(master),
        "profile_device": device.profile,
        "connection": connection.text.decode().strip(),
        "now": "2026-11-24T12:00:00Z",
    }


def _text(one: Signed[ProfileMaster]) -> str:
    return one.text.decode().strip()


def _case(name: str, inputs: Json, failure: str | None = None, note: str = "") -> Case:
    return Case(f"connection: {name}", "connection", inputs, note, failure)
