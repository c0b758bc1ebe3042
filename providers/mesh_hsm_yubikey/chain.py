"""From a slot's certificate to a root: signatures, dates and who may issue.

Open this file to see what is checked of a chain. Strict X.509 validation refuses real devices:
F9 certificates of YubiKey 4 lack basic constraints altogether, the first PIV root and the U2F root
leave no room for them in their path length, and the newest intermediate omits the NULL of its
signature algorithm. So the rules that matter are checked here one by one.
"""

from __future__ import annotations

import warnings
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import SignatureAlgorithmOID

from mesh_hsm.custody import Hardware
from mesh_hsm.errors import CannotVerifyError, FormatError, VerificationError
from mesh_hsm_yubikey import roca, roots
from mesh_hsm_yubikey.roots import Roots

_LARGEST = 16_384
_MOST_INTERMEDIATES = 4
_LEAST_RSA_BITS = 2048

_SIGNATURES = frozenset(
    {
        SignatureAlgorithmOID.RSA_WITH_SHA256,
        SignatureAlgorithmOID.RSA_WITH_SHA384,
        SignatureAlgorithmOID.RSA_WITH_SHA512,
        SignatureAlgorithmOID.ECDSA_WITH_SHA256,
        SignatureAlgorithmOID.ECDSA_WITH_SHA384,
        SignatureAlgorithmOID.ECDSA_WITH_SHA512,
    }
)

YUBICO_F9 = "Yubico PIV Attestation"
"""The common name of every F9 certificate that Yubico made."""

_CHECKED = frozenset({x509.BasicConstraints.oid, x509.KeyUsage.oid})


class UnknownRootError(CannotVerifyError):
    """The chain ends at an issuer whom nobody told us to trust.

    ``issuer`` is its name; ``simulator`` says that the name is a simulator's.
    """

    def __init__(self, issuer: x509.Name) -> None:
        self.issuer = issuer.rfc4514_string()
        self.simulator = roots.is_simulator(issuer)
        if self.simulator:
            message = "the attestation is a simulator's, which proves nothing about hardware"
            hint = "to test with it, put the simulator's root into providers/yubikey/piv-roots"
        else:
            message = f"the attestation leads to an unknown root: {self.issuer}"
            hint = "give the root certificate of whoever certified the key's F9 slot by file"
        super().__init__(message, hint=hint)


def load(octets: bytes, what: str) -> x509.Certificate:
    """One certificate in DER, with extensions that can be read. Raises ``FormatError``."""
    if len(octets) > _LARGEST:
        raise FormatError(f"{what} is longer than {_LARGEST} octets")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd serial numbers and names: signed as they are
            certificate = x509.load_der_x509_certificate(octets)
            # Read lazily otherwise, and then they fail in the middle of a decision.
            _ = certificate.extensions, certificate.subject, certificate.issuer
            _ = certificate.signature_algorithm_oid, certificate.public_key()
    except Exception as error:
        # ValueError, TypeError and half a dozen types of its own: whatever the library says of
        # foreign octets, it means this.
        raise FormatError(f"{what} is not a readable certificate") from error
    if octets[-len(certificate.signature) - 1] != 0:  # a BIT STRING of part octets
        raise FormatError(f"{what} is not a readable certificate")
    return certificate


def verify(
    slot: x509.Certificate, f9: x509.Certificate, trusted: Roots, at: datetime
) -> x509.Certificate:
    """Lead the slot's certificate by way of F9's to an anchor of ``trusted``: the anchor.

    ``at`` is an aware time. Raises ``VerificationError``; ``UnknownRootError`` where the issuer of
    the last certificate is none that we know.
    """
    anchor, between = _path(f9, trusted)
    for certificate, what in (
        (slot, "the attestation"),
        (f9, "the certificate of slot F9"),
        *((one, roots.common_name(one.subject)) for one in (*between, anchor)),
    ):
        _check_dates(certificate, at, what)
        _check_critical(certificate, what)
    for below, certificate in enumerate(between, start=1):
        _check_authority(certificate, below)
    _check_f9(f9, anchor)
    if not _issued(f9, slot):
        raise VerificationError("the attestation is not signed by the key of slot F9")
    if _constraints(slot) is not None and _may_issue(slot):
        raise VerificationError("the attestation claims to be a certificate authority")
    return anchor


def _path(
    f9: x509.Certificate, trusted: Roots
) -> tuple[x509.Certificate, tuple[x509.Certificate, ...]]:
    """The anchor, and the intermediates from F9 upwards."""
    between: tuple[x509.Certificate, ...] = ()
    last = f9
    while True:
        named = [one for one in trusted.anchors if one.subject == last.issuer]
        anchor = next((one for one in named if _issued(one, last)), None)
        if anchor is not None:
            return anchor, between
        higher = [one for one in trusted.intermediates if one.subject == last.issuer]
        if not named and not higher:
            raise UnknownRootError(last.issuer)
        issuer = next((one for one in higher if _issued(one, last)), None)
        if issuer is None:
            raise VerificationError(f"no certificate of {_issuer(last)} verifies what it signed")
        if len(between) == _MOST_INTERMEDIATES:
            raise VerificationError("the chain of certificates is too long")
        between += (issuer,)
        last = issuer


def _issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    key = issuer.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < _LEAST_RSA_BITS:
        return False
    if certificate.signature_algorithm_oid not in _SIGNATURES:
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm):
        return False
    return True


def _check_dates(certificate: x509.Certificate, at: datetime, what: str) -> None:
    if at < certificate.not_valid_before_utc:
        raise VerificationError(f"{what} is not valid yet", hint="check the clock")
    if at > certificate.not_valid_after_utc:
        raise VerificationError(f"{what} has expired")


def _check_critical(certificate: x509.Certificate, what: str) -> None:
    """RFC 5280 §4.2: what is critical and not understood is refused."""
    for extension in certificate.extensions:
        if extension.critical and extension.oid not in _CHECKED:
            raise VerificationError(
                f"{what} has a critical extension that is not known here: "
                f"{extension.oid.dotted_string}"
            )


def _check_authority(certificate: x509.Certificate, below: int) -> None:
    """``below`` counts the authorities under it, F9 among them."""
    constraints = _constraints(certificate)
    name = roots.common_name(certificate.subject)
    if constraints is None or not _may_issue(certificate):
        raise VerificationError(f"{name} may not issue certificates")
    if constraints.path_length is not None and constraints.path_length < below:
        raise VerificationError(f"{name} may not have so many authorities below it")


def _check_f9(f9: x509.Certificate, anchor: x509.Certificate) -> None:
    # A key that a YubiKey attested can sign certificates of its own. It must not pass for F9,
    # which in a YubiKey 4 does not even say that it is an authority: there the name decides,
    # since Yubico gives it to F9 certificates alone.
    _check_strength(f9)
    genuine = roots.hardware(anchor) is Hardware.ATTESTED
    if genuine and roots.common_name(f9.subject) != YUBICO_F9:
        raise VerificationError("the certificate of slot F9 is not one that Yubico made for it")
    if _constraints(f9) is None and genuine:
        return
    if not _may_issue(f9):
        raise VerificationError("the certificate of slot F9 may not issue certificates")


def _check_strength(f9: x509.Certificate) -> None:
    # Attestation came with 4.3.0, sound RSA keys with 4.3.5: a key in between may be anybody's.
    key = f9.public_key()
    if isinstance(key, rsa.RSAPublicKey) and roca.has_fingerprint(key.public_numbers().n):
        raise VerificationError(
            "the key of slot F9 is weak (ROCA, YSA-2017-01): others can attest with it",
            hint="use a YubiKey with firmware 4.3.5 or later",
        )


def _may_issue(certificate: x509.Certificate) -> bool:
    constraints = _constraints(certificate)
    if constraints is None or not constraints.ca:
        return False
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return usage.key_cert_sign


def _constraints(certificate: x509.Certificate) -> x509.BasicConstraints | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return None


def _issuer(certificate: x509.Certificate) -> str:
    return roots.common_name(certificate.issuer)
