"""Which YubiKey this is. Open this file for what is read of a card first, without a PIN."""

from __future__ import annotations

from dataclasses import dataclass

from yubikit.core.smartcard import SmartCardConnection
from yubikit.management import CAPABILITY, FORM_FACTOR, ManagementSession

from mesh_hsm_yubikey.firmware import Version, is_fips, text


@dataclass(frozen=True, slots=True)
class Device:
    """What the management application says. ``serial`` is None where the YubiKey hides it.

    ``fips``: a key of the FIPS series, whose PIV application refuses some algorithms and policies.
    """

    serial: int | None
    firmware: Version
    form_factor: int
    fips: bool

    @property
    def firmware_text(self) -> str:
        """As people write it: ``5.7.1``."""
        return text(self.firmware)

    @property
    def model(self) -> str:
        """Without the name of the maker: ``YubiKey 5 (USB-C keychain)``, say."""
        series = "FIPS" if self.fips else ""
        shape = FORM_FACTOR.from_code(self.form_factor)
        return " ".join(filter(None, ("YubiKey", str(self.firmware[0]), series, str(shape))))


def read(connection: SmartCardConnection) -> Device:
    """Two commands: SELECT of the management application, READ CONFIG. yubikit's errors pass."""
    info = ManagementSession(connection).read_device_info()
    version = info.version.major, info.version.minor, info.version.patch
    told = info.is_fips or bool(info.fips_capable & CAPABILITY.PIV)
    return Device(info.serial, version, int(info.form_factor), told or is_fips(version))
