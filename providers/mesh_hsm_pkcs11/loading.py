"""Why a file is no module that works here. Open this file for what is said of one that fails.

The file is read first, since the system's loader is laconic: of a library for another processor it
says no more than that it is not there, or is no library.
"""

from __future__ import annotations

import ctypes
import os
import re
import shlex
import stat
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import BinaryIO, Final, Literal

from mesh_hsm.errors import ProviderUnavailableError
from mesh_hsm_pkcs11 import softhsm_conf

_PROGRAM: Final = Path("/proc/self/exe")
_HEADER: Final = 20
_BIG_ENDIAN: Final = 2
_ELF64: Final = Struct("<32xQ14xHH")  # e_phoff, e_phentsize, e_phnum
_SEGMENT: Final = Struct("<I4xQ16xQ")  # p_type, p_offset, p_filesz
_PT_LOAD: Final = 1
# e_machine of the ELF header (System V ABI), as distributions call the processors.
_PROCESSORS: Final = {
    0x03: "x86",
    0x08: "MIPS",
    0x14: "PowerPC",
    0x15: "PowerPC64",
    0x16: "s390",
    0x28: "ARM",
    0x3E: "x86-64",
    0xB7: "AArch64",
    0xF3: "RISC-V",
    0x102: "LoongArch",
}
_ABSENT: Final = re.compile(r"(?P<library>[^\s:]+): cannot open shared object file")


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong with a module: ``doctor``'s code for it, and a line for each of the others."""

    code: str
    problem: str
    remedy: str


@dataclass(frozen=True, slots=True)
class _Machine:
    """What an ELF file is made for. ``bits`` 0: its header says neither 32 nor 64."""

    processor: int
    bits: int
    order: str

    def __str__(self) -> str:
        name = _PROCESSORS.get(self.processor, f"processor {self.processor:#x}")
        return f"{name} ({self.bits}-bit, {self.order}-endian)"


def refusal(path: Path, said: str) -> ProviderUnavailableError:
    """The error for a module that was not loaded; ``said`` is all that is known without a look."""
    found = trouble(path) or does_not_start(path, said)
    return ProviderUnavailableError(found.problem, hint=found.remedy)


def trouble(path: Path) -> Trouble | None:
    """What keeps the system from loading a file as a module. None: nothing does."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return _no_module(path, "it is no file")
        with path.open("rb") as file:
            header = file.read(_HEADER)
            whole = _is_whole(file, status.st_size)
    except OSError as error:
        missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
        return Trouble(
            "PKCS11003",
            f"there is no PKCS #11 module {path}" if missing
            else f"the PKCS #11 module {path} cannot be read ({os.strerror(error.errno or 0)})",
            "install it, or name another one" if missing
            else f"check who may read it: ls -lL {shlex.quote(str(path))}",
        )  # fmt: skip
    if trouble := _by_header(path, header):
        return trouble
    # The system maps what the file claims to have, and the process dies at the first touch.
    return _by_loading(path) if whole else _no_module(path, "the file is cut off")


def does_not_start(path: Path, said: str) -> Trouble:
    """The trouble of a module that loads, and fails at C_GetFunctionList or C_Initialize."""
    known = softhsm_conf.trouble() if softhsm_conf.is_softhsm(path) else None
    if known is None:
        remedy = "see that what it needs is there: its configuration, its daemon, its device"
        return Trouble("PKCS11007", f"the module {path} does not start ({said})", remedy)
    problem, remedy = known
    return Trouble("PKCS11007", f"the module {path} does not start ({said}): {problem}", remedy)


def _by_header(path: Path, header: bytes) -> Trouble | None:
    ours = _ours()
    if ours is None:
        return None
    theirs = _machine(header)
    if theirs is None:
        return _no_module(path, "it is no library of this system")
    if theirs != ours:
        return Trouble(
            "PKCS11004",
            f"{path} is made for {theirs}, and this Python is {ours}",
            f"install the module for {ours}, or use a Python for {theirs}",
        )
    return None


def _by_loading(path: Path) -> Trouble | None:
    try:
        _ = ctypes.CDLL(str(path)).C_GetFunctionList
    except AttributeError:
        return _no_module(path, "it has no C_GetFunctionList")
    except OSError as error:
        said = " ".join(str(error).split())
        absent = _ABSENT.match(said)
        remedy = "reinstall it: the maker's package for this very system and its version"
        if absent and absent["library"] != str(path):
            shown = f"ldd {shlex.quote(str(path))} shows the rest"
            remedy = f"install the package that has {absent['library']}; {shown}"
        return Trouble("PKCS11006", f"the system does not load {path}: {said}", remedy)
    return None


def _no_module(path: Path, why: str) -> Trouble:
    remedy = "name the library that the maker's manual calls its PKCS #11 module"
    return Trouble("PKCS11005", f"{path} is no PKCS #11 module: {why}", remedy)


def _ours() -> _Machine | None:
    """What this process is made for; None where that cannot be seen, or programs are no ELF."""
    try:
        with _PROGRAM.open("rb") as file:
            return _machine(file.read(_HEADER))
    except OSError:
        return None


def _is_whole(file: BinaryIO, size: int) -> bool:
    """Whether a 64-bit ELF file has every segment that it says is loaded from it."""
    file.seek(0)
    header = file.read(_ELF64.size)
    if len(header) < _ELF64.size or header[:6] != b"\x7fELF\x02\x01":
        return True  # of another kind: whoever loads it says what is wrong
    offset, entry, count = _ELF64.unpack(header)
    if entry < _SEGMENT.size:
        return False
    for number in range(count):
        file.seek(offset + number * entry)
        octets = file.read(_SEGMENT.size)
        if len(octets) < _SEGMENT.size:
            return False
        kind, begin, length = _SEGMENT.unpack(octets)
        if kind == _PT_LOAD and begin + length > size:
            return False
    return True


def _machine(header: bytes) -> _Machine | None:
    if len(header) < _HEADER or not header.startswith(b"\x7fELF"):
        return None
    bits = {1: 32, 2: 64}.get(header[4], 0)  # EI_CLASS
    order: Literal["little", "big"] = "big" if header[5] == _BIG_ENDIAN else "little"  # EI_DATA
    return _Machine(int.from_bytes(header[18:20], order), bits, order)
