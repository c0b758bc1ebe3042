"""A loaded PKCS #11 module: once per real file and process. Open this file when one will not load.

Also for what happens to threads (a module that cannot lock itself gets one lock of ours) and to
forked children (which must initialise the module anew, PKCS #11 v3.0 §5.4).
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import ClassVar, Final

from pkcs11 import Slot, _pkcs11
from pkcs11.exceptions import PKCS11Error

from mesh_hsm.errors import DeviceError
from mesh_hsm_pkcs11.cryptoki import Cryptoki
from mesh_hsm_pkcs11.errors import explained, name
from mesh_hsm_pkcs11.function_list import functions
from mesh_hsm_pkcs11.loading import refusal
from mesh_hsm_pkcs11.return_values import ALREADY_INITIALIZED, CANT_LOCK

_NO_LOCK: Final = nullcontext()


class Module:
    """One module. ``epoch`` grows whenever it was initialised: older sessions and handles are void.

    Made by ``Module.load`` alone, since two of the same file would undo each other's state.
    """

    _loaded: ClassVar[dict[Path, Module]] = {}
    _loading: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, path: Path, reserved: str | None = None) -> None:
        self.path = path
        self.epoch = 0
        self._reserved = reserved
        self._library = _load(path)
        self.cryptoki = Cryptoki(functions(path, self._library))
        self._lock = threading.RLock()
        self._locks_itself = False
        self._initialised = False
        self._ours = False
        self._forked = False
        self._cut_off = False
        self._initialise()
        with explained("describe its module"):
            info = self.cryptoki.library_info()
        self.manufacturer = _text(bytes(info.manufacturer))
        self.description = _text(bytes(info.description))
        self.version = f"{info.version.major}.{info.version.minor}"

    @classmethod
    def load(cls, path: Path, reserved: str | None = None) -> Module:
        """The module in a file; ``reserved`` is for ``pReserved`` of C_Initialize.

        Raises ``ProviderUnavailableError`` with what is wrong with it.
        """
        with cls._loading:
            real = Path(os.path.realpath(path))  # resolve() raises RuntimeError for a loop of links
            if real not in cls._loaded:
                cls._loaded[real] = cls(path, reserved)
            module = cls._loaded[real]
        with module.turn():
            return module

    def turn(self) -> AbstractContextManager[object]:
        """Around every call into the module, or a run of calls that belong together."""
        if self._cut_off:
            raise DeviceError(
                "this process was forked while another thread was using the module",
                hint="start a new process, or fork before the token is used",
            )
        if not self._initialised:
            with self._lock:
                if not self._initialised:
                    self._initialise()
        return _NO_LOCK if self._locks_itself else self._lock

    def slots(self, *, also_empty: bool = False) -> list[Slot]:
        """Every slot with a token in it, asked now; ``also_empty``: and those without."""
        return list(self._library.get_slots(token_present=not also_empty))

    def lost(self, epoch: int) -> None:
        """A call of this epoch was told that the module is not initialised: somebody ended it."""
        with self._lock:
            if epoch == self.epoch:
                self._initialised = False

    def cut_off(self) -> None:
        """In a forked child: the module's own locks are held by threads that are not here."""
        self._cut_off = True

    def end(self) -> None:
        """C_Finalize, if it was we who initialised it. The next call initialises it again."""
        with self._lock:
            if self._initialised and self._ours:
                self.cryptoki.finalize()
            self._initialised = False

    def _initialise(self) -> None:
        if self._forked:
            # The parent's sessions look alive in this copy of its memory; they are not ours.
            self.cryptoki.finalize()
        value = self.cryptoki.initialize(self._reserved)
        self._locks_itself = value == 0
        if value == CANT_LOCK:
            value = self.cryptoki.initialize(self._reserved, locking=False)
        self._ours = value == 0
        # Initialised by another part of this program: nobody knows with which locks, if any.
        if value not in (0, ALREADY_INITIALIZED):
            raise refusal(self.path, f"CKR {value:#x}")
        self._initialised, self._forked = True, False
        self.epoch += 1

    def __repr__(self) -> str:
        return f"Module({str(self.path)!r})"


def forget_modules() -> None:
    """End every module, so that each starts anew: with a changed configuration, say."""
    for module in list(Module._loaded.values()):
        module.end()


def _load(path: Path) -> _pkcs11.lib:
    # Without its __init__, which would call C_Initialize(NULL).
    make: Callable[..., _pkcs11.lib] = _pkcs11.lib.__new__
    if not os.path.isfile(path):  # the loader would wait at a named pipe
        raise refusal(path, "no file")
    try:
        return make(_pkcs11.lib, str(path))
    except PKCS11Error as error:
        raise refusal(path, name(error)) from error


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "replace").rstrip(" \0")


def _after_fork() -> None:
    # Another thread of the parent may have held these; in the child nobody will ever let go.
    Module._loading = threading.Lock()
    for module in Module._loaded.values():
        module._lock = threading.RLock()
        module._forked = module._forked or module._initialised
        module._initialised = False


os.register_at_fork(after_in_child=_after_fork)
atexit.register(forget_modules)
