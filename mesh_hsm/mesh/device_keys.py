"""A device's keys: base keys as the token holds them, and combined with the contribution."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from mesh_hsm.curves import Point
from mesh_hsm.mesh.connection import ConnectionDevice
from mesh_hsm.provider import DeviceKey
from mesh_hsm.threshold.composite import CompositeKey, DerivedKey


@dataclass(frozen=True, slots=True)
class BaseKeys:
    """The four keys on the token. ``profile`` is never combined. Each has one use."""

    profile: DeviceKey
    encryption: DeviceKey
    signature: DeviceKey
    authentication: DeviceKey


@dataclass(frozen=True, slots=True)
class CompositeKeys:
    """What a connected device works with. The first two are Decryptors, the last a Signer."""

    encryption: CompositeKey
    authentication: CompositeKey
    signature: DerivedKey


@dataclass(frozen=True, slots=True)
class OneTimeKey:
    """The software key (X448) that a request offers; a ``Decryptor``.

    ``secret`` (56 octets) is sealed by the device until activation and erased after it.
    """

    secret: bytes = field(repr=False)

    @classmethod
    def draw(cls) -> OneTimeKey:
        """A fresh one."""
        raise NotImplementedError

    @property
    def public(self) -> Point:
        """For the request."""
        raise NotImplementedError

    def agreements(self, point: Point) -> Iterable[bytes]:
        """The agreement octets with a foreign point."""
        raise NotImplementedError


def open_device(connection: ConnectionDevice, seed: bytes, keys: BaseKeys) -> CompositeKeys:
    """Combine base keys and contributions, and compare all three sums with the connection.

    ``seed``: ``Activated.seed``. Raises ``VerificationError`` if any of the three differs.
    """
    raise NotImplementedError
