"""Attestation: read, its chain verified by the openssl command, and broken ones (section 14.9)."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from simulators.yubikey.device.host import OK, Host, openssl, pairs, public_key

from mesh_hsm.testing.virtual_yubikey import (
    AttestationFault,
    Operation,
    VirtualYubiKey,
    attestation_root,
)
from mesh_hsm.testing.virtual_yubikey.piv.names import Algorithm, Ins

YUBICO = "1.3.6.1.4.1.41482.3"


def attested(host: Host, slot: int = 0x9D) -> x509.Certificate:
    return x509.load_der_x509_certificate(host.ok(Ins.ATTEST, slot))


def intermediate(host: Host) -> x509.Certificate:
    content, status = host.get(0x5FFF01)
    assert status == OK
    values = pairs(content)
    assert (values[0x71], values[0xFE]) == (b"\0", b"")
    return x509.load_der_x509_certificate(values[0x70])


def facts(certificate: x509.Certificate) -> dict[str, str]:
    assert not any(extension.critical for extension in certificate.extensions)
    return {
        extension.oid.dotted_string.removeprefix(YUBICO): extension.value.public_bytes().hex()
        for extension in certificate.extensions
    }


def chain_verified(folder: Path, host: Host, slot: int = 0x9D) -> None:
    """``AssertionError`` with openssl's reason unless the chain leads to the simulators' root."""
    chain = (attestation_root(), intermediate(host), attested(host, slot))
    for name, certificate in zip(("root", "f9", "leaf"), chain, strict=True):
        (folder / name).write_bytes(certificate.public_bytes(Encoding.PEM))
    openssl(folder, "verify", "-CAfile", "root", "-untrusted", "f9", "leaf")


# RSA-4096 goes the way of RSA-3072, and takes seconds to make.
@pytest.mark.parametrize("kind", sorted({*Algorithm} - {Algorithm.RSA4096}))
def test_the_chain_leads_to_the_simulators_root(
    manager: Host, kind: Algorithm, tmp_path: Path
) -> None:
    public = public_key(kind, manager.generate(0x9D, kind))
    chain_verified(tmp_path, manager)
    assert attested(manager).public_key() == public
    assert manager.device.operations[0x9D, Operation.ATTEST] == 2


def test_what_it_says() -> None:
    device = VirtualYubiKey(30_012_345, (5, 4, 3), form_factor=0x02, fips=True)
    host = Host(device)
    host.manage()
    host.generate(0x8A, Algorithm.P384, pin=3, touch=2)
    certificate, issuer = attested(host, 0x8A), intermediate(host)
    assert certificate.subject.rfc4514_string() == "CN=YubiKey PIV Attestation 8a"
    assert certificate.issuer == issuer.subject
    assert certificate.not_valid_before_utc == issuer.not_valid_before_utc
    assert certificate.not_valid_after_utc == issuer.not_valid_after_utc
    serials = {attested(host, 0x8A).serial_number for _ in range(10)}
    assert len(serials) == 10
    assert 100 < max(serials).bit_length() <= 127  # sixteen octets, and positive
    assert facts(certificate) == {".3": "050403", ".7": "020401c9f3b9", ".8": "0302", ".9": "82"}


def test_the_policies_are_the_resolved_ones_and_move_along(manager: Host) -> None:
    manager.generate(0x9C, Algorithm.P256)
    assert facts(attested(manager, 0x9C))[".8"] == "0301"
    manager.ok(Ins.MOVE, 0x82, 0x9C)
    moved = attested(manager, 0x82)
    assert moved.subject.rfc4514_string().endswith("82")
    assert facts(moved)[".8"] == "0301"


def test_the_root_names_itself_a_simulator_and_is_always_the_same() -> None:
    root = attestation_root()
    assert "SIMULATOR" in root.subject.rfc4514_string()
    assert root.serial_number == attestation_root.__wrapped__().serial_number
    assert root == attestation_root.__wrapped__()


def test_the_attestation_certificate_survives_reset_and_belongs_to_its_key(host: Host) -> None:
    certificate = intermediate(host)
    assert "SIMULATOR" in certificate.subject.rfc4514_string()
    assert certificate.public_key() == public_key(Algorithm.P256, host.metadata(0xF9)[0x04])
    assert intermediate(Host(VirtualYubiKey(30_000_002))) != certificate


REFUSED = {
    "an empty slot": (0x9D, 0, lambda host: None, 0x6A80),
    "the attestation key itself": (0xF9, 0, lambda host: None, 0x6A80),
    "an imported key": (0x9D, 0, Host.import_p256, 0x6A80),
    "an unknown slot": (0x81, 0, lambda host: None, 0x6B00),
    "P2": (0x9D, 1, lambda host: host.generate(0x9D, 0x11), 0x6A86),
    "without an attestation key": (
        0x9D,
        0,
        lambda host: (host.generate(0x9D, 0x11), host.ok(Ins.MOVE, 0xFF, 0xF9)),
        0x6A80,
    ),
    "an attestation key that cannot sign certificates": (
        0x9D,
        0,
        lambda host: (host.generate(0x9D, 0x11), host.generate(0xF9, Algorithm.X25519)),
        0x6A80,
    ),
    "without an attestation certificate": (
        0x9D,
        0,
        lambda host: (host.generate(0x9D, 0x11), host.put(0x5FFF01, b"")),
        0x6A80,
    ),
    "something else in its place": (
        0x9D,
        0,
        lambda host: (host.generate(0x9D, 0x11), host.put(0x5FFF01, b"\x70\x05nonsense")),
        0x6A80,
    ),
}


@pytest.mark.parametrize(("slot", "p2", "prepare", "status"), REFUSED.values(), ids=REFUSED)
def test_refused(manager: Host, slot: int, p2: int, prepare: object, status: int) -> None:
    assert callable(prepare)
    prepare(manager)
    assert manager.status(Ins.ATTEST, slot, p2) == status


def test_an_rsa_attestation_key_of_the_users_own(manager: Host) -> None:
    manager.generate(0x9D, Algorithm.P256)
    own = public_key(Algorithm.RSA2048, manager.generate(0xF9, Algorithm.RSA2048))
    certificate = attested(manager)
    certificate_hash, padding = (
        certificate.signature_hash_algorithm,
        certificate.signature_algorithm_parameters,
    )
    own.verify(certificate.signature, certificate.tbs_certificate_bytes, padding, certificate_hash)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (AttestationFault.WRONG_ROOT, "signature failure|unable to get"),
        (AttestationFault.EXPIRED, "has expired"),
        (AttestationFault.POLICY_ALTERED, "signature failure"),
    ],
)
def test_openssl_refuses_the_broken_ones(
    manager: Host, fault: AttestationFault, reason: str, tmp_path: Path
) -> None:
    manager.generate(0x9D, Algorithm.P256)
    chain_verified(tmp_path, manager)
    manager.device.attestation_fault = fault
    assert manager.device.attestation_fault is fault
    with pytest.raises(AssertionError, match=reason):
        chain_verified(tmp_path, manager)
    manager.device.attestation_fault = None
    chain_verified(tmp_path, manager)


def test_an_altered_policy_is_another_policy(manager: Host) -> None:
    manager.generate(0x9D, Algorithm.P256, pin=3, touch=2)
    honest = attested(manager)
    manager.device.attestation_fault = AttestationFault.POLICY_ALTERED
    altered = attested(manager)
    assert facts(honest) == facts(altered) | {".8": "0302"}
    assert facts(altered)[".8"] == "0203"
    signer = intermediate(manager).public_key()
    assert isinstance(signer, EllipticCurvePublicKey)
    assert altered.signature_hash_algorithm is not None
    with pytest.raises(InvalidSignature):
        signer.verify(
            altered.signature,
            altered.tbs_certificate_bytes,
            ECDSA(altered.signature_hash_algorithm),
        )


def test_a_swapped_key_has_a_good_chain_and_another_public_key(
    manager: Host, tmp_path: Path
) -> None:
    public = public_key(Algorithm.P256, manager.generate(0x9D, Algorithm.P256))
    manager.device.attestation_fault = AttestationFault.KEY_SWAPPED
    chain_verified(tmp_path, manager)
    assert attested(manager).public_key() != public


def test_a_wrong_root_has_the_same_name(manager: Host) -> None:
    manager.device.attestation_fault = AttestationFault.WRONG_ROOT
    assert intermediate(manager).issuer == attestation_root().subject
