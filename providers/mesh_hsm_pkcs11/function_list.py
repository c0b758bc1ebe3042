"""A module's function list: the very one that python-pkcs11 uses. Open this for p11-kit's proxy.

Most modules hand out the same CK_FUNCTION_LIST to whoever asks. p11-kit's proxy makes a new one for
each caller, and a handle from one means nothing to the other. So where two answers differ, the
binding's own pointer is read from its object.
"""

from __future__ import annotations

import ctypes
from ctypes import byref, c_ulong, c_void_p
from importlib.metadata import version
from pathlib import Path
from typing import Final

from pkcs11 import _pkcs11

from mesh_hsm.errors import ProviderUnavailableError

_KNOWN_LAYOUT: Final = "0.10."
"""Versions of python-pkcs11 whose ``lib`` begins with the pointer, behind Python's own header."""


def functions(path: Path, library: _pkcs11.lib) -> int:
    """The address of the CK_FUNCTION_LIST. Raises ``ProviderUnavailableError``."""
    first, second = _ask(path), _ask(path)
    if first == second:
        return first
    if not version("python-pkcs11").startswith(_KNOWN_LAYOUT):
        raise ProviderUnavailableError(
            f"{path} gives each caller an instance of its own, as p11-kit's proxy does",
            hint="name the modules behind it",
        )
    return c_void_p.from_address(id(library) + object.__basicsize__).value or 0


def _ask(path: Path) -> int:
    # Loaded already: the system's loader counts one more user of the same library.
    get_function_list = ctypes.CDLL(str(path)).C_GetFunctionList
    get_function_list.restype = c_ulong
    table = c_void_p()
    if get_function_list(byref(table)) or not table.value:
        raise ProviderUnavailableError(f"the module {path} gives no list of its functions")
    return table.value
