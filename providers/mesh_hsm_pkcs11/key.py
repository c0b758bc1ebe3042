"""One key on a token. Open this file to see what an answer depends on."""

from __future__ import annotations

from mesh_hsm.curves import Point, XOnly
from mesh_hsm.custody import CustodyStatement, PinPolicy
from mesh_hsm.errors import NotFoundError, SecretRequiredError
from mesh_hsm.provider import DeviceKey
from mesh_hsm.uri import Uri
from mesh_hsm_pkcs11 import objects, operations, statements
from mesh_hsm_pkcs11.connection import Connection
from mesh_hsm_pkcs11.dialect import Dialect
from mesh_hsm_pkcs11.keys import Entry
from mesh_hsm_pkcs11.objects import Handle
from mesh_hsm_pkcs11.sessions import Session


class Pkcs11Key(DeviceKey):
    """A name for a key pair on a token; its handles are found anew in each session."""

    def __init__(self, connection: Connection, uri: Uri, entry: Entry) -> None:
        self.uri = uri
        self.label = entry.label
        self.use = entry.use
        self.public = entry.public
        self._connection = connection
        self._entry = entry

    def __repr__(self) -> str:
        return f"Pkcs11Key({self.uri})"

    def custody(self) -> CustodyStatement:
        """What the token says now. Without its PIN: what it said when the key was made here."""
        connection = self._connection
        try:
            told = connection.run(
                "tell about the key", lambda session: statements.told_of(self._private(session))
            )
        except SecretRequiredError:
            return statements.not_read(connection.found, self._entry.record)
        return statements.of_key(connection.found, told, self._entry.record)

    def _agree(self, point: Point) -> Point | XOnly:
        dialect = Dialect.of(self._connection.sessions)
        name = self.public.curve.name

        def derive(session: Session) -> XOnly:
            key = self._private(session)
            ways = dialect.ways_for(name)
            answer, dialect.ways[name] = operations.agree(session, key, point, ways, private=True)
            return answer

        return self._connection.run("agree", derive)

    def _sign(self, octets: bytes) -> bytes:
        connection, login = self._connection, self._connection.login
        curve = self.public.curve
        record = self._entry.record
        each_time = record is not None and record.pin is PinPolicy.ALWAYS

        def sign(session: Session) -> bytes:
            key = self._private(session)
            if not each_time:
                return operations.sign(session, key, curve, octets, None)
            pin = login.confirm()
            with login.wrong_pin_told(pin):
                return operations.sign(session, key, curve, octets, pin)

        return connection.run("sign", sign)

    def _private(self, session: Session) -> Handle:
        found = objects.private(session, self._entry.identifier)
        if found is None:
            raise NotFoundError("the key is no longer on its token", uri=str(self.uri))
        return found
