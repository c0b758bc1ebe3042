"""What this token can do, asked of it. Open this file for how far each claim was tried."""

from __future__ import annotations

from itertools import product

from mesh_hsm.custody import CustodyClass
from mesh_hsm.provider import Capability, Primitive, Use
from mesh_hsm_pkcs11 import trying
from mesh_hsm_pkcs11.connection import Connection
from mesh_hsm_pkcs11.curve_forms import OIDS
from mesh_hsm_pkcs11.dialect import Dialect

_PRIMITIVES = {Use.SIGN: Primitive.SIGN, Use.ENCRYPT: Primitive.AGREE_X}


def read(connection: Connection) -> frozenset[Capability]:
    """Every curve, tried with session keys; by the mechanism list where the token lets nobody try.

    Nobody is asked for a PIN: before a login the keys are public ones.
    """
    sessions = connection.sessions
    dialect = Dialect.of(sessions)
    connection.run("list its mechanisms", lambda _: dialect.mechanisms, private=False)
    found: set[Capability] = set()
    for name, (use, primitive) in product(OIDS, _PRIMITIVES.items()):
        known = _try_out(connection, name, use)
        subject = (name, use is Use.SIGN)
        if subject in dialect.proved if known else dialect.standard(name, use):
            custody = dialect.custody.get(subject, CustodyClass.GENERATED)
            found.add(Capability(name, primitive, custody))
    return frozenset(found)


def _try_out(connection: Connection, name: str, use: Use) -> bool:
    """One trial in a session of its own: what a token leaves behind in it spoils no other."""
    private = connection.login.is_in
    return connection.run(
        "let a key be tried",
        lambda session: trying.try_out(connection.sessions, session, name, use, private=private),
        private=private,
    )
