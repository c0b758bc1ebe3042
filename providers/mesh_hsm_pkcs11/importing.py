"""Taking a key from outside. Open this file to see by which way a share enters a token.

Wrapped under a key that the token made for this one share, where it unwraps such keys; else by
``C_CreateObject``, in the clear through the module's memory. The custody statement says which, and
that nobody can show an imported key to exist only there. Only a refusal leads from the one way to
the other: a device error ends the import.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from typing import Any, Final, TypeVar

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, HashAlgorithm
from pkcs11 import MGF, Attribute, Mechanism, ObjectClass
from pkcs11 import exceptions as ckr
from pkcs11.exceptions import PKCS11Error

from mesh_hsm.curves import SecretScalar
from mesh_hsm.custody import CustodyClass
from mesh_hsm.errors import UnsupportedError
from mesh_hsm.provider import KeySpec
from mesh_hsm_pkcs11 import creating, objects, statements, templates, trying, wrapping
from mesh_hsm_pkcs11.binding import Kind, Mech, key_type, mechanism, read
from mesh_hsm_pkcs11.curve_forms import point_attribute
from mesh_hsm_pkcs11.dialect import Dialect, Recipe
from mesh_hsm_pkcs11.errors import REFUSED, is_uninitialised, name
from mesh_hsm_pkcs11.keys import Entry, Keys
from mesh_hsm_pkcs11.objects import Handle
from mesh_hsm_pkcs11.records import Record
from mesh_hsm_pkcs11.sessions import Session
from mesh_hsm_pkcs11.templates import OPTIONAL, Template, Wish

T = TypeVar("T")
_Digest = tuple[HashAlgorithm, Mechanism, MGF]

# Collisions do not matter in OAEP, and SHA-1 is all that some modules have for it.
_DIGESTS: Final[tuple[_Digest, ...]] = (
    (SHA256(), Mechanism.SHA256, MGF.SHA256),
    (SHA1(), Mechanism.SHA_1, MGF.SHA1),  # noqa: S303  see above
)
# Both are RFC 5649 in most modules: 0x210A was it, before v3.0 gave it a number of its own.
_KEY_WRAPS: Final = (Mech.AES_KEY_WRAP_KWP, Mech.AES_KEY_WRAP_PAD)
_BITS: Final = 3072
_REFUSALS: Final = (
    *REFUSED,
    ckr.EncryptedDataInvalid,
    ckr.EncryptedDataLenRange,
    ckr.FunctionRejected,
    ckr.UnwrappingKeyHandleInvalid,
    ckr.UnwrappingKeySizeRange,
    ckr.UnwrappingKeyTypeInconsistent,
    ckr.WrappedKeyInvalid,
    ckr.WrappedKeyLenRange,
)


class _NotUnwrappedError(UnsupportedError):
    """The token takes no such share wrapped; there is another way."""


def import_share(
    keys: Keys, spec: KeySpec, share: SecretScalar, known_by: tuple[str, ...]
) -> Entry:
    """Put a raw scalar on the token, or leave nothing.

    Raises ``UnsupportedError`` for a token that takes none from outside, and what ``creating.add``
    raises.
    """
    c = share.curve
    odd = c.family == "montgomery" and share.public().is_odd
    dialect = Dialect.of(keys.connection.sessions)
    record = Record(
        label=spec.label,
        identifier=objects.new_identifier(spec.use, odd=odd).hex(),
        use=spec.use,
        pin=spec.pin,
        origin="wrapped",
        known_by=known_by,
    ).of(share.public())
    if _may_unwrap(dialect, c.name):
        try:
            return creating.add(keys, spec, partial(_by_unwrapping, dialect, share), record)
        except _NotUnwrappedError:
            dialect.not_unwrapped.add(c.name)
    in_the_clear = replace(record, origin="created")
    return creating.add(keys, spec, partial(_by_creating, dialect, share), in_the_clear)


# -- in the clear ----------------------------------------------------------------------------------


def _by_creating(
    dialect: Dialect, share: SecretScalar, session: Session, wish: Wish
) -> tuple[Handle, Handle]:
    recipe = _recipe(dialect, session, wish)
    template = templates.imported(wish, recipe.kind, recipe.parameters)

    def create(left_out: frozenset[Attribute]) -> Handle:
        # Its octets stand in no variable that a traceback could show.
        told = templates.without(template, left_out)
        return Handle.of(
            session,
            session.raw.create_object({Attribute.VALUE: wrapping.value(share), **told}),
        )

    try:
        key = _first(
            [partial(create, left_out) for left_out in _left_out(dialect)],
            partial(_clear_away, session, wish, ObjectClass.PRIVATE_KEY),
        )
    except PKCS11Error as error:
        if not _is_refusal(error):
            raise
        said = f"the token takes no {share.curve.name} key from outside ({name(error)})"
        raise UnsupportedError(said) from error
    return _with_public(dialect, share, session, wish, recipe, key)


# -- wrapped ---------------------------------------------------------------------------------------


def _may_unwrap(dialect: Dialect, name: str) -> bool:
    return (
        Mech.RSA_PKCS_KEY_PAIR_GEN in dialect.mechanisms
        and dialect.unwraps(Mech.RSA_PKCS_OAEP)
        and any(dialect.unwraps(number) for number in _KEY_WRAPS)
        and name not in dialect.not_unwrapped
    )


def _by_unwrapping(
    dialect: Dialect, share: SecretScalar, session: Session, wish: Wish
) -> tuple[Handle, Handle]:
    recipe = _recipe(dialect, session, wish)
    refused: PKCS11Error | None = None
    with _passing(session) as passing:
        try:
            own, to = _transport_pair(dialect, session, passing)
            under, wrapped = _first(
                [partial(_send_key, own, to, share, passing, digest) for digest in _DIGESTS]
            )
            key = _send_share(dialect, session, wish, recipe, under, wrapped).handle
        except PKCS11Error as error:
            if not _is_refusal(error):
                raise
            refused = error
    if refused is not None:
        raise _NotUnwrappedError(
            f"the token unwraps no {share.curve.name} key ({name(refused)})"
        ) from refused
    told = statements.told_of(key)
    if statements.classify(told) is CustodyClass.EXPORTABLE:
        key.destroy()
        raise _NotUnwrappedError("what the token unwraps can leave it, whatever it is told")
    if statements.uses(told) != [statements.use_of(wish.use)]:
        key.destroy()
        raise _NotUnwrappedError("what the token unwraps may do more than it is told")
    return _with_public(dialect, share, session, wish, recipe, key)


class _Made:
    """One of the binding's objects, to unwrap with. Printed, that would ask the token."""

    def __init__(self, session: Session, made: Any) -> None:
        self.handle = Handle.of(session, made)
        self._session, self._made = session, made

    def unwrap(
        self, wrapped: bytes, template: Template, number: Mech, parameter: Any = None
    ) -> _Made:
        """C_UnwrapKey. The token's errors pass through."""
        if not hasattr(self._made, "unwrap_key"):  # made not to, whatever it was told
            raise ckr.KeyTypeInconsistent
        return _Made(
            self._session,
            self._made.unwrap_key(
                template[Attribute.CLASS],
                key_type(template[Attribute.KEY_TYPE]),
                wrapped,
                mechanism=mechanism(number),
                mechanism_param=parameter,
                capabilities=0,
                template=template,
            ),
        )


def _transport_pair(
    dialect: Dialect, session: Session, passing: _Passing
) -> tuple[_Made, RSAPublicKey]:
    """A key pair to wrap to, made in the token: its private half, and what is wrapped to."""
    _, _, largest = dialect.mechanisms[Mech.RSA_PKCS_KEY_PAIR_GEN]
    bits = largest if wrapping.SMALLEST <= largest < _BITS else _BITS
    public_template = templates.transport_public(passing.identifier, bits)
    public, private = (
        _Made(session, made)
        for made in session.raw._generate_keypair(
            key_type(Kind.RSA),
            bits,
            mechanism=mechanism(Mech.RSA_PKCS_KEY_PAIR_GEN),
            capabilities=0,
            public_template=templates.without(public_template, dialect.told_without(token=False)),
            private_template=templates.transport_private(passing.identifier),
        )
    )
    passing.made.extend((public.handle, private.handle))
    told = read(public.handle, (Attribute.MODULUS, Attribute.PUBLIC_EXPONENT))
    modulus, exponent = (
        told.get(number, b"") for number in (Attribute.MODULUS, Attribute.PUBLIC_EXPONENT)
    )
    return private, wrapping.transport_key(modulus, exponent)


def _send_key(
    own: _Made, to: RSAPublicKey, share: SecretScalar, passing: _Passing, digest: _Digest
) -> tuple[_Made, bytes]:
    """A fresh AES key, unwrapped in the token, and the share wrapped under it."""
    algorithm, number, mgf = digest
    wrapped = wrapping.wrap(share, to, algorithm)
    template = templates.transport_secret(passing.identifier)
    under = own.unwrap(wrapped.key, template, Mech.RSA_PKCS_OAEP, (number, mgf, None))
    passing.made.append(under.handle)
    return under, wrapped.share


def _send_share(
    dialect: Dialect, session: Session, wish: Wish, recipe: Recipe, under: _Made, wrapped: bytes
) -> _Made:
    """The share, unwrapped in the token under the AES key that is there."""
    template = templates.private_key(wish, recipe.kind)
    numbers = [number for number in _KEY_WRAPS if dialect.unwraps(number)]
    return _first(
        [
            partial(under.unwrap, wrapped, templates.without(template, left_out), number)
            for number, left_out in product(numbers, _left_out(dialect))
        ],
        partial(_clear_away, session, wish, ObjectClass.PRIVATE_KEY),
    )


@dataclass(frozen=True, slots=True)
class _Passing:
    """Session objects of one import, and the CKA_ID that they bear."""

    identifier: bytes = field(default_factory=partial(os.urandom, 8))
    made: list[Handle] = field(default_factory=list)


@contextmanager
def _passing(session: Session) -> Iterator[_Passing]:
    """Session objects that are destroyed at the end. If one stays, its session is closed."""
    passing = _Passing()
    try:
        yield passing
    except BaseException:
        session.sound = False
        raise
    finally:  # of two errors the first counts: it decides what is tried next
        for thing in reversed(passing.made):
            thing.discard()
        # And what was made though the answer was lost, or a refusal.
        with suppress(PKCS11Error):
            for thing in objects.search(
                session, {Attribute.TOKEN: False, Attribute.ID: passing.identifier}
            ):
                thing.discard()


# -- both ------------------------------------------------------------------------------------------


def _recipe(dialect: Dialect, session: Session, wish: Wish) -> Recipe:
    """How this token names the curve, seen at a generation: one crashes on a name that it took."""
    if wish.curve.name not in dialect.der_points:  # it makes no session keys to learn that from
        try:
            with trying.pair(dialect, session, wish) as (public, _):
                trying.public_point(dialect, wish.curve, public)
        finally:
            objects.destroy(session, wish.identifier)
    return dialect.recipes[wish.curve.name]


def _with_public(
    dialect: Dialect,
    share: SecretScalar,
    session: Session,
    wish: Wish,
    recipe: Recipe,
    key: Handle,
) -> tuple[Handle, Handle]:
    """The public half beside the private one, as the token forms it when it makes both."""
    made = [key]
    try:
        identifier = read(key, (Attribute.ID,)).get(Attribute.ID, wish.identifier)
        wish = replace(wish, identifier=identifier)
        point = point_attribute(share.public(), der=dialect.der_points[wish.curve.name])
        template = templates.public_key(wish, recipe.kind, recipe.parameters)
        template[Attribute.EC_POINT] = point
        public = _first(
            [
                partial(_create, session, templates.without(template, left_out))
                for left_out in _left_out(dialect)
            ],
            partial(_clear_away, session, wish, ObjectClass.PUBLIC_KEY),
        )
        made.append(public)
        if read(public, (Attribute.ID,)).get(Attribute.ID, identifier) != identifier:
            raise UnsupportedError("the token gives the two halves of a key different CKA_IDs")
    except BaseException:
        for thing in made:  # nobody finds what bears an identifier of the token's
            with suppress(PKCS11Error):
                thing.destroy()
        raise
    return public, key


def _create(session: Session, template: Template) -> Handle:
    return Handle.of(session, session.raw.create_object(template))


def _left_out(dialect: Dialect) -> list[frozenset[Attribute]]:
    """What was left out when the token generated keys, then everything that can be."""
    return list(dict.fromkeys((dialect.told_without(token=True), frozenset(OPTIONAL))))


def _first(attempts: Iterable[Callable[[], T]], undo: Callable[[], None] | None = None) -> T:
    """What the first attempt gives that is not refused. The first refusal, if all are.

    ``undo`` follows each refusal: the object may be there, and only reading it have failed.
    """
    refused: PKCS11Error | None = None
    for attempt in attempts:
        try:
            return attempt()
        except PKCS11Error as error:
            if not _is_refusal(error):
                raise
            refused = refused or error
        if undo is not None:
            undo()
    assert refused is not None  # noqa: S101  there was at least one attempt
    raise refused


def _clear_away(session: Session, wish: Wish, kind: ObjectClass) -> None:
    objects.destroy(session, wish.identifier, (kind,))


def _is_refusal(error: PKCS11Error) -> bool:
    """Whether the token will not have it so: it may in another way. An unknown code counts."""
    unknown = type(error) is PKCS11Error and not is_uninitialised(error)
    return unknown or isinstance(error, _REFUSALS)
