"""ATTEST (F9): a certificate that a key was generated in this device, and with which policies.

Yubico's; the extensions are under 1.3.6.1.4.1.41482.3.
"""

from __future__ import annotations

import os
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from mesh_hsm.errors import FormatError
from mesh_hsm.testing.virtual_yubikey import tlv
from mesh_hsm.testing.virtual_yubikey.apdu import Command
from mesh_hsm.testing.virtual_yubikey.piv import keys
from mesh_hsm.testing.virtual_yubikey.piv.attestation_identity import AttestationFault
from mesh_hsm.testing.virtual_yubikey.piv.keys import Key
from mesh_hsm.testing.virtual_yubikey.piv.names import ObjectId, Operation, Origin, Slot, Tag
from mesh_hsm.testing.virtual_yubikey.piv.state import Context
from mesh_hsm.testing.virtual_yubikey.status import Refused, Status

_YUBICO: Final = "1.3.6.1.4.1.41482.3"
_FIRMWARE, _SERIAL, _POLICIES, _FORM_FACTOR = (f"{_YUBICO}.{arc}" for arc in (3, 7, 8, 9))
_DER_INTEGER: Final = 0x02
# Extension .8 in DER, up to its two octets: the object identifier, then OCTET STRING.
_POLICIES_START: Final = bytes.fromhex("060A2B0601040182C40A0308 0402")


def attest(context: Context, command: Command) -> bytes:
    """The certificate in DER, for the key in slot P1. Refused unless it was made there."""
    slot = context.known(command.p1)
    if command.p2:
        raise Refused(Status.WRONG_P1P2)
    key, signer = context.state.keys.get(slot), context.state.keys.get(Slot.ATTESTATION)
    if key is None or key.origin is not Origin.GENERATED or slot == Slot.ATTESTATION:
        raise Refused(context.choices.cannot_attest)
    if signer is None or not isinstance(signer.private, RSAPrivateKey | EllipticCurvePrivateKey):
        raise Refused(Status.WRONG_DATA)
    builder = _builder(context, slot, key, _issuer(context))
    certificate = builder.sign(signer.private, SHA256()).public_bytes(Encoding.DER)
    context.count(slot, Operation.ATTEST)
    if context.attestation_fault is AttestationFault.POLICY_ALTERED:
        return _alter_policies(certificate, key)
    return certificate


def _builder(
    context: Context, slot: int, key: Key, issuer: x509.Certificate
) -> x509.CertificateBuilder:
    private = key.private
    if context.attestation_fault is AttestationFault.KEY_SWAPPED:
        private = keys.generate(key.algorithm)
    common_name = x509.NameAttribute(NameOID.COMMON_NAME, f"YubiKey PIV Attestation {slot:02x}")
    builder = (
        x509.CertificateBuilder()
        .issuer_name(issuer.subject)
        .subject_name(x509.Name([common_name]))
        .public_key(private.public_key())
        # The top bit stays clear, or DER would need a seventeenth octet.
        .serial_number(int.from_bytes(os.urandom(16), "big") >> 1)
        .not_valid_before(issuer.not_valid_before_utc)
        .not_valid_after(issuer.not_valid_after_utc)
    )
    for dotted, value in _facts(context, key).items():
        extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(dotted), value)
        builder = builder.add_extension(extension, critical=False)
    return builder


def _facts(context: Context, key: Key) -> dict[str, bytes]:
    hardware = context.hardware
    serial = hardware.serial.to_bytes(hardware.serial.bit_length() // 8 + 1, "big")
    return {
        _FIRMWARE: bytes(hardware.firmware),
        _SERIAL: tlv.encode(_DER_INTEGER, serial),
        _POLICIES: _policies(key),
        _FORM_FACTOR: bytes([hardware.form_factor]),
    }


def _policies(key: Key) -> bytes:
    return bytes([key.policies.pin, key.policies.touch])


def _issuer(context: Context) -> x509.Certificate:
    """The certificate in 5FFF01. Refused (6A80) where somebody put something else there."""
    try:
        content = tlv.fields(context.state.objects.get(ObjectId.ATTESTATION, b""))
        return x509.load_der_x509_certificate(content.get(Tag.CERTIFICATE, b""))
    except (FormatError, ValueError):
        raise Refused(Status.WRONG_DATA) from None


def _alter_policies(certificate: bytes, key: Key) -> bytes:
    """The same certificate with other policies in it, and the old signature under it."""
    honest = _POLICIES_START + _policies(key)
    return certificate.replace(honest, honest[:-2] + bytes([honest[-2] ^ 1, honest[-1] ^ 1]))
