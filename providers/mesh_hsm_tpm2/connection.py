"""The way to a TPM: one TCTI string, whichever it is. Open this file when a TPM does not answer.

``device:/dev/tpmrm0`` (the kernel's resource manager), ``tabrmd:…`` (tpm2-abrmd), ``swtpm:path=…``,
``mssim:…`` or ``device:/dev/tpm0``: the last three come without a resource manager, so that slots,
start-up and shut-down are ours to mind.
"""

from __future__ import annotations

import errno
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tpm2_pytss import ESAPI, TPM2_SU, TSS2_Exception

from mesh_hsm.errors import DeviceError, ProviderUnavailableError

TCTI_VARIABLE = "MESH_HSM_TPM2_TCTI"
DEFAULT_TCTI = "device:/dev/tpmrm0"
_RAW = re.compile(r"(swtpm|mssim)(:|\Z)|device:/dev/tpm\d+\Z")


def default_tcti() -> str:
    """The TCTI string for a URI that names none."""
    return os.environ.get(TCTI_VARIABLE) or DEFAULT_TCTI


class Connection:
    """One ESAPI context: locked, since two threads in it corrupt each other, and of one process."""

    def __init__(self, tcti: str) -> None:
        self.tcti = tcti
        self._lock = threading.RLock()
        self._process = os.getpid()
        self._closed = False
        self._esapi: ESAPI | None = _connect(tcti)

    @property
    def is_raw(self) -> bool:
        """Whether there is no resource manager between us and the TPM."""
        return bool(_RAW.match(self.tcti))

    @contextmanager
    def held(self) -> Iterator[ESAPI]:
        """The context, for one thread at a time.

        Raises ``DeviceError`` when closed, or in a child process: its copy of the sessions would
        answer for the parent's.
        """
        if os.getpid() != self._process:
            raise DeviceError("the TPM was opened in another process; open it again here")
        with self._lock:
            if self._closed:
                raise DeviceError("the token is closed")
            if self._esapi is None:  # the way broke, and could not be opened again at once
                self._esapi = _connect(self.tcti)
            yield self._esapi

    def reconnect(self) -> None:
        """Open the way again; everything loaded through the old one is forgotten."""
        with self._lock:
            if self._esapi is not None:
                self._esapi.close()
                self._esapi = None
            self._esapi = _connect(self.tcti)

    def start_up(self) -> None:
        """TPM2_Startup, where it falls to us."""
        with self.held() as esapi:
            esapi.startup(TPM2_SU.CLEAR)

    def close(self) -> None:
        """End the context. Without a resource manager, Shutdown(CLEAR) comes first.

        Otherwise a power loss after a right PIN would count as a wrong one (hsm-1 §10).
        """
        if os.getpid() != self._process:
            return  # the parent's connection: a word from here would disturb it
        with self._lock:
            self._closed = True
            if self._esapi is None:
                return
            if self.is_raw:
                with suppress(TSS2_Exception):
                    self._esapi.shutdown(TPM2_SU.CLEAR)
            self._esapi.close()
            self._esapi = None


def _connect(tcti: str) -> ESAPI:
    if tcti.startswith("device:"):
        _check_device(tcti.removeprefix("device:"))
    try:
        esapi = ESAPI(tcti)
    except (TSS2_Exception, RuntimeError) as error:
        raise ProviderUnavailableError(f"no TPM answers at {tcti}", hint=_hint(tcti)) from error
    return esapi


def _check_device(path: str) -> None:
    """Say what is wrong with a device file; the TSS says only that something is."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        problem, hint = _DEVICE_PROBLEMS.get(
            error.errno or 0, (f"cannot be opened ({os.strerror(error.errno or 0)})", None)
        )
        raise ProviderUnavailableError(f"{path} {problem}", hint=hint) from error


_DEVICE_PROBLEMS = {
    errno.ENOENT: (
        "is not there: this machine shows no TPM 2.0",
        f"switch the TPM on in the firmware settings, or name another one in {TCTI_VARIABLE}",
    ),
    errno.EACCES: (
        "may not be opened by you",
        "sudo usermod -aG tss $USER, then log in again",
    ),
    errno.EBUSY: (
        "is in use by another program",
        "use the kernel's resource manager instead: device:/dev/tpmrm0",
    ),
}


def _hint(tcti: str) -> str:
    name = tcti.partition(":")[0]
    return {
        "swtpm": "start swtpm with that socket; its control socket's name ends in .ctrl",
        "tabrmd": "systemctl start tpm2-abrmd; the library is libtss2-tcti-tabrmd0",
    }.get(name, f"check the TCTI string; the library for {name} is part of libtss2 (tpm2-tss)")
