"""What a YubiKey proves of a key that it made: the attestation certificate, read and verified.

Open this file for the extensions of such a certificate and for ``verify``. Pure functions: the
octets come from the card (INS F9 and data object 5FFF01) or from a peer's evidence. Source:
developers.yubico.com/PIV/Introduction/PIV_attestation.html. The certificate names no time and no
verifier: only a possession challenge shows that the key is at hand (``evidence``; hsm-1 §11).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from mesh_hsm.curves import Point
from mesh_hsm.custody import Hardware, PinPolicy, TouchPolicy
from mesh_hsm.errors import CannotVerifyError, FormatError, InvalidPointError, VerificationError
from mesh_hsm_yubikey import chain, roots
from mesh_hsm_yubikey.firmware import Version
from mesh_hsm_yubikey.points import point_of
from mesh_hsm_yubikey.roots import Roots


class Oid(StrEnum):
    """Yubico's extensions; FIPS and CSPN stand in F9's own certificate only."""

    FIRMWARE = "1.3.6.1.4.1.41482.3.3"
    SERIAL = "1.3.6.1.4.1.41482.3.7"
    POLICY = "1.3.6.1.4.1.41482.3.8"
    FORM_FACTOR = "1.3.6.1.4.1.41482.3.9"
    FIPS = "1.3.6.1.4.1.41482.3.10"
    CSPN = "1.3.6.1.4.1.41482.3.11"


SLOTS: Final = frozenset(
    {"9a", "9c", "9d", "9e", *(f"{number:02x}" for number in range(0x82, 0x96))}
)
"""Slots whose keys can be attested, as the certificate's subject writes them."""

_SUBJECT = "YubiKey PIV Attestation "
_PIN = {1: PinPolicy.NONE, 2: PinPolicy.ONCE, 3: PinPolicy.ALWAYS}
_BIOMETRIC = (4, 5)
_TOUCH = {1: TouchPolicy.NONE, 2: TouchPolicy.ALWAYS, 3: TouchPolicy.CACHED}
_FIPS = 0x80
_DER_INTEGER = 0x02
_LONGEST_SERIAL = 5  # 32 bits and a sign


@dataclass(frozen=True, slots=True)
class Attestation:
    """What was proved, on the word of ``root``: this key was made in this device and stays there.

    ``serial`` and ``form_factor`` are None where the certificate does not tell them: firmware 4
    knows no form factor, and a serial number can be hidden. ``fips`` and ``cspn`` say that the
    device was sold as certified, not that it is set up that way.
    """

    slot: str
    public: Point
    firmware: Version
    serial: int | None
    pin_policy: PinPolicy
    touch_policy: TouchPolicy
    form_factor: int | None
    fips: bool
    cspn: bool
    root: str
    hardware: Hardware

    @property
    def algorithm(self) -> str:
        """The curve's name."""
        return self.public.curve.name


def verify(
    slot_certificate: bytes,
    f9_certificate: bytes,
    trusted: Roots | None = None,
    *,
    at: datetime | None = None,
) -> Attestation:
    """Verify an attestation in DER under F9's certificate and Yubico's roots, or ``trusted``.

    ``at`` is the time that certificates must be valid at: now, if None. Raises ``FormatError`` for
    what is malformed, ``VerificationError`` for what does not check, ``CannotVerifyError`` for
    what cannot be judged: a key of no curve here, or (``UnknownRootError``) a root unknown here.
    """
    slot = chain.load(slot_certificate, "the attestation")
    f9 = chain.load(f9_certificate, "the certificate of slot F9")
    anchor = chain.verify(slot, f9, trusted or Roots.yubico(), at or datetime.now(UTC))
    form_factor = _form_factor(slot)
    pin, touch = parse_policies(_required(slot, Oid.POLICY))
    marked_fips = form_factor is not None and bool(form_factor & _FIPS)
    return Attestation(
        slot=_slot(slot),
        public=_point(slot),
        firmware=parse_firmware(_required(slot, Oid.FIRMWARE)),
        serial=_serial(slot),
        pin_policy=pin,
        touch_policy=touch,
        form_factor=form_factor,
        fips=marked_fips or _extension(f9, Oid.FIPS) is not None,
        cspn=_extension(f9, Oid.CSPN) is not None,
        root=roots.common_name(anchor.subject),
        hardware=roots.hardware(anchor),
    )


@dataclass(frozen=True, slots=True)
class Claim:
    """What an attestation says, verified by nobody: the card's bare word, like its metadata."""

    public: CertificatePublicKeyTypes
    pin: PinPolicy
    touch: TouchPolicy


def claimed(slot_certificate: x509.Certificate) -> Claim:
    """Read an attestation without looking at who signed it. ``public`` is the library's key.

    Raises ``FormatError``, ``CannotVerifyError``.
    """
    pin, touch = parse_policies(_required(slot_certificate, Oid.POLICY))
    return Claim(slot_certificate.public_key(), pin, touch)


# -- extension values ----------------------------------------------------------------------------


def parse_firmware(value: bytes) -> Version:
    """Three octets. ``FormatError``."""
    if len(value) != 3:
        raise FormatError("the attested firmware version does not have 3 octets")
    return value[0], value[1], value[2]


def parse_serial(value: bytes) -> int:
    """A DER INTEGER in [0, 2^32). ``FormatError``.

    Leading zero octets are taken as they come: they cannot be mistaken for another number.
    """
    if len(value) < 3 or value[0] != _DER_INTEGER or value[1] != len(value) - 2:
        raise FormatError("the attested serial number is no INTEGER")
    if value[1] > _LONGEST_SERIAL:
        raise FormatError("the attested serial number is too long")
    serial = int.from_bytes(value[2:], "big", signed=True)
    if not 0 <= serial < 1 << 32:
        raise FormatError("the attested serial number is out of range")
    return serial


def parse_policies(value: bytes) -> tuple[PinPolicy, TouchPolicy]:
    """Two octets: PIN policy 1 to 3, touch policy 1 to 3.

    Raises ``FormatError``, and ``CannotVerifyError`` for the fingerprints of a YubiKey Bio.
    """
    if len(value) != 2:
        raise FormatError("the attested policies do not have 2 octets")
    pin, touch = value
    if pin in _BIOMETRIC:
        raise CannotVerifyError("a key that asks for a fingerprint instead of a PIN is not judged")
    if pin not in _PIN or touch not in _TOUCH:
        raise FormatError("the attested PIN or touch policy is unknown")
    return _PIN[pin], _TOUCH[touch]


def parse_form_factor(value: bytes) -> int:
    """One octet: the shape, with 0x80 for FIPS. ``FormatError``."""
    if len(value) != 1:
        raise FormatError("the attested form factor does not have 1 octet")
    return value[0]


# -- the certificate -----------------------------------------------------------------------------


def _slot(certificate: x509.Certificate) -> str:
    name = roots.common_name(certificate.subject)
    slot = name.removeprefix(_SUBJECT)
    if len(certificate.subject) != 1 or slot == name or slot not in SLOTS:
        raise VerificationError("the attestation does not name a slot for keys")
    return slot


def _serial(certificate: x509.Certificate) -> int | None:
    value = _extension(certificate, Oid.SERIAL)
    return None if value is None else parse_serial(value)


def _form_factor(certificate: x509.Certificate) -> int | None:
    value = _extension(certificate, Oid.FORM_FACTOR)
    return None if value is None else parse_form_factor(value)


def _required(certificate: x509.Certificate, oid: Oid) -> bytes:
    value = _extension(certificate, oid)
    if value is None:
        raise FormatError(f"the attestation does not tell the {oid.name.lower()}")
    return value


def _extension(certificate: x509.Certificate, oid: Oid) -> bytes | None:
    try:
        found = certificate.extensions.get_extension_for_oid(x509.ObjectIdentifier(oid))
    except x509.ExtensionNotFound:
        return None
    return found.value.public_bytes()


def _point(certificate: x509.Certificate) -> Point:
    try:
        return point_of(certificate.public_key())
    except InvalidPointError as error:
        raise FormatError(f"the attested key is no public key: {error}") from error
