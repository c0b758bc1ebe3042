"""Yubico's roots as shipped, and roots that a file brings."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from independent.piv_certificates import SIMULATOR, Authority, authority, ec_key, rsa_key

from mesh_hsm.custody import Hardware
from mesh_hsm.errors import FormatError, MeshHsmError, NotFoundError, StorageError
from mesh_hsm_yubikey import roots
from mesh_hsm_yubikey.roots import YUBICO_INTERMEDIATES, YUBICO_ROOTS, Roots

ABOVE = {
    "Yubico Attestation Intermediate A 1": "Yubico Attestation Root 1",
    "Yubico Attestation Intermediate B 1": "Yubico Attestation Root 1",
    "Yubico PIV Attestation A 1": "Yubico Attestation Intermediate A 1",
    "Yubico PIV Attestation B 1": "Yubico Attestation Intermediate B 1",
    "Yubico PIV Attestation B2 1": "Yubico Attestation Intermediate B 1",
}


def by_name(certificates: tuple[x509.Certificate, ...]) -> dict[str, x509.Certificate]:
    return {roots.common_name(one.subject): one for one in certificates}


def test_yubicos_certificates_verify_among_themselves() -> None:
    shipped = Roots.yubico()
    anchors, between = by_name(shipped.anchors), by_name(shipped.intermediates)
    assert set(anchors) == {name for name, _ in YUBICO_ROOTS.values()}
    assert set(between) == {name for name, _ in YUBICO_INTERMEDIATES.values()} == set(ABOVE)
    for one in anchors.values():
        one.verify_directly_issued_by(one)
        assert roots.hardware(one) is Hardware.ATTESTED
    for name, one in between.items():
        one.verify_directly_issued_by((anchors | between)[ABOVE[name]])
        assert one.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        assert roots.hardware(one) is Hardware.CLAIMED  # no anchor by itself
    assert anchors["Yubico PIV Root CA Serial 263751"].serial_number == 263751
    assert anchors["Yubico U2F Root CA Serial 457200631"].serial_number == 457200631


def test_every_certificate_file_is_used() -> None:
    folder = Path(roots.__file__).parent / "roots"
    listed = {name for _, name in (*YUBICO_ROOTS.values(), *YUBICO_INTERMEDIATES.values())}
    assert {path.name for path in folder.iterdir()} == listed


def test_an_exchanged_file_is_noticed() -> None:
    (_, file), *_ = YUBICO_ROOTS.values()
    with pytest.raises(FormatError, match="is not the one of this version"):
        roots._packaged({"00" * 32: ("Yubico PIV Root CA Serial 263751", file)})


def test_a_file_brings_roots_and_intermediates(tmp_path: Path) -> None:
    root, other = authority("a root"), authority("another", key=ec_key())
    between = authority("between", root, rsa_key(1))
    path = tmp_path / "roots.pem"
    path.write_bytes(between.pem + root.pem + other.pem)
    found = Roots.from_file(path)
    assert found.anchors == (root.certificate, other.certificate)
    assert found.intermediates == (between.certificate,)
    both = Roots.yubico() | found | found
    assert both.anchors == (*Roots.yubico().anchors, *found.anchors)
    assert both.intermediates == (*Roots.yubico().intermediates, between.certificate)


def test_a_file_cannot_lend_yubicos_name() -> None:
    (name, _), *_ = YUBICO_ROOTS.values()
    assert roots.hardware(authority(name).certificate) is Hardware.CLAIMED
    assert roots.hardware(authority(SIMULATOR).certificate) is Hardware.SIMULATOR


def test_yubicos_own_root_counts_in_a_file_too(tmp_path: Path) -> None:
    folder = Path(roots.__file__).parent / "roots"
    found = Roots.from_file(folder / "yubico-attestation-root-1.pem")
    assert [roots.hardware(one) for one in found.anchors] == [Hardware.ATTESTED]


BAD_FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "no certificates"),
    "no PEM": (b"hello", "no certificates"),
    "truncated": (authority("r").pem[:300], "no certificates"),
    "a key": (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "no certificates"),
    "no root": (authority("b", authority("r"), rsa_key(1)).pem, "none is signed by itself"),
    "only named after itself": (authority("r", signed_by=rsa_key(1)).pem, "signed by itself"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files(name: str, tmp_path: Path) -> None:
    octets, words = BAD_FILES[name]
    path = tmp_path / "roots.pem"
    path.write_bytes(octets)
    with pytest.raises(FormatError, match=words) as caught:
        Roots.from_file(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "error"), [("absent.pem", NotFoundError), ("folder", StorageError)]
)
def test_files_that_cannot_be_read(name: str, error: type[MeshHsmError], tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(error):
        Roots.from_file(tmp_path / name)


def test_a_name_without_one_common_name_is_shown_whole() -> None:
    name = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Somebody")])
    assert roots.common_name(name) == "O=Somebody"
    made: Authority = authority("x")
    assert roots.common_name(made.name) == "x"
