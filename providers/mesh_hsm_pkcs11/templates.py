"""What a key is told to be. Open this file to audit the attributes of every object that we make.

Each is set, none left to the module's defaults (hsm-1 §12); and since a template is only a wish,
``statements`` reads back what the token made of it. A module that does not know one of ``OPTIONAL``
refuses the whole template: it is then told the rest, and ``dialect`` remembers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from pkcs11 import Attribute, ObjectClass

from mesh_hsm.curves import Curve
from mesh_hsm.provider import Use
from mesh_hsm_pkcs11.binding import Kind, Mech

Template = dict[Attribute, Any]

PUBLIC_USES: Final = (
    Attribute.VERIFY,
    Attribute.VERIFY_RECOVER,
    Attribute.ENCRYPT,
    Attribute.WRAP,
)
"""What a public object may be used for: nothing that anybody could not do without the token."""

OPTIONAL: Final = (
    *PUBLIC_USES,
    Attribute.ALLOWED_MECHANISMS,
    Attribute.COPYABLE,
    Attribute.DESTROYABLE,
    Attribute.MODIFIABLE,
    Attribute.WRAP_WITH_TRUSTED,
    Attribute.SIGN_RECOVER,
)
"""Attributes without which a key is no less safe than the module lets it be."""


@dataclass(frozen=True, slots=True)
class Wish:
    """Which key is to be made. ``private`` is False only for trying things out without a login."""

    curve: Curve
    use: Use
    label: str
    identifier: bytes
    token: bool = True
    private: bool = True
    always_authenticate: bool = False

    @property
    def mechanism(self) -> Mech:
        """The one mechanism that the key is for."""
        if self.use is not Use.SIGN:
            return Mech.ECDH1_DERIVE
        return Mech.EDDSA if self.curve.family == "edwards" else Mech.ECDSA


def private_key(wish: Wish, kind: int) -> Template:
    """A private key: derive or sign, and never anything else."""
    signs = wish.use is Use.SIGN
    return {
        Attribute.CLASS: ObjectClass.PRIVATE_KEY,
        Attribute.KEY_TYPE: kind,
        Attribute.TOKEN: wish.token,
        Attribute.PRIVATE: wish.private,
        Attribute.SENSITIVE: True,
        Attribute.EXTRACTABLE: False,
        Attribute.SIGN: signs,
        Attribute.DERIVE: not signs,
        Attribute.SIGN_RECOVER: False,
        Attribute.DECRYPT: False,
        Attribute.UNWRAP: False,
        Attribute.WRAP_WITH_TRUSTED: False,
        Attribute.COPYABLE: False,
        Attribute.DESTROYABLE: True,
        Attribute.ALLOWED_MECHANISMS: (wish.mechanism,),
        Attribute.LABEL: wish.label,
        Attribute.ID: wish.identifier,
        **({Attribute.ALWAYS_AUTHENTICATE: True} if wish.always_authenticate else {}),
        Attribute.MODIFIABLE: False,  # last: to some modules it already holds for what follows
    }


def public_key(wish: Wish, kind: int, parameters: bytes) -> Template:
    """Its public half: legible without a login, so that keys can be listed without a PIN."""
    return {
        Attribute.CLASS: ObjectClass.PUBLIC_KEY,
        Attribute.KEY_TYPE: kind,
        Attribute.EC_PARAMS: parameters,
        Attribute.TOKEN: wish.token,
        Attribute.PRIVATE: False,
        Attribute.VERIFY: wish.use is Use.SIGN,
        Attribute.VERIFY_RECOVER: False,
        Attribute.ENCRYPT: False,
        Attribute.WRAP: False,
        Attribute.MODIFIABLE: False,
        Attribute.COPYABLE: False,
        Attribute.DESTROYABLE: True,
        Attribute.LABEL: wish.label,
        Attribute.ID: wish.identifier,
    }


def imported(wish: Wish, kind: int, parameters: bytes) -> Template:
    """A private key that is brought in the clear; CKA_VALUE is still to be added."""
    return {Attribute.EC_PARAMS: parameters, **private_key(wish, kind)}


def transport_public(identifier: bytes, bits: int) -> Template:
    """The public half of a key to wrap to: we read it, the token has no use for it."""
    return {
        Attribute.CLASS: ObjectClass.PUBLIC_KEY,
        Attribute.KEY_TYPE: Kind.RSA,
        Attribute.TOKEN: False,
        Attribute.PRIVATE: False,
        Attribute.MODULUS_BITS: bits,
        Attribute.PUBLIC_EXPONENT: b"\1\0\1",
        Attribute.VERIFY: False,
        Attribute.ENCRYPT: False,
        Attribute.WRAP: False,
        Attribute.ID: identifier,
    }


def transport_private(identifier: bytes) -> Template:
    """Its private half: unwraps one key, and is destroyed."""
    return {
        Attribute.CLASS: ObjectClass.PRIVATE_KEY,
        Attribute.KEY_TYPE: Kind.RSA,
        Attribute.TOKEN: False,
        Attribute.PRIVATE: True,
        Attribute.SENSITIVE: True,
        Attribute.EXTRACTABLE: False,
        Attribute.SIGN: False,
        Attribute.DECRYPT: False,
        Attribute.UNWRAP: True,
        Attribute.ID: identifier,
    }


def transport_secret(identifier: bytes) -> Template:
    """The AES key under which a share arrives: unwraps it, and is destroyed."""
    return {
        Attribute.CLASS: ObjectClass.SECRET_KEY,
        Attribute.KEY_TYPE: Kind.AES,
        Attribute.TOKEN: False,
        Attribute.PRIVATE: True,
        Attribute.SENSITIVE: True,
        Attribute.EXTRACTABLE: False,
        Attribute.ENCRYPT: False,
        Attribute.DECRYPT: False,
        Attribute.WRAP: False,
        Attribute.UNWRAP: True,
        Attribute.ID: identifier,
    }


def secret(size: int | None, *, private: bool) -> Template:
    """An agreement's answer: a session object that can be read once, and is then destroyed.

    ``size`` in octets; None where the module finds it out by itself, and insists on doing so.
    """
    return {
        Attribute.CLASS: ObjectClass.SECRET_KEY,
        Attribute.KEY_TYPE: Kind.GENERIC_SECRET,
        Attribute.TOKEN: False,
        Attribute.PRIVATE: private,
        Attribute.SENSITIVE: False,
        Attribute.EXTRACTABLE: True,
        **({} if size is None else {Attribute.VALUE_LEN: size}),
    }


def without(template: Template, left_out: frozenset[Attribute]) -> Template:
    """The template for a module that does not know these attributes."""
    return {name: value for name, value in template.items() if name not in left_out}
