"""A device's keys: base keys as the token holds them, and combined with the contribution.

Open this file for what a connected device does before every use: recompute, compare, then work.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from mesh_hsm.curves import X448, Point, SecretScalar
from mesh_hsm.custody import CustodyClass, CustodyStatement, Hardware
from mesh_hsm.dare import Decryptor
from mesh_hsm.errors import FormatError, VerificationError
from mesh_hsm.mesh.connection import ConnectionDevice
from mesh_hsm.mesh.contribution import combine_public, contribution
from mesh_hsm.mesh.profile_device import ProfileDevice
from mesh_hsm.provider import DeviceKey, Use
from mesh_hsm.threshold.composite import CompositeKey
from mesh_hsm.threshold.derived import DerivedKey
from mesh_hsm.threshold.scalar_share import ScalarShare

CONTRIBUTION: Final = CustodyStatement(
    CustodyClass.SEALED,
    Hardware.NONE,
    "the administrator's contribution",
    known_by=("the administrator who connected this device",),
)
"""The seed rests sealed under the device; whoever drew it has known it."""


@dataclass(frozen=True, slots=True)
class BaseKeys:
    """The four keys on the token. ``profile`` is never combined. Each has one use."""

    profile: DeviceKey
    encryption: DeviceKey
    signature: DeviceKey
    authentication: DeviceKey

    def __post_init__(self) -> None:
        if self.profile.use is not Use.SIGN or any(self.base(use).use is not use for use in Use):
            raise FormatError("a base key is made for another use")

    def base(self, use: Use) -> DeviceKey:
        """The base key of a use."""
        return {
            Use.ENCRYPT: self.encryption,
            Use.SIGN: self.signature,
            Use.AUTHENTICATE: self.authentication,
        }[use]

    def publics(self) -> ProfileDevice:
        """The ProfileDevice of these keys."""
        return ProfileDevice(
            self.profile.public,
            self.encryption.public,
            self.signature.public,
            self.authentication.public,
        )


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
        return cls(X448.scalar_octets(SecretScalar.random(X448).value))

    @property
    def public(self) -> Point:
        """For the request."""
        return self._key().public

    def agreements(self, S: Point) -> Iterable[bytes]:
        """The agreement octets with a foreign point."""
        return self._key().agreements(S)

    def _key(self) -> Decryptor:
        y = SecretScalar(X448, X448.scalar(self.secret))
        custody = CustodyStatement(CustodyClass.SEALED, Hardware.NONE, "the one-time key")
        share = ScalarShare(y, Use.ENCRYPT, label="one-time", custody=custody)
        return CompositeKey(share.public, Use.ENCRYPT, [share])


def plain_decryptor(key: DeviceKey) -> Decryptor:
    """A device's encryption key by itself, as activation needs it."""
    return CompositeKey(key.public, Use.ENCRYPT, [key])


def open_device(
    connection: ConnectionDevice,
    seed: bytes,
    keys: BaseKeys,
    *,
    proved: bool = False,
    contribution_custody: CustodyStatement = CONTRIBUTION,
) -> CompositeKeys:
    """Combine base keys and contributions, and compare all three results with the connection.

    ``seed``: ``Activated.seed``. ``proved``: the verdict of ``verify_connection``, for custody
    statements. Raises ``VerificationError`` if any of the three differs.
    """

    def factor(use: Use) -> SecretScalar:
        y = contribution(seed, use, keys.base(use).public.curve)
        if combine_public(keys.base(use).public, y, use) != connection.combined(use).public:
            raise VerificationError(
                f"the {use} key in the connection is not this device's key combined with its seed",
                hint="the connection was made for another device or activation; connect again",
            )
        return y

    def additive(use: Use) -> CompositeKey:
        share = ScalarShare(
            factor(use), use, label=f"contribution-{use}", custody=contribution_custody
        )
        shares = [keys.base(use), share]
        return CompositeKey(connection.combined(use).public, use, shares, proved=proved)

    return CompositeKeys(
        encryption=additive(Use.ENCRYPT),
        authentication=additive(Use.AUTHENTICATE),
        signature=DerivedKey(
            keys.signature,
            factor(Use.SIGN),
            factor_custody=contribution_custody,
            proved=proved,
        ),
    )
