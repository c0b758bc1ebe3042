"""Certificates such as a YubiKey makes, and broken ones, written from Yubico's page alone.

Open this file to make a chain for a test: ``authority`` for roots, intermediates and F9, ``attest``
for what a card says of a key. Nothing here is taken from the verifier that it tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificateIssuerPrivateKeyTypes,
    CertificatePublicKeyTypes,
)
from cryptography.hazmat.primitives.serialization import Encoding

ARC = "1.3.6.1.4.1.41482.3."
VALUES = {
    "3": bytes([5, 7, 1]),
    "7": bytes.fromhex("02040133224F"),
    "8": bytes([2, 1]),
    "9": bytes([3]),
}
SERIAL = 0x0133224F
FROM, TO = datetime(2016, 3, 14, tzinfo=UTC), datetime(2052, 4, 17, tzinfo=UTC)
F9_NAME = "Yubico PIV Attestation"
SIMULATOR = "YubiKey SIMULATOR test root"


@cache
def rsa_key(number: int = 0, bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


@cache
def roca_key() -> rsa.RSAPrivateKey:
    """Primes k·M + (65537^a mod M), M the product of the first 126 primes: CVE-2017-15361."""
    p = int(
        "db176edcd9efde55c12901d77cef4d9fb83f42d6a0ab6a52ef9c519f7e55e9dc"
        "e58c6fba3bc4f0b3c4eabe405503d2d87ef7c48ccc72c57f94a04a7e8a51e210"
        "e9ed48c1bb6dfb61ff8afc1ddccbdc4d9d2907482890b454c3306ee772e39f68"
        "51576820efb06d70a3c952b7456699e44df88f51cfff62b24ae28d329b329f6f",
        16,
    )
    q = int(
        "eef5c503744dfd19a945623669e79d2102bfab92d0fa7b23c0ec6617d8888ada"
        "0588528190e09c81ece5f472c5d7c878329b413c9119b009be0fb33ffc7cfd0a"
        "3c10b8881817935654fdd4291e369c0fae835351a327c5363e0e3385c3d81863"
        "b68c59d63a7e6fb85241d92a0a870e66d4af1ec32b3981804fdd55158af133e1",
        16,
    )
    e = 65537
    d = pow(e, -1, (p - 1) * (q - 1))
    public = rsa.RSAPublicNumbers(e, p * q)
    return rsa.RSAPrivateNumbers(
        p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), public
    ).private_key()


@cache
def ec_key(number: int = 0, curve: str = "P-256") -> ec.EllipticCurvePrivateKey:
    curves = {"P-256": ec.SECP256R1, "P-384": ec.SECP384R1, "P-521": ec.SECP521R1}
    return ec.generate_private_key(curves[curve]())


@dataclass(frozen=True)
class Authority:
    name: x509.Name
    key: CertificateIssuerPrivateKeyTypes
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)


def named(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def authority(
    name: str,
    above: Authority | None = None,
    key: CertificateIssuerPrivateKeyTypes | None = None,
    *,
    ca: bool | None = True,
    path_length: int | None = None,
    signs_certificates: bool | None = None,
    values: Mapping[str, bytes] | None = None,
    critical: str | None = None,
    valid: tuple[datetime, datetime] = (FROM, TO),
    digest: hashes.HashAlgorithm | None = None,
    signed_by: CertificateIssuerPrivateKeyTypes | None = None,
) -> Authority:
    """A certificate authority; ``ca`` None leaves basic constraints out altogether."""
    mine = key or rsa_key()
    subject = named(name)
    issuer = above.name if above else subject
    builder = _builder(subject, issuer, mine.public_key(), valid)
    if ca is not None:
        constraints = x509.BasicConstraints(ca, path_length if ca else None)
        builder = builder.add_extension(constraints, critical=True)
    if signs_certificates is not None:
        usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=signs_certificates,
            crl_sign=False,
            encipher_only=False,
            decipher_only=False,
        )
        builder = builder.add_extension(usage, critical=True)
    builder = _with(builder, values or {}, critical)
    signer = signed_by or (above.key if above else mine)
    return Authority(subject, mine, _signed(builder, signer, digest))


def attest(
    f9: Authority,
    public: CertificatePublicKeyTypes,
    slot: str = "9c",
    *,
    values: Mapping[str, bytes] = VALUES,
    subject: x509.Name | None = None,
    issuer: x509.Name | None = None,
    critical: str | None = None,
    valid: tuple[datetime, datetime] = (FROM, TO),
    digest: hashes.HashAlgorithm | None = None,
    signed_by: CertificateIssuerPrivateKeyTypes | None = None,
    ca: bool = False,
) -> bytes:
    """What F9 says of a key, in DER."""
    name = subject or named(f"YubiKey PIV Attestation {slot}")
    builder = _builder(name, issuer or f9.name, public, valid)
    if ca:
        builder = builder.add_extension(x509.BasicConstraints(True, None), critical=True)
    certificate = _signed(_with(builder, values, critical), signed_by or f9.key, digest)
    return certificate.public_bytes(Encoding.DER)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: CertificatePublicKeyTypes,
    valid: tuple[datetime, datetime],
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(valid[0])
        .not_valid_after(valid[1])
    )


def _with(
    builder: x509.CertificateBuilder, values: Mapping[str, bytes], critical: str | None
) -> x509.CertificateBuilder:
    for number, value in values.items():
        oid = x509.ObjectIdentifier(number if "." in number else ARC + number)
        extension = x509.UnrecognizedExtension(oid, value)
        builder = builder.add_extension(extension, critical=number == critical)
    return builder


def _signed(
    builder: x509.CertificateBuilder,
    key: CertificateIssuerPrivateKeyTypes,
    digest: hashes.HashAlgorithm | None,
) -> x509.Certificate:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return builder.sign(key, None)
    return builder.sign(key, digest or hashes.SHA256())
