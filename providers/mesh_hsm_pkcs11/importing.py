"""Taking a key from outside. Open this file to see by which way a share enters a token.

As ``C_CreateObject`` of a private key with its public half, in the clear through the module's
memory. The custody statement says so, and that nobody can show an imported key to exist only there.
"""

from __future__ import annotations

from mesh_hsm.errors import UnsupportedError
from mesh_hsm.provider import KeySpec
from mesh_hsm_pkcs11.keys import Entry, Keys


def import_scalar(keys: Keys, spec: KeySpec, scalar: int, known_by: tuple[str, ...]) -> Entry:
    raise UnsupportedError("this token takes no keys from outside")
