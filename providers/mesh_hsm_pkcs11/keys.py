"""The keys of a token: what it shows, joined with what we remember. Open this to find one."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from mesh_hsm.curves import Point
from mesh_hsm.errors import NotFoundError
from mesh_hsm.provider import Use
from mesh_hsm_pkcs11 import objects
from mesh_hsm_pkcs11.connection import Connection
from mesh_hsm_pkcs11.naming import KeyName
from mesh_hsm_pkcs11.objects import PublicObject
from mesh_hsm_pkcs11.records import Record, Records, Stage

SEALING_LABEL = "mesh-hsm sealing key"


@dataclass(frozen=True, slots=True)
class Entry:
    """A key of ours. ``record`` is None for one that was made on another machine.

    ``shares_label``: another key has the same label, so that it takes the CKA_ID to name it.
    """

    label: str
    identifier: bytes
    use: Use
    public: Point
    record: Record | None
    shares_label: bool = False


def sealing_entry(identifier: bytes, public: Point, record: Record | None) -> Entry:
    """A key to seal under, as one to agree with."""
    return Entry(SEALING_LABEL, identifier, Use.ENCRYPT, public, record)


def _remembered(record: Record) -> Entry | None:
    """A key as it was made here, whatever the token shows of it now."""
    if record.use is None or record.stage is not Stage.MADE or record.point is None:
        return None
    return Entry(record.label, record.octets, record.use, record.point, record)


def _foreign(one: PublicObject) -> Entry | None:
    """A key that was made on another machine, as the token shows it."""
    if one.use is None:
        return None
    return Entry(one.label, one.identifier, one.use, objects.signed(one.point, one.odd), None)


class Keys:
    """Looks keys up by name, without a login: what it needs is public."""

    def __init__(self, connection: Connection, records: Records) -> None:
        self.connection = connection
        self.records = records

    def all(self) -> list[Entry]:
        """Every key of ours on the token, by label."""
        return sorted(self._entries(), key=lambda entry: (entry.label, entry.identifier))

    def named(self, name: KeyName, uri: str) -> Entry:
        """The one key with this label, CKA_ID, or both. Raises ``NotFoundError``."""
        wanted: dict[str, object] = {}
        if name.label is not None:
            wanted["label"] = name.label
        if name.identifier is not None:
            wanted["identifier"] = name.identifier
        found = self._entries(**wanted)
        if not found:
            called = f" {name.label}" if name.label is not None else ""
            raise NotFoundError(
                f"there is no key{called} of ours on this token",
                hint="if it was deleted, files open with the backup: mesh-hsm dare decode --backup",
                uri=uri,
            )
        if len(found) > 1:
            raise NotFoundError(
                f"{len(found)} keys on this token have that name",
                hint="name one by its CKA_ID as well: id=%…",
                uri=uri,
            )
        return found[0]

    def sealing(self) -> Entry | None:
        """The key under which this machine seals on the token, by our own record alone.

        What the token shows without a PIN, anybody may have put there to have secrets sealed to it.
        """
        for record in self.records.all():
            if record.use is None and record.stage is Stage.MADE and record.point is not None:
                return sealing_entry(record.octets, record.point, record)
        return None

    def label_taken(self, label: str) -> bool:
        """Whether a key of ours has this label."""
        return bool(self._entries(label=label))

    def strangers(self, label: str) -> list[bytes]:
        """CKA_IDs of public keys with this label that neither mark nor record calls ours."""
        known = {record.octets for record in self.records.all()}
        found = {one.identifier for one in self._public(label=label)}
        return sorted(one for one in found - known if not objects.is_marked(one))

    def _entries(self, **wanted: object) -> list[Entry]:
        shown = self._public(**wanted)  # first: a key that is being made has a record by now
        records = {record.octets: record for record in self.records.all()}
        ours = {record.label for record in records.values() if _remembered(record)}
        entries: dict[tuple[bytes, Point], Entry] = {}
        for one in shown:
            record = records.get(one.identifier)
            entry = _foreign(one) if record is None else _remembered(record)
            if entry is None or wanted.get("label", entry.label) != entry.label:
                continue
            if record is None and wanted.keys() == {"label"} and entry.label in ours:
                continue  # anybody may put a key of that label there; by its id it can be had
            entries[entry.identifier, entry.public] = entry
        labels = Counter(entry.label for entry in entries.values())
        by_id = "identifier" in wanted  # whether others have the label is then not known
        return [
            replace(entry, shares_label=by_id or labels[entry.label] > 1)
            for entry in entries.values()
        ]

    def _public(self, **wanted: object) -> list[PublicObject]:
        return self.connection.run(
            "list its keys", lambda session: list(objects.publics(session, **wanted)), private=False
        )
