"""A PKCS#11 module before a real one: it counts calls, fails them, and speaks other dialects.

Open this file to write a test of what a provider asks of a module, of a module that fails, or of
a token that SoftHSM is not. The features are listed at the top of ``interposer/interposer.c``.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

SOURCES = Path(__file__).with_name("interposer")

ANY = "*"
"""Every function, and every ``step`` that the test takes itself."""

HARMLESS = (
    "C_CloseSession",
    "C_CloseAllSessions",
    "C_FindObjectsFinal",
    "C_Logout",
    "C_Finalize",
)
"""Functions that may fail without harm: not counted by ``failing``."""

STRICT_TEMPLATES = (
    "no_modifiable",
    "no_copyable",
    "no_destroyable",
    "no_allowed_mechanisms",
    "no_value_len",
)
"""The features of a token that knows none of the attributes that others may lack."""

NSS = ("ec_type_x25519", "oids", "no_edwards")
OPENCRYPTOKI = ("montgomery", "oids", "raw_points", "other_codes")
"""Features that go together in modules that exist."""


class Rv(IntEnum):
    """CK_RV, as far as tests name them (PKCS #11 v3.0 §5.1)."""

    GENERAL_ERROR = 0x5
    FUNCTION_FAILED = 0x6
    ARGUMENTS_BAD = 0x7
    CANT_LOCK = 0xA
    DEVICE_ERROR = 0x30
    DEVICE_MEMORY = 0x31
    DEVICE_REMOVED = 0x32
    FUNCTION_NOT_SUPPORTED = 0x54
    PIN_LOCKED = 0xA4
    SESSION_CLOSED = 0xB0
    SESSION_COUNT = 0xB1
    SESSION_HANDLE_INVALID = 0xB3
    TOKEN_NOT_PRESENT = 0xE0
    USER_NOT_LOGGED_IN = 0x101
    CRYPTOKI_NOT_INITIALIZED = 0x190


class Action(StrEnum):
    """What a rule does to a call."""

    FAIL = "fail"
    """The real module is not asked."""
    FAIL_AFTER = "fail_after"
    """The real module has done it; its answer is lost."""
    KILL = "kill"
    """SIGKILL before the real module is asked."""
    KILL_AFTER = "kill_after"
    """SIGKILL once the real module has done it."""


@dataclass(frozen=True)
class Rule:
    """The ``nth`` call from now (1: the next; 0: each) of ``functions`` meets with ``action``.

    ``functions`` are names with commas between; ``*`` stands for all, ``-NAME`` takes one out.
    """

    functions: str
    nth: int = 1
    action: Action = Action.FAIL
    rv: int = Rv.DEVICE_ERROR

    def __str__(self) -> str:
        return f"{self.functions}|{self.nth}|{self.action}|{int(self.rv)}"


@functools.cache
def _compiled() -> tuple[Path, tempfile.TemporaryDirectory[str]]:
    """The library, and the folder that lives as long as the process. Skips without a compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("a C compiler is not installed (apt install gcc)")
    folder = tempfile.TemporaryDirectory(prefix="mesh-hsm-interposer-")
    library = Path(folder.name) / "interposer.so"
    subprocess.run(
        [
            *(compiler, "-shared", "-fPIC", "-O1", "-fvisibility=hidden"),
            *("-Wall", "-Wextra", "-Werror", *map(str, sorted(SOURCES.glob("*.c")))),
            *("-o", str(library), "-ldl", "-lpthread"),
        ],
        check=True,
    )
    return library, folder


class Interposer:
    """One copy of the library in ``folder``, with state of its own, before ``module``.

    ``path`` is the module to name to whatever is tested. The copy stays loaded, and what is set
    here acts on it at once in this process, and in processes forked from it as it stood then; for
    processes that are started, see ``environment``. As a context manager it ends by putting back
    everything and finalising the module, so that another test finds the real one as new.

    Of the copies before one ``module`` a process can use one at a time: C_Initialize of another
    begins anew and ends the sessions of the first. One made with ``beside`` has a module of its
    own and can be used beside the others.
    """

    def __init__(self, module: Path, folder: Path, *, beside: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "interposer.so"
        shutil.copy(_compiled()[0], self.path)
        real = folder / "real.so"
        if beside:
            shutil.copy(module, real)
        else:
            real.symlink_to(module)
        self._library = ctypes.CDLL(str(self.path))
        self._library.interposer_count.restype = ctypes.c_size_t
        self._library.interposer_call.restype = ctypes.c_char_p
        self._library.interposer_call.argtypes = [ctypes.c_size_t]
        self._library.interposer_fired.restype = ctypes.c_long
        self._library.interposer_step.restype = ctypes.c_ulong
        self._library.interposer_set.argtypes = [ctypes.c_char_p, ctypes.c_long]
        self._library.interposer_rule.argtypes = [
            *(ctypes.c_char_p, ctypes.c_long, ctypes.c_char_p, ctypes.c_ulong)
        ]
        for name in ("remove", "insert"):
            getattr(self._library, f"interposer_{name}").argtypes = [ctypes.c_ulong]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.reset()
        self.finalise()

    # -- counting --------------------------------------------------------------------------------

    @property
    def calls(self) -> list[str]:
        """The names of all calls since the library was loaded, in order."""
        return self._calls_from(0)

    def _calls_from(self, first: int) -> list[str]:
        made = self._library.interposer_count()
        return [self._library.interposer_call(index).decode() for index in range(first, made)]

    @contextmanager
    def counted(self) -> Iterator[list[str]]:
        """A list that holds the names of the calls made meanwhile, once the block has ended."""
        calls: list[str] = []
        first = self._library.interposer_count()
        try:
            yield calls
        finally:
            calls += self._calls_from(first)

    # -- failing ---------------------------------------------------------------------------------

    def add(self, rule: Rule) -> None:
        """Let this rule act from now on, after those that are there already."""
        answer = self._library.interposer_rule(
            rule.functions.encode(), rule.nth, rule.action.encode(), rule.rv
        )
        if not answer:
            raise ValueError(f"no such function or action, or too many rules: {rule}")

    def fail(
        self, functions: str, rv: int = Rv.DEVICE_ERROR, *, nth: int = 1, after: bool = False
    ) -> None:
        """One call fails with ``rv``: the ``nth`` from now; ``after``: done, but not said so."""
        self.add(Rule(functions, nth, Action.FAIL_AFTER if after else Action.FAIL, rv))

    def always(self, functions: str, rv: int = Rv.FUNCTION_NOT_SUPPORTED) -> None:
        """Every call of these functions fails with ``rv``."""
        self.add(Rule(functions, 0, Action.FAIL, rv))

    def clear(self) -> None:
        """Forget all rules."""
        self._library.interposer_clear_rules()

    @contextmanager
    def failing(
        self,
        step: int,
        rv: int = Rv.DEVICE_ERROR,
        *,
        after: bool = False,
        excluding: Iterable[str] = HARMLESS,
    ) -> Iterator[None]:
        """The call number ``step`` from now (0: the next) fails; ``step_fails`` counts as one."""
        functions = ",".join([ANY, *(f"-{name}" for name in excluding)])
        self.fail(functions, rv, nth=step + 1, after=after)
        try:
            yield
        finally:
            self.clear()

    def step_fails(self) -> bool:
        """Count a step of the test's own among the calls; whether it is the one to fail."""
        return bool(self._library.interposer_step())

    @property
    def fired(self) -> int:
        """How many calls rules have met so far."""
        return int(self._library.interposer_fired())

    # -- dialect and token -----------------------------------------------------------------------

    def set(self, **values: int) -> None:
        """Set features and quantities: ``set(raw_points=1, tries=3)``."""
        for name, value in values.items():
            if not self._library.interposer_set(name.encode(), value):
                raise ValueError(f"no such setting: {name}")

    def speak(self, *features: str) -> None:
        """Switch features on: ``speak("raw_points", "montgomery")``."""
        self.set(**dict.fromkeys(features, 1))

    def reset(self) -> None:
        """Put back every setting, rule, removed token and PIN try."""
        self._library.interposer_reset()

    def set_pinpad(self, pin: str) -> None:
        """Have a protected authentication path: ``pin`` is typed at each login without PIN."""
        if not self._library.interposer_pinpad(pin.encode()):
            raise ValueError("the PIN is too long")
        self.set(protected_path=1)

    def set_tries(self, tries: int, *, used: int = 0) -> None:
        """Give each PIN (user, SO, context-specific) so many tries, some used up already."""
        self.unlock()
        self.set(tries=tries, so_tries=tries, context_tries=tries, tries_used=used)

    def unlock(self) -> None:
        """Give every PIN all its tries again."""
        self._library.interposer_unlock()

    def limit_sessions(self, limit: int, *, said: bool = False) -> None:
        """Refuse further sessions; ``said``: CK_TOKEN_INFO tells the limit, as not all do."""
        self.set(session_limit=limit, session_limit_said=said)

    def remove(self, slot: int, rv: int = Rv.DEVICE_REMOVED) -> None:
        """Pull the token out: sessions and login are gone for good, their calls answer ``rv``."""
        self.set(removed_code=rv)
        if not self._library.interposer_remove(slot):
            raise ValueError("too many tokens are removed")

    def insert(self, slot: int) -> None:
        """Put the token of this slot back."""
        self._library.interposer_insert(slot)

    def finalise(self) -> None:
        """C_Finalize, if it is initialised; not counted."""
        self._library.interposer_finalise()

    # -- other processes -------------------------------------------------------------------------

    def environment(
        self,
        *,
        features: Iterable[str] = (),
        quantities: Mapping[str, int] | None = None,
        rules: Iterable[Rule] = (),
        pinpad: str | None = None,
        log: Path | None = None,
    ) -> dict[str, str]:
        """Variables for a process to be started, which names ``path`` as its module.

        What is set here does not count there: only what is given does. ``log`` receives the name
        of each call on a line of its own.
        """
        values = dict.fromkeys(features, 1) | dict(quantities or {})
        variables = {
            "INTERPOSER_SETTINGS": ",".join(f"{name}={value}" for name, value in values.items()),
            "INTERPOSER_RULES": ";".join(map(str, rules)),
        }
        if pinpad is not None:
            variables["INTERPOSER_PINPAD"] = pinpad
        if log is not None:
            variables["INTERPOSER_LOG"] = os.fspath(log)
        return variables
