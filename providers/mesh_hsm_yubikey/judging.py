"""What the card says of a key against what it proves: one statement, or a refusal.

Open this file to see when a key on a YubiKey is called ``attested``. Metadata (INS F7) is the
card's bare word; an attestation is signed. They must agree in everything that both tell.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mesh_hsm.curves import Point
from mesh_hsm.custody import CustodyClass, CustodyStatement, Hardware, PinPolicy, TouchPolicy
from mesh_hsm.errors import VerificationError
from mesh_hsm.provider import Use
from mesh_hsm_yubikey.attestation import Attestation
from mesh_hsm_yubikey.firmware import Version, concerns, text
from mesh_hsm_yubikey.points import same_key


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a card says of one of its keys and of itself.

    ``generated`` is its word for the key's origin; ``serial`` is None where it hides its number.
    """

    slot: str
    public: Point
    generated: bool
    pin: PinPolicy
    touch: TouchPolicy
    firmware: Version
    serial: int | None

    @property
    def algorithm(self) -> str:
        """The curve's name."""
        return self.public.curve.name


def judged(metadata: Metadata, attestation: Attestation, use: Use, device: str) -> CustodyStatement:
    """The statement of a key whose attestation was verified, or ``VerificationError``.

    The error names the first field in which the two differ. ``device`` is what people call it.
    """
    for field, told, attested in _pairs(metadata, attestation):
        if told != attested:
            raise VerificationError(
                f"the YubiKey and its attestation disagree on the {field}",
                hint="do not use this key; make a new one on a YubiKey that you trust",
            )
    return proved(attestation, use, device)


def proved(attestation: Attestation, use: Use, device: str) -> CustodyStatement:
    """What a verified attestation says by itself: all that a verifier far away has."""
    return CustodyStatement(
        custody=CustodyClass.GENERATED,
        hardware=attestation.hardware,
        device=device,
        firmware=text(attestation.firmware),
        pin=attestation.pin_policy,
        touch=attestation.touch_policy,
        notes=(
            *notes(attestation),
            *concerns(
                attestation.firmware,
                attestation.algorithm,
                use,
                form_factor=attestation.form_factor,
            ),
        ),
    )


def _pairs(metadata: Metadata, attestation: Attestation) -> Iterator[tuple[str, object, object]]:
    yield "slot", metadata.slot, attestation.slot
    yield "algorithm", metadata.algorithm, attestation.algorithm
    yield "public key", same_key(metadata.public, attestation.public), True
    yield "origin", metadata.generated, True
    yield "PIN policy", metadata.pin, attestation.pin_policy
    yield "touch policy", metadata.touch, attestation.touch_policy
    yield "firmware", metadata.firmware, attestation.firmware
    if metadata.serial is not None and attestation.serial is not None:
        yield "serial number", metadata.serial, attestation.serial


def notes(attestation: Attestation) -> Iterator[str]:
    """What to say of a verified attestation: under whose root, and what it leaves out."""
    if attestation.hardware is Hardware.CLAIMED:
        yield f"attested under {attestation.root}, which is not Yubico's"
    elif attestation.hardware is Hardware.SIMULATOR:
        yield f"attested by a simulator, under {attestation.root}: proves nothing about hardware"
    else:
        yield f"attested under {attestation.root}"
    if attestation.serial is None:
        yield "the attestation does not tell the YubiKey's serial number"
