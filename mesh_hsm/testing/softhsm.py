"""Throw-away PKCS #11 tokens for tests: SoftHSM in a folder of its own, with PINs of its own.

Open this file to write a test or a benchmark that needs an HSM. Needs the library of SoftHSM 2
(Debian: softhsm2). Nothing here sees the tokens that the user may have in a SoftHSM of theirs.
"""

from __future__ import annotations

import ctypes
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mesh_hsm.errors import DeviceError, FormatError, ProviderUnavailableError
from mesh_hsm.testing import softhsm_maker
from mesh_hsm.testing.softhsm_maker import InitializeArguments, Module, RefusedError
from mesh_hsm.uri import Uri

MODULE_VARIABLE = "MESH_HSM_SOFTHSM"
_USUAL_PLACES = (
    "/usr/lib/softhsm",
    "/usr/lib64/softhsm",
    "/usr/lib64/pkcs11",
    "/usr/lib/pkcs11",
    "/usr/local/lib/softhsm",
)
_PROVIDER = "mesh_hsm_pkcs11.module"
_LABEL_OCTETS = 32
_NOT_INITIALIZED = 0x190
_OS_LOCKING_OK = 2


@dataclass(frozen=True, slots=True)
class HsmToken:
    """One initialised token: its ``pkcs11:`` URI, and what opens it."""

    label: str
    serial: str
    uri: str
    pin: str = field(repr=False)
    so_pin: str = field(repr=False)


class Softhsm:
    """A SoftHSM with one token, in a folder that only its owner can enter. A context manager.

    ``environment`` is what a process needs to see it and no other module. ``removable`` tokens
    say that they can be taken out. ``mechanisms`` names the only ones on offer ("CKM_ECDSA"); the
    default is all that SoftHSM has.
    """

    def __init__(
        self, label: str = "test", *, removable: bool = False, mechanisms: Sequence[str] = ("ALL",)
    ) -> None:
        self.module = find_module()
        # Not in pytest's folder, where the last three runs stay: nothing of a token is left behind.
        self.folder = Path(tempfile.mkdtemp(prefix="mesh-hsm-softhsm-"))
        self.conf = self.folder / "softhsm2.conf"
        try:
            self._tokens.mkdir(0o700)
            self.conf.write_text(
                f"directories.tokendir = {self._tokens}\n"
                "objectstore.backend = file\n"
                "log.level = ERROR\n"
                f"slots.removable = {str(removable).lower()}\n"
                f"slots.mechanisms = {','.join(mechanisms)}\n"
            )
            self.token = self.add_token(label)
        except BaseException:
            self.remove()
            raise

    # -- what is in it ---------------------------------------------------------------------------

    @property
    def label(self) -> str:
        """The first token's label."""
        return self.token.label

    @property
    def serial(self) -> str:
        """The first token's serial number, 16 hexadecimal digits."""
        return self.token.serial

    @property
    def uri(self) -> str:
        """The first token's URI (RFC 7512): token, manufacturer, model, serial."""
        return self.token.uri

    @property
    def pin(self) -> str:
        """The first token's user PIN: random, and no secret worth keeping."""
        return self.token.pin

    @property
    def so_pin(self) -> str:
        """The first token's PIN of the security officer."""
        return self.token.so_pin

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which SoftHSM and mesh-hsm find this one, and mesh-hsm no other."""
        return {"SOFTHSM2_CONF": str(self.conf), "MESH_HSM_PKCS11_MODULE": str(self.module)}

    def __repr__(self) -> str:
        return f"Softhsm({str(self.folder)!r})"

    # -- what a test does to it ------------------------------------------------------------------

    def add_token(self, label: str) -> HsmToken:
        """Initialise one more token. A process that uses this SoftHSM already must look again.

        Raises ``FormatError`` for a label beyond 32 octets, ``DeviceError`` where SoftHSM refuses.
        """
        if not 0 < len(label.encode()) <= _LABEL_OCTETS:
            raise FormatError(f"a token's label has 1 to {_LABEL_OCTETS} octets")
        pins = _Pins()
        made = self._make(label, pins)
        names = ("label", "manufacturer", "model", "serial")
        uri = Uri("pkcs11", tuple(("token" if n == "label" else n, made[n]) for n in names))
        return HsmToken(label, made["serial"], str(uri), pins.user, pins.so)

    def clear(self) -> None:
        """Delete every token; what is left is a SoftHSM without any."""
        for token in self._tokens.iterdir():
            shutil.rmtree(token)

    def remove(self) -> None:
        """Delete the tokens and all that is in them."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.remove()

    # -- inside ----------------------------------------------------------------------------------

    @property
    def _tokens(self) -> Path:
        return self.folder / "tokens"

    def _make(self, label: str, pins: _Pins) -> dict[str, str]:
        done = subprocess.run(  # noqa: S603  a program of our own, no shell
            [sys.executable, "-I", softhsm_maker.__file__],
            input=pins.request(str(self.module), label),
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if not done.stdout:
            raise DeviceError(f"{self.module} cannot be used: {done.stderr.strip()[-300:]!r}")
        answer: dict[str, Any] = json.loads(done.stdout)
        if done.returncode:
            raise DeviceError(f"SoftHSM refused {answer['call']} ({answer['code']:#x})")
        return answer


class _Pins:
    """Two new PINs, in an object that shows neither."""

    def __init__(self) -> None:
        self.user, self.so = (f"{secrets.randbelow(10**12):012}" for _ in range(2))

    def request(self, module: str, label: str) -> str:
        """What ``softhsm_maker`` reads."""
        return json.dumps({"module": module, "label": label, "pin": self.user, "so_pin": self.so})


def find_module() -> Path:
    """SoftHSM's library: the one that ``MESH_HSM_SOFTHSM`` names, else from the usual places.

    Raises ``ProviderUnavailableError``.
    """
    named = os.environ.get(MODULE_VARIABLE)
    if named is not None:
        places = [Path(named)]
    else:
        found = sorted(Path("/usr/lib").glob("*/softhsm"))
        folders = [*map(Path, _USUAL_PLACES), *found]
        places = [folder / "libsofthsm2.so" for folder in folders]
    for place in places:
        if place.is_absolute() and place.is_file():
            return place
    where = "" if named is None else f" where {MODULE_VARIABLE} says"
    raise ProviderUnavailableError(f"SoftHSM is not installed{where}", hint="apt install softhsm2")


def look_again(module: Path) -> None:
    """Make this process, if it uses SoftHSM already, read SOFTHSM2_CONF and the tokens anew.

    SoftHSM reads them at C_Initialize and never again. All sessions of the process end, as at any
    C_Finalize. Where mesh-hsm's own provider had initialised it, the next to need it does so;
    where somebody else had (python-pkcs11, say), that is done here, and they need not know. No
    other thread may use it meanwhile.
    """
    provider = sys.modules.get(_PROVIDER)  # never imported from here
    if provider is not None:
        provider.forget_modules()
    try:
        loaded = Module(str(module), os.RTLD_NOLOAD | os.RTLD_NOW)
    except OSError:
        return  # nobody in this process has loaded it
    try:
        loaded("C_Finalize", None)
        loaded("C_Initialize", ctypes.byref(InitializeArguments(flags=_OS_LOCKING_OK)))
    except RefusedError as error:
        if (error.call, error.code) == ("C_Finalize", _NOT_INITIALIZED):
            return  # whoever initialises it next reads everything anew
        raise DeviceError(f"SoftHSM refused {error.call} ({error.code:#x})") from error
