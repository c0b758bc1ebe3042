"""What the PIV application knows: what survives power loss, and what does not.

Handlers of commands take a ``Context``. Open this to see what a command can read and change.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from typing import Final

from mesh_hsm.testing.virtual_yubikey.choices import Choices
from mesh_hsm.testing.virtual_yubikey.hardware import Hardware, Version
from mesh_hsm.testing.virtual_yubikey.piv.attestation_identity import AttestationFault, Identity
from mesh_hsm.testing.virtual_yubikey.piv.keys import Key
from mesh_hsm.testing.virtual_yubikey.piv.management_key import ManagementKey
from mesh_hsm.testing.virtual_yubikey.piv.names import SLOTS, ObjectId, Slot
from mesh_hsm.testing.virtual_yubikey.status import Refused, Status, tries_left

FACTORY_PIN: Final = b"123456\xff\xff"
FACTORY_PUK: Final = b"12345678"
FACTORY_TRIES: Final = 3


@dataclass
class Secret:
    """The PIN or the PUK: 8 octets, FF-padded, and its tries."""

    factory: bytes = field(repr=False)
    value: bytes = field(repr=False)
    total: int = FACTORY_TRIES
    left: int = FACTORY_TRIES

    @classmethod
    def new(cls, factory: bytes, tries: int = FACTORY_TRIES) -> Secret:
        """As it leaves the factory."""
        return cls(factory, factory, tries, tries)

    @property
    def is_factory(self) -> bool:
        """Whether nobody has changed it."""
        return self.value == self.factory

    def check(self, value: bytes, last_try: int) -> None:
        """Take one try. Refused: 63Cx, ``last_try`` if that used up the tries, 6983 ever after."""
        if not self.left:
            raise Refused(Status.BLOCKED)
        if not hmac.compare_digest(value, self.value):
            self.left -= 1
            raise Refused(tries_left(self.left) if self.left else last_try)
        self.left = self.total

    def set(self, value: bytes) -> None:
        """A new value, and all tries again."""
        self.value, self.left = value, self.total


@dataclass
class PivState:
    """What survives power loss."""

    pin: Secret
    puk: Secret
    management: ManagementKey
    keys: dict[int, Key] = field(default_factory=dict)
    objects: dict[int, bytes] = field(default_factory=dict)

    @classmethod
    def new(cls, firmware: Version, identity: Identity) -> PivState:
        """As it leaves the factory, with its attestation key and certificate."""
        state = cls(
            Secret.new(FACTORY_PIN), Secret.new(FACTORY_PUK), ManagementKey.factory(firmware)
        )
        state.set_identity(identity)
        return state

    def set_identity(self, identity: Identity) -> None:
        """Put an attestation key and its certificate in their places."""
        self.keys[Slot.ATTESTATION] = identity.key
        self.objects[ObjectId.ATTESTATION] = identity.certificate_object

    def reset(self, firmware: Version) -> None:
        """RESET: all but the attestation key and its certificate."""
        self.pin, self.puk = Secret.new(FACTORY_PIN), Secret.new(FACTORY_PUK)
        self.management = ManagementKey.factory(firmware)
        for kept, place in ((Slot.ATTESTATION, self.keys), (ObjectId.ATTESTATION, self.objects)):
            for name in set(place) - {kept}:
                del place[name]


@dataclass(frozen=True)
class Leftover:
    """What one command leaves for the very next one, and for no other."""

    pin_fresh: bool = False
    witness: bytes | None = field(default=None, repr=False)
    nonce: bytes | None = field(default=None, repr=False)


@dataclass
class Session:
    """What a reset, or another application, clears."""

    pin_verified: bool = False
    management_authenticated: bool = False
    before: Leftover = Leftover()
    """What the command before this one left."""
    after: Leftover = Leftover()
    """What this command leaves."""

    def next_command(self) -> None:
        """Another command begins."""
        self.before, self.after = self.after, Leftover()


@dataclass
class Context:
    """All that a command may look at."""

    hardware: Hardware
    state: PivState
    session: Session = field(default_factory=Session)
    attestation_fault: AttestationFault | None = None

    @property
    def choices(self) -> Choices:
        """What this device answers where nobody says what to answer."""
        return self.hardware.choices

    def known(self, slot: int) -> int:
        """The slot itself. Refused (6B00, by choice) where there is none."""
        if slot not in SLOTS:
            raise Refused(self.choices.unknown_slot)
        return slot

    def require_management(self) -> None:
        """Refused (6982) unless the management key was authenticated in this session."""
        if not self.session.management_authenticated:
            raise Refused(Status.SECURITY_NOT_SATISFIED)

    def require_pin(self) -> None:
        """Refused (6982) unless the PIN was verified in this session."""
        if not self.session.pin_verified:
            raise Refused(Status.SECURITY_NOT_SATISFIED)

    def require_touch(self, *, cached: bool = False) -> None:
        """Wait for a touch. Refused (6982) if none comes."""
        if not self.hardware.sensor.touched(cached=cached):
            raise Refused(Status.SECURITY_NOT_SATISFIED)

    def forget(self) -> None:
        """Lose the security state: reset, or another application."""
        self.session = Session()

    def count(self, slot: int, operation: str) -> None:
        """Note what a key was used for."""
        self.hardware.operations[slot, operation] += 1
