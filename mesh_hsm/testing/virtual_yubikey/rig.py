"""Virtual YubiKeys that are plugged in: what a test, a fixture or a command is given.

Open this file to change what a test finds. ``YubiKeyRig`` holds the devices of one PC/SC service,
with PINs that are not the factory's, and the environment in which programs find them.
"""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import tempfile
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from mesh_hsm.errors import ConflictError, NotFoundError, ProviderUnavailableError
from mesh_hsm.testing.virtual_yubikey import tlv
from mesh_hsm.testing.virtual_yubikey.device import SERIALS, VirtualYubiKey
from mesh_hsm.testing.virtual_yubikey.hardware import Version
from mesh_hsm.testing.virtual_yubikey.pcsc_process import in_process
from mesh_hsm.testing.virtual_yubikey.piv.management_key import KeyType, ManagementKey
from mesh_hsm.testing.virtual_yubikey.piv.names import ObjectId
from mesh_hsm.uri import Uri

SERIAL, FIRMWARE = 30_000_001, (5, 7, 1)
PIN, PUK = "246813", "97531864"
"""Of personalised devices. Neither is the factory's, and neither is a secret."""
FACTORY_PIN, FACTORY_PUK = "123456", "12345678"
_ADMIN_DATA = 0x5FFF00
_KEY_IS_ON_THE_DEVICE = 0x02
_AES_SINCE = (5, 4, 2)
# ykman runs these after a refused connection; they are not to reach the user's own programs.
_PKILL = """#!/bin/sh
case "$*" in "-9 scdaemon" | "-HUP yubikey-agent") exit 1 ;; esac
exec {real} "$@"
"""


class Service(Protocol):
    """Where devices are plugged in: ``PcscService``, ``PcscProcess`` or ``Pcscd``."""

    @property
    def environment(self) -> dict[str, str]:
        """What leads a process to it."""

    def add(self, device: VirtualYubiKey) -> str:
        """Plug in; the reader's name."""

    def remove(self, device: VirtualYubiKey) -> None:
        """Unplug."""


@dataclass(frozen=True, slots=True)
class PluggedIn:
    """One device, its reader, and what opens it."""

    device: VirtualYubiKey
    reader: str
    pin: str = field(repr=False)
    puk: str = field(repr=False)
    management_key: bytes = field(repr=False)

    @property
    def serial(self) -> int:
        """Its serial number."""
        return self.device.serial

    @property
    def uri(self) -> str:
        """``yubikey:serial=…``."""
        return str(Uri("yubikey", (("serial", str(self.serial)),)))


class YubiKeyRig:
    """Virtual YubiKeys in one PC/SC service; the first is there at once. A context manager.

    A personalised device has ``PIN`` and ``PUK`` and a random management key that the device holds
    behind its PIN, as after ``ykman piv access change-management-key --protect --generate``. With
    ``factory`` it is as it leaves the factory. ``folder`` is the rig's own and goes with it.
    """

    def __init__(
        self,
        service: Service,
        *,
        serial: int = SERIAL,
        firmware: Version = FIRMWARE,
        factory: bool = False,
    ) -> None:
        self._service = service
        self._factory = factory
        self.keys: list[PluggedIn] = []
        self.folder = Path(tempfile.mkdtemp(prefix="mesh-hsm-yubikey-"))
        home = self.folder / "home"
        self.environment = service.environment | {
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "XDG_DATA_HOME": str(home / "data"),
            "XDG_CONFIG_HOME": str(home / "config"),
            "XDG_CACHE_HOME": str(home / "cache"),
        }
        """What a process needs to see these devices and no others, and to leave nothing behind."""
        try:
            self._write_pkill()
            self._first = self.add(serial, firmware)
        except BaseException:
            self.close()
            raise

    # -- the first device ------------------------------------------------------------------------

    @property
    def first(self) -> PluggedIn:
        """The one that was there at once, also after it was unplugged."""
        return self._first

    @property
    def device(self) -> VirtualYubiKey:
        """The first device, with the controls of ``VirtualYubiKey``."""
        return self._first.device

    @property
    def uri(self) -> str:
        """The first device's URI."""
        return self._first.uri

    @property
    def pin(self) -> str:
        """The first device's PIN, as the rig has made it."""
        return self._first.pin

    @property
    def puk(self) -> str:
        """The first device's PUK, as the rig has made it."""
        return self._first.puk

    @property
    def management_key(self) -> bytes:
        """The first device's management key, as the rig has made it."""
        return self._first.management_key

    # -- all of them -----------------------------------------------------------------------------

    def add(
        self,
        serial: int | None = None,
        firmware: Version = FIRMWARE,
        *,
        factory: bool | None = None,
    ) -> PluggedIn:
        """Plug in one more. Its serial number is the next one that is free.

        Raises ``ConflictError`` for a serial number that is here, or where no reader is free.
        """
        here = {key.serial for key in self.keys}
        if serial is None:
            serial = next(number for number in SERIALS[1:] if number not in here)
        if serial in here:
            raise ConflictError(f"the YubiKey {serial} is plugged in already")
        device = VirtualYubiKey(serial, firmware)
        new = self._factory if factory is None else factory
        key = device._piv.context.state.management if new else personalise(device)
        pin, puk = (FACTORY_PIN, FACTORY_PUK) if new else (PIN, PUK)
        plugged = PluggedIn(device, self._service.add(device), pin, puk, key.value)
        self.keys.append(plugged)
        return plugged

    def unplug(self, key: PluggedIn) -> None:
        """Pull it out with its reader, also in the middle of a command.

        Raises ``NotFoundError`` for one that is not here.
        """
        if key not in self.keys:
            raise NotFoundError(f"the YubiKey {key.serial} is not plugged in")
        self.keys.remove(key)
        key.device.remove()
        self._service.remove(key.device)

    def close(self) -> None:
        """Pull all of them out."""
        for key in list(self.keys):
            self.unplug(key)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"YubiKeyRig({[key.serial for key in self.keys]!r})"

    def _write_pkill(self) -> None:
        real = shutil.which("pkill")
        program = self.folder / "bin" / "pkill"
        program.parent.mkdir()
        program.write_text(_PKILL.format(real=shlex.quote(real) if real else "false"))
        program.chmod(0o700)


def personalise(device: VirtualYubiKey) -> ManagementKey:
    """Give it ``PIN``, ``PUK`` and a random management key that lies behind the PIN; return that.

    Where ykman keeps such a key: flag 02 in its admin data 5FFF00, the key in object 5FC109.
    Written into the device, not sent to it: no command is counted.
    """
    kind = KeyType.AES192 if device.firmware >= _AES_SINCE else KeyType.TRIPLE_DES
    key = ManagementKey(kind, secrets.token_bytes(24))
    flags = tlv.encode(0x81, bytes([_KEY_IS_ON_THE_DEVICE]))
    state = device._piv.context.state
    state.pin.set(PIN.encode().ljust(8, b"\xff"))
    state.puk.set(PUK.encode())
    state.management = key
    state.objects[_ADMIN_DATA] = tlv.encode(0x80, flags)
    state.objects[ObjectId.PRINTED] = tlv.encode(0x88, tlv.encode(0x89, key.value))
    return key


def rig_in_process(*, factory: bool = False) -> YubiKeyRig:
    """One for this process and those it starts. Raises ``ProviderUnavailableError``."""
    if any(find_spec(name) is None for name in ("ykman", "smartcard")):
        raise ProviderUnavailableError(
            "yubikey-manager is not installed", hint='pip install "mesh-hsm[yubikey]"'
        )
    return YubiKeyRig(in_process(), factory=factory)
