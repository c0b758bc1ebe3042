"""The endorsement key: whose TPM is it? Open this file for how a TPM is recognised at enrolment.

Its certificate is verified against the roots that the owner gave (PEM or DER files in the folder
``ek-roots`` of our records). Without a root, or without a certificate, the key is pinned as it is
met, and every statement says "first use".
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tpm2_pytss import ESAPI, ESYS_TR, TPM2B_PUBLIC, TPM2B_SENSITIVE_CREATE, TSS2_Exception
from tpm2_pytss.utils import NoSuchIndex, NVReadEK, create_ek_template

from mesh_hsm.errors import VerificationError
from mesh_hsm_tpm2 import sessions
from mesh_hsm_tpm2.errors import Rc, code

# TCG EK Credential Profile §2.2.1.4, §2.2.1.5: where certificates are, elliptic curves first.
_KINDS = ("EK-HIGH-ECC384", "EK-HIGH-ECC256", "EK-ECC256", "EK-HIGH-RSA2048", "EK-RSA2048")
_PLAIN_KINDS = ("EK-ECC256", "EK-RSA2048")
_LONGEST_CHAIN = 6

BY_CERTIFICATE, FIRST_USE, ABSENT = "certificate", "first use", "absent"
"""How an endorsement key was recognised."""


@dataclass(frozen=True, slots=True)
class Endorsement:
    """What was learnt at enrolment. ``name`` is the EK's name in hexadecimal."""

    name: str | None
    proof: str
    issuer: str | None = None


@contextmanager
def salted_session(esapi: ESAPI, roots: Path) -> Iterator[tuple[ESYS_TR, Endorsement]]:
    """A session that only the recognised TPM can take part in, and how it was recognised.

    Where the endorsement hierarchy has a password of its own there is no such session: the
    handle is ``ESYS_TR.PASSWORD`` and the proof ``absent``. Raises ``VerificationError`` for a
    certificate that does not lead to the owner's roots.
    """
    trusted = read_roots(roots)
    certificate, template = _certificate_and_template(esapi)
    try:
        key, public, _, _, _ = esapi.create_primary(
            TPM2B_SENSITIVE_CREATE(), template, ESYS_TR.ENDORSEMENT
        )
    except TSS2_Exception as error:
        if code(error) not in (Rc.BAD_AUTH, Rc.AUTH_FAIL):
            raise
        yield ESYS_TR.PASSWORD, Endorsement(None, ABSENT)
        return
    with sessions.flushed(esapi, key):
        endorsement = _recognise(bytes(esapi.tr_get_name(key)), public, certificate, trusted)
        with sessions.flushed(esapi, sessions.start(esapi, key)) as session:
            yield session, endorsement


def read_roots(folder: Path) -> list[x509.Certificate]:
    """Every certificate in the files of a folder; none if there is no such folder."""
    found: list[x509.Certificate] = []
    for path in sorted(folder.glob("*")) if folder.is_dir() else ():
        data = path.read_bytes()
        try:
            found += (
                x509.load_pem_x509_certificates(data)
                if b"-----BEGIN" in data
                else [x509.load_der_x509_certificate(data)]
            )
        except ValueError as error:
            raise VerificationError(f"{path} is not a certificate") from error
    return found


def verify_chain(leaf: x509.Certificate, trusted: list[x509.Certificate]) -> None:
    """Lead a certificate to a self-signed one among ``trusted``. Raises ``VerificationError``."""
    certificate = leaf
    for _ in range(_LONGEST_CHAIN):
        now = datetime.now(UTC)
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            raise VerificationError("a certificate of the TPM's endorsement key has expired")
        issuer = next((ca for ca in trusted if _issued(ca, certificate)), None)
        if issuer is None:
            break
        if issuer == certificate:
            return
        certificate = issuer
    raise VerificationError(
        "the TPM's endorsement certificate does not lead to a root that you gave",
        hint="add the manufacturer's root certificate to the folder ek-roots, or empty it",
    )


def _recognise(
    name: bytes,
    public: TPM2B_PUBLIC,
    certificate: x509.Certificate | None,
    trusted: list[x509.Certificate],
) -> Endorsement:
    issuer = certificate.issuer.rfc4514_string() if certificate else None
    if not trusted:
        return Endorsement(name.hex(), FIRST_USE, issuer)
    if certificate is None:
        raise VerificationError(
            "this TPM has no endorsement certificate, and you asked for one by giving roots",
            hint="empty the folder ek-roots to pin the key at first use instead",
        )
    verify_chain(certificate, trusted)
    certified = certificate.public_key().public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    )
    if certified != public.publicArea.to_der():
        raise VerificationError("the TPM's endorsement certificate belongs to another TPM")
    return Endorsement(name.hex(), BY_CERTIFICATE, issuer)


def _certificate_and_template(
    esapi: ESAPI,
) -> tuple[x509.Certificate | None, TPM2B_PUBLIC]:
    nv = NVReadEK(esapi)
    for kind in _KINDS:
        try:
            octets, template = create_ek_template(kind, nv)
        except (ValueError, NoSuchIndex):
            continue
        if octets:
            return _load(bytes(octets)), template
    kind = _PLAIN_KINDS[0]
    _, template = create_ek_template(kind, nv)
    return None, template


def _load(octets: bytes) -> x509.Certificate:
    # An NV index may be longer than the certificate in it; DER says where that ends.
    try:
        return x509.load_der_x509_certificate(octets[: 4 + int.from_bytes(octets[2:4], "big")])
    except ValueError as error:
        raise VerificationError("the TPM's endorsement certificate is not readable") from error


def _issued(ca: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(ca)
    except (InvalidSignature, ValueError, TypeError):
        return False
    try:
        return bool(ca.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    except x509.ExtensionNotFound:
        return False
