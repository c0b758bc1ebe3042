"""The keys of a token: what it shows, joined with what we remember. Open this to find one."""

from __future__ import annotations

from dataclasses import dataclass

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
    """A key of ours. ``record`` is None for one that was made on another machine."""

    label: str
    identifier: bytes
    use: Use
    public: Point
    record: Record | None


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
            raise NotFoundError("there is no such key of ours on this token", uri=uri)
        if len(found) > 1:
            raise NotFoundError(
                f"{len(found)} keys on this token have that name",
                hint="name one by its CKA_ID as well: id=%…",
                uri=uri,
            )
        return found[0]

    def sealing(self, identifier: bytes | None = None) -> PublicObject | None:
        """The key under which this token seals, or sealed once, if it has one."""
        made = {r.octets for r in self.records.all() if r.use is None and r.stage is Stage.MADE}
        wanted = {"label": SEALING_LABEL}
        found = [one for one in self._public(**wanted) if one.seals or one.identifier in made]
        if identifier is not None:
            found = [one for one in found if one.identifier == identifier]
        return min(found, key=lambda one: one.identifier, default=None)

    def label_taken(self, label: str) -> bool:
        """Whether a key of ours has this label."""
        return bool(self._entries(label=label))

    def strangers(self, label: str) -> list[bytes]:
        """CKA_IDs of public keys with this label that neither mark nor record calls ours."""
        known = {record.octets for record in self.records.all()}
        found = {one.identifier for one in self._public(label=label)}
        return sorted(one for one in found - known if not objects.is_marked(one))

    def _entries(self, **wanted: object) -> list[Entry]:
        records = {record.octets: record for record in self.records.all()}
        entries = []
        for one in self._public(**wanted):
            record = records.get(one.identifier)
            use = record.use if record is not None else one.use
            odd = record.odd if record is not None else one.odd
            if use is None or (record is not None and record.stage is not Stage.MADE):
                continue
            public = objects.signed(one.point, odd)
            entries.append(Entry(one.label, one.identifier, use, public, record))
        return entries

    def _public(self, **wanted: object) -> list[PublicObject]:
        return self.connection.run(
            "list its keys", lambda session: list(objects.publics(session, **wanted)), private=False
        )
