"""A throw-away SoftHSM behind the interposer, for the conformance kit and for tests of our own."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from unittest import mock

from interposer import Interposer
from pkcs11 import Attribute, ObjectClass
from pkcs11_bench import Pkcs11Bench

from mesh_hsm.secret_source import FixedSecrets, SecretKind
from mesh_hsm.testing.softhsm import Softhsm
from mesh_hsm_pkcs11 import Pkcs11Provider, objects
from mesh_hsm_pkcs11.binding import read
from mesh_hsm_pkcs11.connection import Connection
from mesh_hsm_pkcs11.module import forget_modules
from mesh_hsm_pkcs11.records import Stage, _read

# What stands between a record and the disk; each can fail on a real one.
SYSTEM_CALLS = ("write", "fsync", "replace", "fchmod", "fdopen")


class SofthsmBench(Pkcs11Bench):
    """It can be made to fail at every step, and shows what lies about."""

    def __init__(
        self, rig: Softhsm, interposer: Interposer, folder: Path, *, faults: bool = True
    ) -> None:
        super().__init__(rig, folder)
        self.rig, self.interposer, self.faults = rig, interposer, faults

    def restart(self) -> bool:
        forget_modules()
        return True

    def leftovers(self) -> Collection[object]:
        """Objects on the token that no record calls made, halves of keys, and stray files."""
        made = {
            record.octets
            for path in self.folder.rglob("*.key.json")
            if (record := _read(path)).stage is Stage.MADE
        }
        on_token = self._objects()
        halves = {ObjectClass.PUBLIC_KEY, ObjectClass.PRIVATE_KEY}
        strays = [
            one
            for one in on_token
            if one[1] not in made or {k for k, i in on_token if i == one[1]} != halves
        ]
        files = {path.name for path in self.folder.rglob("*") if path.is_file()}
        records = {f"{identifier.hex()}.key.json" for identifier in made}
        return strays + sorted(files - records - {".lock"})

    def _objects(self) -> list[tuple[int, bytes]]:
        found, info = Pkcs11Provider(self.folder)._one(self.uri)
        pin = FixedSecrets({SecretKind.PIN: self.rig.pin.encode()})
        connection = Connection(found, pin, info.uri)
        try:
            return sorted(
                connection.run(
                    "list everything",
                    lambda session: [
                        (told[Attribute.CLASS], told.get(Attribute.ID, b""))
                        for thing in objects.search(session, {})
                        if (told := read(thing, (Attribute.CLASS, Attribute.ID)))
                    ],
                )
            )
        finally:
            connection.close()

    def failing(self, step: int) -> AbstractContextManager[None] | None:
        """None where the same failures are tried on another bench."""
        return self._failing(step) if self.faults else None

    @contextmanager
    def _failing(self, step: int) -> Iterator[None]:
        """The ``step``-th of module calls and system calls on the disk, counted together, fails."""

        def failing(real):
            def call(*arguments, **named):
                if self.interposer.step_fails():
                    raise OSError(28, os.strerror(28))
                return real(*arguments, **named)

            return call

        disk = {name: failing(getattr(os, name)) for name in SYSTEM_CALLS}
        with mock.patch.multiple(os, **disk), self.interposer.failing(step):
            yield
