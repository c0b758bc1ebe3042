"""The offline backup: everything from which a personal Mesh can be made again (hsm-1 §13).

Open this file to see in which order a Mesh comes to be. The scalars that a key store imports are
released only against a drilled backup:

    keys = EscrowedKeySet.draw()
    data = seal_backup(keys, passphrase)             # write it, sync it, read it back
    drilled = drill(data_read_back, passphrase, keys.publics)
    master, administrator = release(keys, drilled)   # import both, then create_profile_master
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mesh_hsm.curves import Point
from mesh_hsm.dare import Decryptor


@dataclass(frozen=True, slots=True)
class MeshPublics:
    """The public keys of a new Mesh. ``escrow`` is None with ``--no-escrow``."""

    master: Point
    administrator: Point
    escrow: Point | None


@dataclass(frozen=True, slots=True)
class EscrowedKeySet:
    """The seeds, each id (2 octets) || 32 secret octets. The backup's content."""

    master_seed: bytes = field(repr=False)
    escrow_seed: bytes | None = field(repr=False)

    @classmethod
    def draw(cls, *, escrow: bool = True) -> EscrowedKeySet:
        """Fresh seeds; ``escrow=False`` for ``--no-escrow``."""
        raise NotImplementedError

    @property
    def publics(self) -> MeshPublics:
        """What a backup of these seeds must give again."""
        raise NotImplementedError

    def escrow_key(self) -> Decryptor:
        """The escrow key, for ``dare.decode``. Raises ``NotFoundError`` if there is none."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Drilled:
    """Made by ``drill`` alone: these octets opened and gave these keys."""

    publics: MeshPublics
    digest: bytes


@dataclass(frozen=True, slots=True)
class NoBackup:
    """Said in so many words: this Mesh cannot be recovered (``--no-escrow``)."""


@dataclass(frozen=True, slots=True)
class ImportableKey:
    """A signature key to be imported by ``Imports.import_scalar``."""

    algorithm: str
    public: Point
    scalar: int = field(repr=False)


def seal_backup(keys: EscrowedKeySet, passphrase: bytes) -> bytes:
    """The backup file's octets."""
    raise NotImplementedError


def open_backup(data: bytes, passphrase: bytes) -> EscrowedKeySet:
    """The seeds again. Raises ``WrongSecretError``, ``FormatError``."""
    raise NotImplementedError


def drill(data: bytes, passphrase: bytes, expected: MeshPublics) -> Drilled:
    """Prove that a backup, as read back from where it will be kept, opens and decrypts.

    Raises ``WrongSecretError``, ``FormatError``, ``VerificationError``.
    """
    raise NotImplementedError


def release(
    keys: EscrowedKeySet, backed_up: Drilled | NoBackup
) -> tuple[ImportableKey, ImportableKey]:
    """The master and the administrator key. Raises ``VerificationError`` for another's drill."""
    raise NotImplementedError
