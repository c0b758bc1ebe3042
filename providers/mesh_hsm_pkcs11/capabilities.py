"""What this token can do, asked of it. Open this file for how far each claim was tried."""

from __future__ import annotations

from mesh_hsm.custody import CustodyClass
from mesh_hsm.provider import Capability, Primitive, Use
from mesh_hsm_pkcs11 import trying
from mesh_hsm_pkcs11.connection import Connection
from mesh_hsm_pkcs11.curve_forms import OIDS
from mesh_hsm_pkcs11.dialect import Dialect
from mesh_hsm_pkcs11.sessions import Session

_PRIMITIVES = {Use.SIGN: Primitive.SIGN, Use.ENCRYPT: Primitive.AGREE_X}


def read(connection: Connection) -> frozenset[Capability]:
    """Every curve, tried with session keys; by the mechanism list where the token lets nobody try.

    Nobody is asked for a PIN: before a login the keys are public ones.
    """
    private = connection.login.is_in
    sessions = connection.sessions

    def ask(session: Session) -> frozenset[Capability]:
        dialect = Dialect.of(sessions)
        found: set[Capability] = set()
        for name in OIDS:
            for use, primitive in _PRIMITIVES.items():
                known = trying.try_out(sessions, session, name, use, private=private)
                subject = (name, use is Use.SIGN)
                if subject in dialect.proved if known else dialect.standard(name, use):
                    custody = dialect.custody.get(subject, CustodyClass.GENERATED)
                    found.add(Capability(name, primitive, custody))
        return frozenset(found)

    return connection.run("tell what it can do", ask, private=private)
