"""Which TPM is it? Open this file for manufacturer, model, firmware, and what is known of them.

Everything here is the TPM's own word (TPM 2.0 Part 2 §6.13); only an endorsement certificate that
leads to the owner's roots makes hardware more than a claim.
"""

from __future__ import annotations

from dataclasses import dataclass

from tpm2_pytss import ESAPI, TPM2_CAP

from mesh_hsm.custody import Hardware
from mesh_hsm_tpm2 import endorsement
from mesh_hsm_tpm2.firmware import Version, warnings
from mesh_hsm_tpm2.storage_root import Pin

_FIXED, _MANUFACTURER, _VENDOR, _FIRMWARE = 0x100, 0x105, range(0x106, 0x10A), (0x10B, 0x10C)

_SIMULATORS = (("IBM", "SW   TPM"), ("MSFT", "xCG fTPM"), ("XYZ", "xCG fTPM"))
"""Manufacturer and vendor string of swtpm (libtpms) and of the TCG's reference simulator."""

_SIMULATOR_ISSUERS = ("swtpm-localca",)


@dataclass(frozen=True, slots=True)
class Identity:
    """What a TPM says of itself. ``version`` is its firmware's, four numbers."""

    manufacturer: str
    model: str
    firmware: str
    version: Version

    def hardware(self, pin: Pin | None) -> Hardware:
        """How far that is to be believed, given how its EK was recognised."""
        if (self.manufacturer, self.model) in _SIMULATORS:
            return Hardware.SIMULATOR
        if pin is None or pin.proof != endorsement.BY_CERTIFICATE:
            return Hardware.CLAIMED
        if any(name in (pin.issuer or "") for name in _SIMULATOR_ISSUERS):
            return Hardware.SIMULATOR
        return Hardware.ATTESTED

    @property
    def warnings(self) -> tuple[str, ...]:
        """Known weaknesses of this firmware, one sentence each."""
        return warnings(self.manufacturer, self.version)


def read(esapi: ESAPI) -> Identity:
    """Ask the TPM: one command, without a session."""
    _, answer = esapi.get_capability(TPM2_CAP.TPM_PROPERTIES, _FIXED, 32)
    listed = answer.data.tpmProperties
    values = {int(item.property): int(item.value) for item in listed}
    words = [values.get(number, 0) for number in _FIRMWARE]
    version = tuple(half for word in words for half in divmod(word, 1 << 16))
    return Identity(
        manufacturer=_text(values.get(_MANUFACTURER, 0)).strip(),
        model="".join(_text(values.get(number, 0)) for number in _VENDOR).strip(),
        firmware=".".join(map(str, version)),
        version=version,
    )


def _text(value: int) -> str:
    octets = value.to_bytes(4, "big").rstrip(b"\0")
    return octets.decode("ascii", "replace")
