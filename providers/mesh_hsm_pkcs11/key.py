"""One key on a token. Open this file to see what an answer depends on."""

from __future__ import annotations

from pkcs11 import Attribute

from mesh_hsm.curves import Point, XOnly
from mesh_hsm.custody import CustodyStatement, PinPolicy
from mesh_hsm.errors import DeviceError, NotFoundError, SecretRequiredError
from mesh_hsm.provider import DeviceKey, Use
from mesh_hsm.uri import Uri
from mesh_hsm_pkcs11 import objects, operations, statements
from mesh_hsm_pkcs11.binding import read
from mesh_hsm_pkcs11.connection import Connection
from mesh_hsm_pkcs11.dialect import Dialect
from mesh_hsm_pkcs11.keys import Entry
from mesh_hsm_pkcs11.objects import Handle
from mesh_hsm_pkcs11.sessions import Session


class Pkcs11Key(DeviceKey):
    """A name for a key pair on a token; its handles are found anew in each session."""

    def __init__(self, connection: Connection, uri: Uri, entry: Entry, owner: object) -> None:
        self.uri = uri
        self.label = entry.label
        self.use = entry.use
        self.public = entry.public
        self._connection = connection
        self._entry = entry
        self._owner = owner  # the token: while a key of it is at hand, it is not closed by itself

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

    def _asks_each_time(self, key: Handle) -> bool:
        """Whether the token wants the PIN for each use; of a key not made here, it is asked."""
        if self._entry.record is not None:
            return self._entry.record.pin is PinPolicy.ALWAYS
        asks = Dialect.of(self._connection.sessions).asks
        if self._entry.identifier not in asks:
            told = read(key, (Attribute.ALWAYS_AUTHENTICATE,))
            asks[self._entry.identifier] = bool(told.get(Attribute.ALWAYS_AUTHENTICATE))
        return asks[self._entry.identifier]

    def is_there(self) -> bool:
        """Whether the token still has the private key."""
        identifier = self._entry.identifier
        return self._connection.run(
            "look for a key", lambda session: objects.private(session, identifier) is not None
        )

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

        def sign(session: Session) -> bytes:
            key = self._private(session)
            if not self._asks_each_time(key):
                return operations.sign(session, key, curve, octets, None)
            pin = login.confirm()
            with login.wrong_pin_told(pin):
                return operations.sign(session, key, curve, octets, pin)

        return connection.run("sign", sign)

    def _private(self, session: Session) -> Handle:
        found = objects.private(session, self._entry.identifier)
        if found is None:
            raise NotFoundError("the key is no longer on its token", uri=str(self.uri))
        if self._entry.record is None and self.use is not Use.SIGN:
            self._check_halves(session, found)
        return found

    def _check_halves(self, session: Session, found: Handle) -> None:
        """Once: the public half of a key that was not made here is what anybody left on the token.

        Signatures are verified with it whenever one is made.
        """
        dialect = Dialect.of(self._connection.sessions)
        subject = (self._entry.identifier, self.public)
        if subject in dialect.halves:
            return
        name = self.public.curve.name
        ways = dialect.ways_for(name)
        answer, way = operations.agree(session, found, self.public.curve.base, ways, private=True)
        if answer.x != self.public.x:
            raise DeviceError("the key's two halves do not belong together", uri=str(self.uri))
        dialect.ways[name] = way
        dialect.halves.add(subject)
