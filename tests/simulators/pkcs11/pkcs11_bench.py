"""A token of whichever module the environment names, on the bench of the conformance kit.

Open this file to put another module's token there: a rig says its URI and its PIN.
"""

from __future__ import annotations

from pathlib import Path

from rigs import Rig

from mesh_hsm.provider import Provider
from mesh_hsm.secret_source import SecretKind
from mesh_hsm.testing.conformance import Bench
from mesh_hsm.testing.softhsm import Softhsm
from mesh_hsm.uri import Uri
from mesh_hsm_pkcs11 import Pkcs11Provider


class Pkcs11Bench(Bench):
    """One token, and a folder of records."""

    asks = SecretKind.PIN

    def __init__(self, rig: Rig | Softhsm, folder: Path) -> None:
        pin = rig.pin.encode()
        self.answers = {SecretKind.PIN: pin, SecretKind.NEW_PIN: pin}
        self.uri = Uri.parse(rig.uri)
        self.folder = folder

    def provider(self) -> Provider:
        return Pkcs11Provider(self.folder)

    def absent(self, uri: Uri) -> Uri:
        return uri.with_attribute("object", "absent")
