"""A YubiKey whose slots a test looks into: what lies there, whose it is, and what accounts for it.

Open this file to see what "consistent" means for a card that was pulled out in the middle of
something. What is looked at is the device itself, not what the provider says of it.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, x25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from yubikit.piv import SLOT, PivSession

from mesh_hsm.curves import CURVES, Point
from mesh_hsm.custody import PinPolicy
from mesh_hsm.provider import DeviceKey, KeySpec, Use
from mesh_hsm.secret_source import FixedSecrets, SecretKind
from mesh_hsm.testing.virtual_yubikey import VirtualYubiKey, attestation_root
from mesh_hsm.testing.virtual_yubikey.pcsc_process import in_process
from mesh_hsm.testing.virtual_yubikey.piv.names import Ins
from mesh_hsm.testing.virtual_yubikey.piv.state import PivState
from mesh_hsm.uri import Uri
from mesh_hsm_yubikey import directory
from mesh_hsm_yubikey.card import card_of
from mesh_hsm_yubikey.directory import Directory
from mesh_hsm_yubikey.provider import YubiKeyProvider
from mesh_hsm_yubikey.slots import OURS
from mesh_hsm_yubikey.token import YubiKeyToken

PIN, PUK = b"246813", b"97531864"
FIRMWARES = ((5, 7, 1), (5, 4, 3), (4, 3, 5))
SERIALS = count(30_050_000)
SECRETS = FixedSecrets(
    {
        SecretKind.PIN: PIN,
        SecretKind.NEW_PIN: PIN,
        SecretKind.PUK: PUK,
        SecretKind.NEW_PUK: PUK,
    }
)
R = TypeVar("R")


def named(firmware: tuple[int, int, int]) -> str:
    return ".".join(map(str, firmware))


def spec(
    label: str = "key",
    algorithm: str = "P-256",
    use: Use = Use.SIGN,
    pin: PinPolicy = PinPolicy.NONE,
    slot: str | None = None,
    **more,
) -> KeySpec:
    return KeySpec(algorithm, use, label, pin=pin, slot=slot, **more)


class SlotsBench:
    """One virtual YubiKey, set up, plugged in, and nothing in its slots."""

    def __init__(self, folder: Path, firmware=FIRMWARES[0], *, reader: str | None = None) -> None:
        self.device = VirtualYubiKey(next(SERIALS), firmware)
        if reader is not None:
            self.device.reader_name = reader
        self.firmware = firmware
        self.uri = Uri("yubikey", (("serial", str(self.device.serial)),))
        self.card = card_of(self.device.serial)
        self.provider = YubiKeyProvider(folder)
        self.service = in_process()
        self.reader = self.service.add(self.device)
        self.opened: list[YubiKeyToken] = []
        self.provider.initialise(self.uri, "bench", SECRETS, erase=True)

    def open(self, secrets=SECRETS) -> YubiKeyToken:
        token = self.provider.open(self.uri, secrets)
        self.opened.append(token)
        return token

    def pull_out(self) -> None:
        """For good: the end of a test."""
        for token in self.opened:
            token.close()
        self.card.release()
        self.service.remove(self.device)

    def replug(self) -> None:
        self.device.stop_failing()
        self.device.remove()
        self.device.insert()

    def load(self, saved: bytes) -> None:
        """Back to what ``device.save`` gave."""
        self.card.release()
        self.device.stop_failing()
        self.device.insert()
        self.device.load(saved)
        self.device.trace.clear()

    # -- what lies in it -------------------------------------------------------------------------

    @property
    def state(self) -> PivState:
        return self.device._piv.context.state

    @property
    def privates(self) -> dict[SLOT, bytes]:
        """Every private key, by slot: to see whether it is another one now."""
        return {
            SLOT(slot): key.private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
            for slot, key in self.state.keys.items()
            if slot in OURS
        }

    @property
    def directory(self) -> Directory:
        return directory.decode(self.state.objects[directory.OBJECT_ID])

    @property
    def accounted(self) -> set[SLOT]:
        """Slots of which the directory says anything."""
        found = self.directory
        return {one.slot for one in found.entries} | {slot for slot, _ in found.spent}

    def instructions(self) -> list[Ins | int]:
        """What has come since ``trace`` was cleared."""
        return [Ins(one.ins) if one.ins in list(Ins) else one.ins or 0 for one in self.device.trace]

    # -- the other program -----------------------------------------------------------------------

    def foreign(self, work: Callable[[PivSession], R]) -> R:
        """Bare yubikit with the management key, no note of it anywhere."""

        def doing(hold) -> R:
            hold.piv.authenticate(self.state.management.value)
            return work(hold.piv)

        try:
            return self.card.run("serve another program", doing)
        finally:
            self.card.release()


def public_of(private) -> Point:
    """A library's private key's public one, as a point (of X25519 the even one)."""
    public = private.public_key()
    match public:
        case ec.EllipticCurvePublicKey():
            numbers = public.public_numbers()
            name = {"secp256r1": "P-256", "secp384r1": "P-384"}[public.curve.name]
            return CURVES[name].point(numbers.x, numbers.y)
        case ed25519.Ed25519PublicKey():
            return CURVES["Ed25519"].decode(public.public_bytes_raw())
        case x25519.X25519PublicKey():
            return CURVES["X25519"].decode_x(public.public_bytes_raw())
    raise AssertionError(public)


def works(key: DeviceKey) -> None:
    """One use, its answer compared with a library's: raises where the key is not what it says."""
    if key.use is Use.SIGN:
        key.sign(bytes({"P-384": 48}.get(key.public.curve.name, 32)))  # verified by the contract
        return
    answer = key.agree(key.public.curve.base)
    assert answer.octets() == key.public.agreement_octets()


def some_certificate() -> x509.Certificate:
    return attestation_root()
