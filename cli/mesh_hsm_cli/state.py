"""Where this person's state lives: one folder, owner only, one writer at a time.

Open this file to see what is kept where. ``$MESH_HSM_HOME``, else the platform's data folder:

* ``providers/<scheme>/`` what a provider keeps (given to it as a folder),
* ``mesh/`` the administrator's Mesh, ``device/`` this machine as a device,
* ``keysets/`` the keys that two of three administrators use together,
* ``lock`` held while something is written.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mesh_hsm.errors import StorageError

LOCK_SECONDS = 10


@dataclass(frozen=True, slots=True)
class State:
    """The state folder, and the paths in it."""

    home: Path

    @classmethod
    def default(cls) -> State:
        """The folder that ``MESH_HSM_HOME`` names, else the platform's."""
        named = os.environ.get("MESH_HSM_HOME")
        if named:
            return cls(Path(named).absolute())
        from platformdirs import user_data_path

        return cls(user_data_path("mesh-hsm"))

    def records(self, scheme: str) -> Path:
        """The folder in which a provider keeps its records; made when it has something to keep."""
        return self.home / "providers" / scheme

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the lock. Raises ``StorageError`` when another process keeps it."""
        from filelock import FileLock, Timeout

        from mesh_hsm.files import ensure_private_dir

        for folder in (self.home, self.home / "providers"):
            ensure_private_dir(folder)
        lock = FileLock(self.home / "lock", mode=0o600)
        try:
            lock.acquire(timeout=LOCK_SECONDS)
        except Timeout as error:
            raise StorageError(
                f"another mesh-hsm is writing to {self.home}",
                hint="wait until it has finished, then run the command again",
            ) from error
        try:
            yield
        finally:
            lock.release()
