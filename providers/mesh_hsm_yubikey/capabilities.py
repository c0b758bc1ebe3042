"""What a YubiKey can do: its firmware and its series say so, and nobody's brand knowledge.

Open this file for algorithms × uses, and for why one is missing.
"""

from __future__ import annotations

from typing import Final

from mesh_hsm.custody import CustodyClass, PinPolicy, TouchPolicy
from mesh_hsm.errors import UnsupportedError
from mesh_hsm.provider import Capability, KeySpec, Primitive, Use
from mesh_hsm_yubikey import firmware
from mesh_hsm_yubikey.algorithms import KEY_TYPES
from mesh_hsm_yubikey.device import Device
from mesh_hsm_yubikey.firmware import Feature

_PRIMITIVES: Final = {
    "P-256": (Primitive.SIGN, Primitive.AGREE_X),
    "P-384": (Primitive.SIGN, Primitive.AGREE_X),
    "Ed25519": (Primitive.SIGN,),
    "X25519": (Primitive.AGREE_X,),
}


def of(device: Device) -> frozenset[Capability]:
    """Keys are made inside: from firmware 4.3 on an attestation says so, from 5.3 metadata too."""
    return frozenset(
        Capability(algorithm, primitive, CustodyClass.GENERATED)
        for algorithm in KEY_TYPES
        if _refusal(device, algorithm) is None
        for primitive in _PRIMITIVES[algorithm]
    )


def why_not(device: Device, algorithm: str, use: Use) -> str | None:
    """The reason for what is missing above."""
    if algorithm.startswith("RSA"):
        return "RSA keys cannot be added, and so are no Mesh keys"
    if algorithm not in KEY_TYPES:
        return f"PIV knows no {algorithm}"
    refusal = _refusal(device, algorithm)
    return None if refusal is None else str(refusal)


def check(device: Device, spec: KeySpec) -> None:
    """Raise ``UnsupportedError`` for policies that this YubiKey refuses."""
    firmware.check_key(device.firmware, spec.algorithm, spec.pin, spec.touch, fips=device.fips)


def check_import(device: Device, spec: KeySpec) -> None:
    """Raise ``UnsupportedError`` where the card will say nothing of a key that came from outside.

    PIV gives no private key away; but firmware below 5.3 does not say that there is one.
    """
    if not firmware.has(device.firmware, Feature.METADATA) and not spec.allow_exportable:
        raise UnsupportedError(
            f"firmware {device.firmware_text} says nothing of imported keys",
            hint="--allow-exportable takes it all the same, as a key of unknown custody",
        )


def _refusal(device: Device, algorithm: str) -> UnsupportedError | None:
    try:
        firmware.check_key(
            device.firmware, algorithm, PinPolicy.ALWAYS, TouchPolicy.NONE, fips=device.fips
        )
    except UnsupportedError as error:
        return error
    return None
