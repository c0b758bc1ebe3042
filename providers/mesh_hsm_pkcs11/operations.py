"""The two calls that use a private key. Open this file to audit agreement and signature.

``C_DeriveKey`` by ECDH1 without a KDF gives a session object; its value is read once, and it is
destroyed whatever happens. ``C_Sign`` gives a signature that the contract verifies before release.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Final

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from pkcs11 import Attribute
from pkcs11.exceptions import (
    ArgumentsBad,
    MechanismParamInvalid,
    PKCS11Error,
    UserAlreadyLoggedIn,
)

from mesh_hsm.curves import Curve, Point, XOnly
from mesh_hsm.errors import DeviceError
from mesh_hsm_pkcs11 import templates
from mesh_hsm_pkcs11.binding import Mech, packed
from mesh_hsm_pkcs11.cryptoki import CONTEXT_SPECIFIC
from mesh_hsm_pkcs11.curve_forms import point_attribute
from mesh_hsm_pkcs11.errors import HARMLESS, REFUSED
from mesh_hsm_pkcs11.objects import Handle
from mesh_hsm_pkcs11.pin import Pin
from mesh_hsm_pkcs11.sessions import Session
from mesh_hsm_pkcs11.structures import Template


@dataclass(frozen=True, slots=True)
class Way:
    """How a module wants to be asked for an agreement."""

    der: bool
    sized: bool


# Raw points and a length first: every module seen so far takes these.
WAYS: Final = (Way(False, True), Way(False, False), Way(True, True), Way(True, False))


def agree(
    session: Session, key: Handle, P: Point, ways: Iterable[Way], *, private: bool
) -> tuple[XOnly, Way]:
    """x(kP), and the first of ``ways`` that the module took.

    The module's own error for the first way passes through if it took none.
    """
    refused: PKCS11Error | None = None
    for way in ways:
        try:
            return _agree(session, key.handle, P, way, private), way
        except REFUSED as error:
            refused = refused or error
    assert refused is not None  # noqa: S101  there is at least one way
    raise refused


def _agree(session: Session, key: int, P: Point, way: Way, private: bool) -> XOnly:
    curve, cryptoki = P.curve, session.cryptoki
    template = _secret(curve.field_size if way.sized else None, private)
    handle = session.handle
    with session.at_risk(*HARMLESS):
        peer = point_attribute(P, der=way.der)
        secret = cryptoki.derive(handle, key, Mech.ECDH1_DERIVE, peer, template)
    with session.at_risk():
        try:
            octets = cryptoki.read(handle, secret, Attribute.VALUE, curve.field_size)
        finally:
            cryptoki.destroy(handle, secret)
    if len(octets) < curve.field_size and curve.byteorder == "big":
        octets = octets.rjust(curve.field_size, b"\0")  # some tokens drop leading zeros
    if (size := len(octets)) != curve.field_size:
        del octets  # secret, and not for a traceback
        raise DeviceError(f"the token's agreement on {curve.name} has {size} octets")
    return XOnly.decode(curve, octets)


@cache
def _secret(size: int | None, private: bool) -> Template:
    return packed(templates.secret(size, private=private))


# Whether EdDSA is asked with parameters (PKCS #11 v3.0 §2.3.14). They would make Ed25519 another
# scheme, Ed25519ctx; Ed448 has them by the book, and some modules sign without.
_WITH_PARAMETERS: Final = {"Ed25519": (False,), "Ed448": (True, False)}


def sign(session: Session, key: Handle, curve: Curve, octets: bytes, pin: Pin | None) -> bytes:
    """A signature as the contract wants it: r || s at field width, or EdDSA's octets.

    ``pin`` is for a key that wants one each time: it goes to the token between C_SignInit and
    C_Sign. The module's own errors pass through.
    """
    handle = key.handle
    if curve.family != "edwards":
        size = 2 * curve.scalar_size
        return _plain(curve, _sign(session, handle, Mech.ECDSA, octets, size, pin))
    size = 2 * curve.encoded_size
    *first, last = _WITH_PARAMETERS[curve.name]
    for parameters in first:
        try:
            return _sign(session, handle, Mech.EDDSA, octets, size, pin, parameters=parameters)
        except (MechanismParamInvalid, ArgumentsBad):
            continue
    return _sign(session, handle, Mech.EDDSA, octets, size, pin, parameters=last)


def _sign(
    session: Session,
    key: int,
    mechanism: Mech,
    octets: bytes,
    size: int,
    pin: Pin | None,
    *,
    parameters: bool = False,
) -> bytes:
    cryptoki, handle = session.cryptoki, session.handle
    with session.at_risk(*HARMLESS):
        cryptoki.sign_init(handle, key, mechanism, parameters=parameters)
    with session.at_risk():  # until the operation is over: not every error ends it everywhere
        if pin is not None:
            with suppress(UserAlreadyLoggedIn):  # it says that it asks each time, and does not
                cryptoki.login(handle, CONTEXT_SPECIFIC, pin)
        return cryptoki.sign(handle, octets, size)


def _plain(curve: Curve, signature: bytes) -> bytes:
    """r || s, also from modules that answer with DER."""
    if len(signature) == 2 * curve.scalar_size:
        return signature
    try:
        r, s = decode_dss_signature(signature)
        return r.to_bytes(curve.scalar_size, "big") + s.to_bytes(curve.scalar_size, "big")
    except (ValueError, OverflowError) as error:
        raise DeviceError("the token's signature has an unknown form") from error
