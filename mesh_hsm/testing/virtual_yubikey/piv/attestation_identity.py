"""The simulator's attestation root, and each device's attestation key and certificate.

Open this for the root that a test gives to a verifier. Its private key is derived from a sentence
in this file: everybody has it, and it proves nothing. No verifier may trust it by default.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    derive_private_key,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from mesh_hsm.testing.virtual_yubikey import tlv
from mesh_hsm.testing.virtual_yubikey.piv.keys import Key, Policies
from mesh_hsm.testing.virtual_yubikey.piv.names import (
    Algorithm,
    Origin,
    PinPolicy,
    Tag,
    TouchPolicy,
)

ROOT_NAME: Final = "mesh-hsm virtual YubiKey SIMULATOR root"
_MADE, _END = datetime(2020, 1, 1, tzinfo=UTC), datetime(2050, 1, 1, tzinfo=UTC)
_EXPIRED: Final = datetime(2020, 1, 2, tzinfo=UTC)
_SIGNS_CERTIFICATES: Final = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


class AttestationFault(Enum):
    """What is wrong with the attestations of a device that a verifier must refuse."""

    WRONG_ROOT = "its attestation certificate was signed by another root of the same name"
    EXPIRED = "its attestation certificate has expired"
    KEY_SWAPPED = "it attests a key that is not in the slot"
    POLICY_ALTERED = "the policy extension was altered after signing"


@dataclass(frozen=True)
class Identity:
    """The attestation key F9 and the content of its certificate object 5FFF01."""

    key: Key
    certificate_object: bytes


@cache
def attestation_root() -> x509.Certificate:
    """The root above every virtual YubiKey; the same octets each time. Worthless as a secret."""
    name = _name(ROOT_NAME)
    return _sign(_builder(name, name, _key(ROOT_NAME), _END, path_length=1), _key(ROOT_NAME))


@cache
def identity(serial: int, fault: AttestationFault | None = None) -> Identity:
    """The device of this serial number: the same key and certificate each time."""
    who = f"mesh-hsm virtual YubiKey SIMULATOR PIV attestation {serial}"
    private = _key(who)
    end = _EXPIRED if fault is AttestationFault.EXPIRED else _END
    signer = "another root" if fault is AttestationFault.WRONG_ROOT else ROOT_NAME
    certificate = _sign(
        _builder(_name(ROOT_NAME), _name(who), private, end, path_length=0), _key(signer)
    )
    policies = Policies(PinPolicy.NEVER, TouchPolicy.NEVER)
    return Identity(
        Key(Algorithm.P256, private, policies, Origin.GENERATED), certificate_object(certificate)
    )


def certificate_object(certificate: x509.Certificate) -> bytes:
    """``70 {DER} 71 {00} FE {}``: uncompressed (SP 800-73-4 Part 1 Appendix A, Table 10)."""
    return (
        tlv.encode(Tag.CERTIFICATE, certificate.public_bytes(Encoding.DER))
        + tlv.encode(Tag.CERTIFICATE_INFO, b"\0")
        + tlv.encode(Tag.ERROR_DETECTION)
    )


def _key(sentence: str) -> EllipticCurvePrivateKey:
    return derive_private_key(
        int.from_bytes(hashlib.sha256(sentence.encode()).digest(), "big"), SECP256R1()
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    issuer: x509.Name,
    subject: x509.Name,
    private: EllipticCurvePrivateKey,
    end: datetime,
    path_length: int,
) -> x509.CertificateBuilder:
    serial = hashlib.sha256(subject.public_bytes()).digest()[:8]
    return (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .public_key(private.public_key())
        .serial_number(int.from_bytes(serial, "big") | 1)
        .not_valid_before(_MADE)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_SIGNS_CERTIFICATES, critical=True)
    )


def _sign(builder: x509.CertificateBuilder, private: EllipticCurvePrivateKey) -> x509.Certificate:
    return builder.sign(private, SHA256(), ecdsa_deterministic=True)
