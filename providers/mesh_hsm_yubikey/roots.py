"""Whose word counts for an attestation: Yubico's own roots, or others that a file brings.

Open this file to add a root, or to see where ours come from. Yubico publishes them under
developers.yubico.com/PKI (yubico-ca-certs.txt, yubico-intermediate.pem); the octets here were read
in GitHub repositories that copied them (Yubico/developers.yubico.com, go-piv/piv-go,
smallstep/crypto), and their fingerprints agree with lists that other verifiers pin.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes

from mesh_hsm.custody import Hardware
from mesh_hsm.errors import FormatError, NotFoundError, StorageError

YUBICO_ROOTS: Final = {
    "63ece914e54dd87915f34033c85af4c0696ba1512f8add66ced738331207b546": (
        "Yubico PIV Root CA Serial 263751",  # firmware before 5.7.4; valid to 2052
        "yubico-piv-root-ca-263751.pem",
    ),
    "0fa1386f80eb8713263ae5c1d84deb455bdf08aea50ab05503cefee82b092d42": (
        "Yubico U2F Root CA Serial 457200631",  # some YubiKey 4 of 2017 and 2018; valid to 2050
        "yubico-u2f-root-ca-457200631.pem",
    ),
    "62760c6a6ef91679f454c8902b80fd009825b3f25da90f1fbace2ec6586cd5a8": (
        "Yubico Attestation Root 1",  # firmware 5.7.4 and later, by way of the intermediates
        "yubico-attestation-root-1.pem",
    ),
}
"""SHA-256 fingerprint: common name, file."""

YUBICO_INTERMEDIATES: Final = {
    "4698a1d3389c3ec60016c216250f1d0439922832d65142327436376dc2942b55": (
        "Yubico Attestation Intermediate A 1",
        "yubico-attestation-intermediate-a-1.pem",
    ),
    "d4cc3f456fdaf4e7812a21aab1dfe9d8e27d24e2fd2d6f21c9940109f0daa754": (
        "Yubico Attestation Intermediate B 1",
        "yubico-attestation-intermediate-b-1.pem",
    ),
    "6de693f05376f5d8ca29069261e1c8626c75d503bd2edbfd75354cad1f722870": (
        "Yubico PIV Attestation A 1",
        "yubico-piv-attestation-a-1.pem",
    ),
    "2d55b7998f4e42569d6d8fa382b6dc77d1dacf07358b19701163892922b17052": (
        "Yubico PIV Attestation B 1",
        "yubico-piv-attestation-b-1.pem",
    ),
    "0c90b7d184a36edf50a35f9be935f0c5689bfdcfe5bdd073366cafb49061a440": (
        "Yubico PIV Attestation B2 1",
        "yubico-piv-attestation-b2-1.pem",
    ),
}
"""The PIV branch alone: what FIDO, OpenPGP and others attest is not about PIV keys."""

_SIMULATOR = "SIMULATOR"


@dataclass(frozen=True, slots=True)
class Roots:
    """Trust anchors, and the certificate authorities between them and the keys' own.

    An intermediate is only ever taken from here, never from a card or a peer: whoever holds an
    attested key can sign certificates with it.
    """

    anchors: tuple[x509.Certificate, ...]
    intermediates: tuple[x509.Certificate, ...] = ()

    @classmethod
    def yubico(cls) -> Roots:
        """Yubico's PIV roots, older and newer, as shipped with this package."""
        return _yubico()

    @classmethod
    def from_pem(cls, octets: bytes) -> Roots:
        """Anchors are those certificates that are signed by themselves. ``FormatError``."""
        try:
            found = x509.load_pem_x509_certificates(octets)
        except ValueError as error:
            raise FormatError("no certificates in PEM form") from error
        anchors = tuple(one for one in found if _signs_itself(one))
        if not anchors:
            raise FormatError("no root among the certificates: none is signed by itself")
        return cls(anchors, tuple(one for one in found if one not in anchors))

    @classmethod
    def from_file(cls, path: Path) -> Roots:
        """As ``from_pem``. Raises ``NotFoundError``, ``StorageError``, ``FormatError``."""
        try:
            octets = path.read_bytes()
        except FileNotFoundError as error:
            raise NotFoundError(f"no file {path}") from error
        except OSError as error:
            raise StorageError(f"{path} cannot be read") from error
        try:
            return cls.from_pem(octets)
        except FormatError as error:
            raise FormatError(
                f"{path}: {error}", hint="take the file away, or put a root in PEM form there"
            ) from error

    def __or__(self, other: Roots) -> Roots:
        return Roots(
            _together(self.anchors, other.anchors),
            _together(self.intermediates, other.intermediates),
        )


def trusted(folder: Path) -> Roots:
    """Yubico's, and every ``*.pem`` of a folder, if there is one. Raises as ``from_file``."""
    found = Roots.yubico()
    for path in sorted(folder.glob("*.pem")):
        found |= Roots.from_file(path)
    return found


def hardware(anchor: x509.Certificate) -> Hardware:
    """What a chain to this anchor says: ``ATTESTED`` for Yubico's, by fingerprint, alone."""
    if fingerprint(anchor) in YUBICO_ROOTS:
        return Hardware.ATTESTED
    return Hardware.SIMULATOR if is_simulator(anchor.subject) else Hardware.CLAIMED


def is_simulator(name: x509.Name) -> bool:
    """Whether a certificate's name says so. Believed unverified: nobody gains by saying it."""
    return _SIMULATOR in name.rfc4514_string().upper()


def common_name(name: x509.Name) -> str:
    """The one common name, or the whole name where there is none or more than one."""
    found = name.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(found[0].value) if len(found) == 1 else name.rfc4514_string()


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the whole certificate, in lower-case hexadecimal."""
    return certificate.fingerprint(hashes.SHA256()).hex()


@lru_cache(maxsize=1)
def _yubico() -> Roots:
    return Roots(_packaged(YUBICO_ROOTS), _packaged(YUBICO_INTERMEDIATES))


def _packaged(listed: dict[str, tuple[str, str]]) -> tuple[x509.Certificate, ...]:
    folder = files("mesh_hsm_yubikey") / "roots"
    found = tuple(
        x509.load_pem_x509_certificate((folder / name).read_bytes()) for _, name in listed.values()
    )
    for certificate, expected in zip(found, listed, strict=True):
        if fingerprint(certificate) != expected:
            raise FormatError(f"{common_name(certificate.subject)} is not the one of this version")
    return found


def _signs_itself(certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(certificate)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _together(
    first: Iterable[x509.Certificate], second: Iterable[x509.Certificate]
) -> tuple[x509.Certificate, ...]:
    return tuple(dict.fromkeys((*first, *second)))
