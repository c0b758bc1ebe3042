"""Objects on a token: which are ours, and how one is found. Open this file when a key is not found.

Ours carry it in CKA_ID: ``mesh-hsm``, a version octet, a use octet, ten random octets. The use is a
capital letter where the public point of X25519 or X448 is odd, which only an imported key's can be:
tokens keep its u alone. A key is looked up by what it is called, never by listing everything.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from pkcs11 import Attribute, Object, ObjectClass
from pkcs11.exceptions import PKCS11Error, UserNotLoggedIn

from mesh_hsm.curves import Point
from mesh_hsm.errors import DeviceError, InvalidPointError
from mesh_hsm.provider import Use
from mesh_hsm_pkcs11.binding import packed, read
from mesh_hsm_pkcs11.curve_forms import read_curve, read_point
from mesh_hsm_pkcs11.errors import VANISHED
from mesh_hsm_pkcs11.sessions import Session

SEALING: Final = b"w"
KEY_PAIR: Final = (ObjectClass.PRIVATE_KEY, ObjectClass.PUBLIC_KEY)
_MARK: Final = b"mesh-hsm\x01"
_SIZE: Final = 20
_USES: Final = {Use.SIGN: b"s", Use.ENCRYPT: b"e", Use.AUTHENTICATE: b"a"}
_BY_OCTET: Final = {octet: use for use, octet in _USES.items()}
_PUBLIC: Final = (Attribute.LABEL, Attribute.ID, Attribute.EC_PARAMS, Attribute.EC_POINT)


@dataclass(frozen=True, slots=True)
class PublicObject:
    """What a token shows of a key without a login. ``use`` is None for a key not marked as ours.

    ``point`` is as the token has it: even on X25519 and X448, though ``odd`` may be its true sign.
    """

    label: str
    identifier: bytes
    point: Point
    use: Use | None
    odd: bool


def new_identifier(use: Use | None, *, odd: bool = False) -> bytes:
    """A CKA_ID for a key of this use; None: the key under which secrets are sealed.

    ``odd``: of an X25519 or X448 key with an odd public point.
    """
    octet = SEALING if use is None else _USES[use]
    if odd:
        octet = octet.upper()
    return _MARK + octet + os.urandom(_SIZE - len(_MARK) - 1)


def is_marked(identifier: bytes) -> bool:
    """Whether a CKA_ID is one that we give."""
    return _use_octet(identifier).lower() in {SEALING, *_BY_OCTET}


def is_for_sealing(identifier: bytes) -> bool:
    """Whether a CKA_ID is that of a key to seal under."""
    return _use_octet(identifier) == SEALING


def publics(session: Session, **wanted: Any) -> Iterator[PublicObject]:
    """The elliptic public keys on the token, all or those with ``label`` or ``identifier``."""
    template: dict[Attribute, Any] = {
        Attribute.CLASS: ObjectClass.PUBLIC_KEY,
        Attribute.TOKEN: True,
        **{_NAMES[name]: value for name, value in wanted.items()},
    }
    for found in search(session, template):
        told = read(found, _PUBLIC)
        curve = read_curve(told.get(Attribute.EC_PARAMS, b""))
        if curve is None or not told.get(Attribute.LABEL):
            continue  # another kind of key, or one that nobody could name
        identifier = told.get(Attribute.ID, b"")
        with suppress(DeviceError, InvalidPointError, KeyError):
            point = read_point(curve, told[Attribute.EC_POINT])
            octet = _use_octet(identifier)
            yield PublicObject(
                told[Attribute.LABEL],
                identifier,
                point,
                use=_BY_OCTET.get(octet.lower()),
                odd=octet.isupper(),
            )


def signed(point: Point, odd: bool) -> Point:
    """An X25519 or X448 point with this sign. On other curves the point is its own."""
    return point if point.curve.family != "montgomery" or point.is_odd == odd else -point


@dataclass(frozen=True, slots=True)
class Handle:
    """An object in a session: CK_OBJECT_HANDLE."""

    session: Session
    handle: int

    @classmethod
    def of(cls, session: Session, made: Object) -> Handle:
        """The handle of one that the binding made."""
        return cls(session, int(made.handle or 0))

    def octets(self, wanted: Sequence[int]) -> dict[int, bytes]:
        """Those attributes that the token tells, as it has them."""
        return self.session.cryptoki.read_all(self.session.handle, self.handle, wanted)

    def destroy(self) -> None:
        """C_DestroyObject."""
        self.session.cryptoki.destroy(self.session.handle, self.handle)

    def discard(self) -> None:
        """Destroy a session object. One that will not go ends with its session, which is closed."""
        with suppress(PKCS11Error), self.session.at_risk():
            self.destroy()


def private(session: Session, identifier: bytes) -> Handle | None:
    """The private key with this CKA_ID; looked for once in a session.

    Raises ``UserNotLoggedIn`` where none is seen because somebody has logged us out.
    """
    if identifier not in session.objects:
        wanted = {Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.ID: identifier}
        found = search(session, wanted)
        if not found:
            if not session.cryptoki.is_logged_in(session.handle):
                raise UserNotLoggedIn
            return None
        if len(found) > 1:
            raise DeviceError(f"{len(found)} private keys on the token have the same CKA_ID")
        session.objects[identifier] = found[0].handle
    return Handle(session, session.objects[identifier])


def destroy(session: Session, identifier: bytes, kinds: tuple[ObjectClass, ...] = KEY_PAIR) -> None:
    """Destroy every object with this CKA_ID, the private one first. None left is no error."""
    session.objects.pop(identifier, None)
    for kind in kinds:
        wanted = {Attribute.CLASS: kind, Attribute.TOKEN: True, Attribute.ID: identifier}
        for found in search(session, wanted):
            with suppress(*VANISHED):
                found.destroy()


def search(session: Session, template: dict[Attribute, Any]) -> list[Handle]:
    """Every object that fits. The search is over when this returns: a second one may begin."""
    try:
        found = session.cryptoki.find(session.handle, packed(template))
        return [Handle(session, handle) for handle in found]
    except PKCS11Error:
        session.sound = False  # the search may still be open in it
        raise


def _use_octet(identifier: bytes) -> bytes:
    if len(identifier) != _SIZE or not identifier.startswith(_MARK):
        return b""
    return identifier[len(_MARK) : len(_MARK) + 1]


_NAMES: Final = {"label": Attribute.LABEL, "identifier": Attribute.ID}
