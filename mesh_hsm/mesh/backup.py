"""The offline backup: everything from which a personal Mesh can be made again (hsm-1 §13).

Open this file to see in which order a Mesh comes to be. The scalars that a key store imports are
released only against a drilled backup:

    keys = EscrowedKeySet.draw()
    data = seal_backup(keys, passphrase)             # write it, sync it, read it back
    drilled = drill(data_read_back, passphrase, keys.publics)
    master, administrator = release(keys, drilled)   # import both, then create_profile_master

The master seed gives the master and the administrator key; the escrow key has a seed of its own, so
that who holds it can open files without being able to sign (schema §4).
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, field
from hashlib import sha512
from typing import Final

from mesh_hsm import dare
from mesh_hsm.curves import P384, X448, Curve, Point, SecretScalar
from mesh_hsm.custody import CustodyClass, CustodyStatement, Hardware
from mesh_hsm.dare import Decryptor, Recipient
from mesh_hsm.errors import FormatError, NotFoundError, VerificationError
from mesh_hsm.mesh.wire import Members, decode, encode
from mesh_hsm.passphrase_file import open_with_passphrase, seal_with_passphrase
from mesh_hsm.provider import Use
from mesh_hsm.threshold.composite import CompositeKey
from mesh_hsm.threshold.scalar_share import ScalarShare
from mesh_hsm.udf import SeedUse, derive_key, new_seed, parse_seed, present_seed

LABEL: Final = "Mesh backup"
TAG: Final = "EscrowedKeySet"

_MASTER: Final = "CompleteMasterProfile"
_ADMINISTRATOR: Final = "CompleteMasterAdminSign"
_ESCROW: Final = "CompleteMasterEscrow"
_OTHER_KEYS: Final = "the backup opens, but holds other keys than those of this Mesh"
_CUSTODY: Final = CustodyStatement(CustodyClass.SOFTWARE, Hardware.NONE, "the offline backup")


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
        return cls(_new_seed(), _new_seed() if escrow else None)

    @property
    def publics(self) -> MeshPublics:
        """What a backup of these seeds must give again."""
        return MeshPublics(
            _scalar(self.master_seed, _MASTER, P384).public(),
            _scalar(self.master_seed, _ADMINISTRATOR, P384).public(),
            self.escrow_key().public if self.escrow_seed else None,
        )

    def escrow_key(self) -> Decryptor:
        """The escrow key, for ``dare.decode``. Raises ``NotFoundError`` if there is none."""
        if self.escrow_seed is None:
            raise NotFoundError("this backup has no escrow key")
        y = _scalar(self.escrow_seed, _ESCROW, X448)
        share = ScalarShare(y, Use.ENCRYPT, label="escrow", custody=_CUSTODY)
        return CompositeKey(share.public, Use.ENCRYPT, [share])


@dataclass(frozen=True, slots=True)
class Drilled:
    """Made by ``drill`` alone: the backup of SHA-512 ``digest`` opened and gave these keys."""

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
    """The backup file's octets. Raises ``WrongSecretError`` for a passphrase that is too short."""
    seeds = [keys.escrow_seed] if keys.escrow_seed else []
    members = {
        "MasterSignatureKey": present_seed(keys.master_seed),
        "MasterEscrowKeys": [present_seed(seed) for seed in seeds],
    }
    return seal_with_passphrase(encode(TAG, members), passphrase, LABEL)


def open_backup(data: bytes, passphrase: bytes) -> EscrowedKeySet:
    """The seeds again. Raises ``WrongSecretError``, ``FormatError``."""
    members = decode(open_with_passphrase(data, passphrase, LABEL), TAG)
    escrow = members.array("MasterEscrowKeys")
    if len(escrow) > 1:
        raise FormatError("a backup holds at most one escrow key")
    return EscrowedKeySet(
        _seed(members.text("MasterSignatureKey")),
        _seed(Members({"Seed": escrow[0]}, TAG).text("Seed")) if escrow else None,
    )


def drill(data: bytes, passphrase: bytes, expected: MeshPublics) -> Drilled:
    """Prove that a backup, as read back from where it will be kept, opens and decrypts.

    Raises ``WrongSecretError``, ``FormatError``; ``VerificationError`` if it holds other keys,
    ``DecryptionError`` if its escrow key does not open what is encrypted to the expected one.
    """
    keys = open_backup(data, passphrase)
    if keys.publics != expected:
        raise VerificationError(_OTHER_KEYS)
    return _drilled(keys, data)


def drill_again(
    data: bytes, passphrase: bytes, master: Point, escrow: Collection[Point]
) -> tuple[EscrowedKeySet, Drilled]:
    """Drill the backup of a Mesh whose administrators may have changed since, and give its seeds.

    ``master`` and ``escrow`` are what the Mesh's ProfileMaster says. Raises as ``drill``.
    """
    keys = open_backup(data, passphrase)
    publics = keys.publics
    if publics.master != master or (publics.escrow is None) != (not escrow):
        raise VerificationError(_OTHER_KEYS)
    if publics.escrow is not None and publics.escrow not in escrow:
        raise VerificationError(_OTHER_KEYS)
    return keys, _drilled(keys, data)


def _drilled(keys: EscrowedKeySet, data: bytes) -> Drilled:
    publics = keys.publics
    if publics.escrow is not None:
        envelope = dare.seal(os.urandom(32), recipients=[Recipient(publics.escrow)])
        dare.unseal(envelope, keys=[keys.escrow_key()])
    return Drilled(publics, sha512(data).digest())


def release(
    keys: EscrowedKeySet, backed_up: Drilled | NoBackup
) -> tuple[ImportableKey, ImportableKey]:
    """The master and the administrator key, in this order.

    Raises ``VerificationError`` if what was drilled is not the backup of these keys.
    """
    if isinstance(backed_up, Drilled) and backed_up.publics != keys.publics:
        raise VerificationError("the backup that was drilled is not one of these keys")
    return _importable(keys, _MASTER), _importable(keys, _ADMINISTRATOR)


def _importable(keys: EscrowedKeySet, name: str) -> ImportableKey:
    y = _scalar(keys.master_seed, name, P384)
    return ImportableKey(P384.name, y.public(), y.value)


def _scalar(seed: bytes, name: str, curve: Curve) -> SecretScalar:
    return SecretScalar(curve, derive_key(seed, name, curve))


def _new_seed() -> bytes:
    return new_seed(SeedUse.PROFILE_ACCOUNT)


def _seed(text: str) -> bytes:
    seed = parse_seed(text)
    if len(seed) != 34 or int.from_bytes(seed[:2], "big") != SeedUse.PROFILE_ACCOUNT:
        raise FormatError("not the seed of a Mesh profile")
    return seed
