"""Two personal Meshes and two devices in memory, made once: objects here are never changed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384

from mesh_hsm.curves import ED448, P256, P384, X448, Point, SecretScalar, curve
from mesh_hsm.custody import CustodyClass, CustodyStatement, Hardware
from mesh_hsm.dare import DoubleRecipient
from mesh_hsm.mesh import (
    Activated,
    ActivationDevice,
    AdministratorKeySet,
    BaseKeys,
    Connected,
    ConnectionDevice,
    ConnectionRequest,
    ConnectionResponse,
    OneTimeKey,
    ProfileMaster,
    Signed,
    activate,
    connect,
    create_key_set,
    create_profile_master,
    create_request,
)
from mesh_hsm.mesh.connection import open_connection
from mesh_hsm.mesh.contribution import draw_seed
from mesh_hsm.mesh.key_set import dealer_text
from mesh_hsm.mesh.signed import seal_object
from mesh_hsm.provider import DeviceKey, Use
from mesh_hsm.threshold import deal
from mesh_hsm.threshold.scalar_share import ScalarShare
from mesh_hsm.uri import Uri

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
SRK = "000b" + 32 * "5a"
CUSTODY = CustodyStatement(CustodyClass.GENERATED, Hardware.SIMULATOR, "memory")


class MemorySigner(DeviceKey):
    """A signature key that behaves as a device's: it signs digests, with s as it comes."""

    use = Use.SIGN

    def __init__(self, label: str, algorithm: str = "P-384") -> None:
        self.uri, self.label = Uri("memory", (("label", label),)), label
        self._curve = curve(algorithm)
        self._nist = {P256: (ec.SECP256R1(), SHA256()), P384: (ec.SECP384R1(), SHA384())}
        self._key: Any
        if self._curve is ED448:
            self._key = Ed448PrivateKey.generate()
            self.public = ED448.decode(self._key.public_key().public_bytes_raw())
        else:
            self._key = ec.generate_private_key(self._nist[self._curve][0])
            numbers = self._key.public_key().public_numbers()
            self.public = self._curve.point(numbers.x, numbers.y)

    def custody(self) -> CustodyStatement:
        return CUSTODY

    def _sign(self, octets: bytes) -> bytes:
        if self._curve is ED448:
            return bytes(self._key.sign(octets))
        hashed = Prehashed(self._nist[self._curve][1])
        r, s = decode_dss_signature(self._key.sign(octets, ec.ECDSA(hashed)))
        size = self._curve.scalar_size
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")


def memory_share(label: str, use: Use, algorithm: str) -> DeviceKey:
    return ScalarShare(SecretScalar.random(curve(algorithm)), use, label=label, custody=CUSTODY)


@dataclass(frozen=True)
class Device:
    """A device with its keys, its request and the key that it erases after activation."""

    keys: BaseKeys
    once: OneTimeKey
    request: Signed[ConnectionRequest]

    @classmethod
    def make(cls, agreement: str = "P-384", signature: str = "P-384") -> Device:
        keys = BaseKeys(
            profile=MemorySigner("profile"),
            encryption=memory_share("encrypt", Use.ENCRYPT, agreement),
            signature=MemorySigner("sign", signature),
            authentication=memory_share("authenticate", Use.AUTHENTICATE, agreement),
        )
        once = OneTimeKey.draw()
        return cls(keys, once, create_request(keys, once.public, now=NOW))

    @property
    def udf(self) -> str:
        return self.request.value.device.value.udf

    def activate(self, response: Any, **changes: Any) -> Activated:
        given: dict[str, Any] = {
            "request": self.request.envelope,
            "keys": self.keys,
            "once": self.once,
            "confirm_master_udf": None,
            "pins": None,
            "srk_name": SRK,
            "now": NOW,
        }
        return activate(response, **given | changes)


@dataclass(frozen=True)
class Mesh:
    """A personal Mesh with its master and administrator keys at hand."""

    master: MemorySigner
    administrator: MemorySigner
    escrow: Point
    profile: Signed[ProfileMaster]

    @classmethod
    def make(cls) -> Mesh:
        master, administrator = MemorySigner("master"), MemorySigner("administrator")
        escrow = SecretScalar.random(X448).public()
        profile = create_profile_master(master, [administrator.public], [escrow], now=NOW)
        return cls(master, administrator, escrow, profile)

    @property
    def udf(self) -> str:
        return self.profile.value.udf

    def connect(self, device: Device, **changes: Any) -> Connected:
        given: dict[str, Any] = {
            "confirm_udf": device.udf,
            "master": self.profile,
            "administrator": self.administrator,
            "now": NOW,
        }
        request = changes.pop("request", device.request.envelope)
        return connect(request, **given | changes)

    def next_version(self, **changes: Any) -> Signed[ProfileMaster]:
        """The version after this one, signed by the master key."""
        given: dict[str, Any] = {
            "administrators": [self.administrator.public],
            "escrow": [self.escrow],
            "now": NOW,
            "previous": self.profile,
        }
        return create_profile_master(self.master, **given | changes)

    def forge(self, connected: Connected, seed: bytes, **changes: Any) -> Any:
        """A response by a dishonest administrator: the connection changed and signed again.

        The activation and the outer envelope are made to fit.
        """
        return self.respond(connected, replace(connected.connection.value, **changes), seed=seed)

    def respond(
        self, connected: Connected, connection: ConnectionDevice, *, seed: bytes, **changes: Any
    ) -> Any:
        """A response around any connection, activation members changed at will."""
        request = connected.request.value
        envelope = seal_object(connection, self.administrator, NOW)
        signed = open_connection(envelope, self.profile.value)
        given: dict[str, Any] = {
            "seed": seed,
            "authority_udf": connection.authority_udf,
            "subject_udf": connection.subject_udf,
            "request_digest": connected.request.digest,
            "connection_digest": signed.digest,
        }
        activation = ActivationDevice(**given | changes)
        both = DoubleRecipient(request.device.value.encryption, request.one_time)
        sealed = seal_object(activation, self.administrator, NOW, recipients=[both])
        response = ConnectionResponse(self.profile, signed, sealed)
        return seal_object(response, self.administrator, NOW)


@pytest.fixture(scope="session")
def mesh() -> Mesh:
    return Mesh.make()


@pytest.fixture(scope="session")
def stranger() -> Mesh:
    return Mesh.make()


@pytest.fixture(scope="session")
def device() -> Device:
    return Device.make()


@pytest.fixture(scope="session")
def other_device() -> Device:
    return Device.make()


@pytest.fixture(scope="session")
def seed() -> bytes:
    """The activation seed of ``connected``, which a dishonest administrator knows."""
    return draw_seed()


@pytest.fixture(scope="session")
def connected(mesh: Mesh, device: Device, seed: bytes) -> Connected:
    return mesh.connect(device, seed=seed)


@pytest.fixture(scope="session")
def activated(mesh: Mesh, device: Device, connected: Connected) -> Activated:
    return device.activate(connected.response.envelope, confirm_master_udf=mesh.udf)


@pytest.fixture(scope="session")
def key_set_object(mesh: Mesh) -> Signed[AdministratorKeySet]:
    """A 2-of-3 key whose parts are in memory."""
    dealt = deal(P384)
    custody = replace(CUSTODY, custody=CustodyClass.IMPORTED, known_by=(dealer_text("dora"),))
    return create_key_set(
        dealt,
        {
            place: ScalarShare(part, Use.ENCRYPT, label=f"board-{place}", custody=custody)
            for place, part in dealt.parts.items()
        },
        name="board",
        names=("anna", "ben", "carla"),
        dealer="dora",
        master=mesh.profile,
        administrator=mesh.administrator,
        now=NOW,
    )


@pytest.fixture(scope="session")
def make_device() -> type[Device]:
    return Device


@pytest.fixture(scope="session")
def make_signer() -> type[MemorySigner]:
    return MemorySigner
