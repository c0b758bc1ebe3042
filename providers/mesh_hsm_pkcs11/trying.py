"""Trying a curve with a session key. Open this file to see what proves a capability.

The key exists for the length of a session, the answer is checked, and nothing is stored. Where the
token lets nobody do that before a login, its mechanism list must do until there is one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from pkcs11 import Attribute, SlotFlag
from pkcs11.exceptions import (
    AttributeSensitive,
    GeneralError,
    PKCS11Error,
    SessionReadOnly,
    UserNotLoggedIn,
)

from mesh_hsm.curves import Curve, Point, curve, ecdsa_digest_size, verify_prehashed
from mesh_hsm.errors import DeviceError, InvalidPointError
from mesh_hsm.provider import Use
from mesh_hsm_pkcs11 import objects, operations, statements, templates
from mesh_hsm_pkcs11.binding import key_type, mechanism, read
from mesh_hsm_pkcs11.curve_forms import peer_octets, read_point
from mesh_hsm_pkcs11.dialect import Dialect, Recipe, Refusal
from mesh_hsm_pkcs11.errors import HARMLESS, TEMPLATE, is_gone, is_refusal, name
from mesh_hsm_pkcs11.objects import Handle
from mesh_hsm_pkcs11.sessions import Session, Sessions
from mesh_hsm_pkcs11.templates import OPTIONAL, PUBLIC_USES, Wish

_LABEL: Final = "trial"


def try_out(sessions: Sessions, session: Session, algorithm: str, use: Use, private: bool) -> bool:
    """Find out whether the token does this, and how; what was found stands in its ``Dialect``.

    ``private`` says whether somebody is logged in. False: it cannot be found out (yet).
    """
    with Dialect.of(sessions).trying:  # one thread's half-finished findings would mislead another
        return _try_out(sessions, session, algorithm, use, private)


def _try_out(sessions: Sessions, session: Session, algorithm: str, use: Use, private: bool) -> bool:
    dialect = Dialect.of(sessions)
    subject = (algorithm, use is Use.SIGN)
    refused = dialect.refusals.get(subject)
    if subject in dialect.proved or (refused and (refused.final or not private)):
        return True
    if not dialect.lists(algorithm, use):
        dialect.refusals[subject] = Refusal(f"it lists no mechanism for {algorithm}", final=True)
        return True
    if private in dialect.no_trials or sessions.found.slot.flags & SlotFlag.REMOVABLE_DEVICE:
        return False  # on some cards there is no key but a stored one
    wish = Wish(curve(algorithm), use, _LABEL, os.urandom(8), token=False, private=private)
    try:
        with pair(dialect, session, wish) as (public, key):
            refusal = check(sessions, session, wish, public, key)
            custody = statements.classify(statements.told_of(key))
    except UserNotLoggedIn:
        return False
    except PKCS11Error as error:
        if is_gone(error):
            raise
        if isinstance(error, SessionReadOnly) or not is_refusal(error):
            return False
        if not dialect.proved and isinstance(error, (*TEMPLATE, GeneralError)):
            dialect.no_trials.add(private)  # perhaps it makes no such keys: the list must do
            return False
        refusal = f"it makes no such key ({name(error)})"
    if refusal:
        dialect.refusals[subject] = Refusal(refusal, final=private)
    else:
        dialect.refusals.pop(subject, None)
        dialect.proved.add(subject)
        dialect.custody[subject] = custody
    return True


@contextmanager
def pair(dialect: Dialect, session: Session, wish: Wish) -> Iterator[tuple[Handle, Handle]]:
    """A key pair for the length of a block, by the first recipe that the token takes."""
    public, private = generate(dialect, session, wish)
    try:
        yield public, private
    finally:
        for thing in (private, public):
            thing.discard()


def generate(dialect: Dialect, session: Session, wish: Wish) -> tuple[Handle, Handle]:
    """C_GenerateKeyPair. Remembers the recipe, and which attributes the token would not have.

    The token's last error passes through if it took none.
    """
    failed: PKCS11Error | None = None
    for recipe in dialect.recipes_for(wish.curve.name):
        try:
            made = _generate(dialect, session, wish, recipe)
        except PKCS11Error as error:
            if not is_refusal(error):
                raise
            failed = error
            continue
        dialect.recipes[wish.curve.name] = recipe
        return made
    assert failed is not None  # noqa: S101  there was a recipe, or nobody would have asked
    raise failed


def _generate(
    dialect: Dialect, session: Session, wish: Wish, recipe: Recipe
) -> tuple[Handle, Handle]:
    known = dialect.told_without(token=wish.token)
    sets = [known]
    if wish.token not in dialect.left_out:
        sets += [left_out for left_out in _LEFT_OUT if left_out != known]
    refused: PKCS11Error | None = None
    for left_out in sets:
        try:
            made = _ask(session, wish, recipe, left_out)
        except PKCS11Error as error:
            if not is_refusal(error):
                raise
            refused = refused or error
            if wish.token:  # some modules do it, and say that they did not
                objects.destroy(session, wish.identifier)
            continue
        if wish.token not in dialect.left_out:
            least = left_out if wish.token else _least(session, wish, recipe, left_out)
            dialect.left_out[wish.token] = least
        return made
    assert refused is not None  # noqa: S101  there was at least one set
    raise refused


# Few, since each refusal may cost the token something: everything it is told; without what any
# public key may do; without what PKCS #11 has had only since 2.20 and 2.40, which some modules know
# for session objects and not for stored ones; and without all that a key is no less safe without.
_LEFT_OUT: Final = (
    frozenset[Attribute](),
    frozenset(PUBLIC_USES),
    frozenset({Attribute.ALLOWED_MECHANISMS, Attribute.COPYABLE, Attribute.DESTROYABLE}),
    frozenset(OPTIONAL),
)


def _least(
    session: Session, wish: Wish, recipe: Recipe, left_out: frozenset[Attribute]
) -> frozenset[Attribute]:
    """The attributes that the token really cannot be told, found one by one with session keys."""
    for attribute in sorted(left_out):
        with suppress(PKCS11Error):
            for thing in _ask(session, wish, recipe, left_out - {attribute}):
                thing.discard()
            left_out -= {attribute}
    return left_out


def _ask(
    session: Session, wish: Wish, recipe: Recipe, left_out: frozenset[Attribute]
) -> tuple[Handle, Handle]:
    with session.at_risk(*HARMLESS):
        public, private = session.raw._generate_keypair(
            key_type(recipe.kind),
            mechanism=mechanism(recipe.mechanism),
            capabilities=0,
            public_template=templates.without(
                templates.public_key(wish, recipe.kind, recipe.parameters), left_out
            ),
            private_template=templates.without(templates.private_key(wish, recipe.kind), left_out),
        )
    # The binding's objects are of no further use: their handles are.
    return Handle.of(session, public), Handle.of(session, private)


def check(
    sessions: Sessions, session: Session, wish: Wish, public: Handle, key: Handle
) -> str | None:
    """Use a new key once, and check the answer: why it will not do, or None.

    The token's errors pass through where they say nothing about the key.
    """
    try:
        point = public_point(Dialect.of(sessions), wish.curve, public)
        if wish.use is Use.SIGN:
            return _check_signature(session, key, point, wish)
        return _check_agreement(sessions, session, key, point, wish)
    except (InvalidPointError, DeviceError) as error:
        return str(error)


def public_point(dialect: Dialect, c: Curve, public: Handle) -> Point:
    """The public key of a pair; its form is remembered.

    Raises ``DeviceError``, ``InvalidPointError``.
    """
    told = read(public, (Attribute.EC_POINT,))
    if Attribute.EC_POINT not in told:
        raise DeviceError("the token does not tell the key's public point")
    point = read_point(c, told[Attribute.EC_POINT])
    dialect.der_points[c.name] = told[Attribute.EC_POINT] != peer_octets(point)
    return point


def _check_agreement(
    sessions: Sessions, session: Session, key: Handle, X: Point, wish: Wish
) -> str | None:
    dialect, c = Dialect.of(sessions), wish.curve
    try:
        ways = dialect.ways_for(c.name)
        answer, way = operations.agree(session, key, c.base, ways, private=wish.private)
    except AttributeSensitive:
        return "it derives no secret that can be read: a FIPS token, perhaps, or its policy"
    except PKCS11Error as error:
        if not is_refusal(error):
            raise
        return (
            f"it does not derive a readable secret without a KDF, CKD_NULL ({name(error)}): a FIPS "
            "token, perhaps, or its policy"
        )
    if answer.x != X.x:
        return "its agreement is not the one of the key that it shows"
    dialect.ways[c.name] = way
    return None


def digest_size(c: Curve) -> int:
    """Octets to sign in a trial: ECDSA wants its digest's length, EdDSA takes any message."""
    return ecdsa_digest_size(c) or 32


def _check_signature(session: Session, key: Handle, X: Point, wish: Wish) -> str | None:
    octets = os.urandom(digest_size(wish.curve))
    try:
        signature = operations.sign(session, key, wish.curve, octets, None)
    except PKCS11Error as error:
        if not is_refusal(error):
            raise
        return f"its key does not sign ({name(error)})"
    return None if verify_prehashed(X, octets, signature) else "its signature does not verify"
