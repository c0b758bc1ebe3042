"""Chains as ``openssl verify`` sees them: the same yes and no, by another implementation."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from independent.piv_certificates import F9_NAME, Authority, attest, authority, ec_key, rsa_key

from mesh_hsm.errors import VerificationError
from mesh_hsm_yubikey import attestation, roots
from mesh_hsm_yubikey.roots import Roots

VECTORS = Path(__file__).parents[2] / "vectors" / "yubikey"
SHIPPED = Path(roots.__file__).parent / "roots"
AT = datetime(2026, 1, 1, tzinfo=UTC)
OLD = (datetime(2016, 3, 14, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC))

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="needs the openssl command")


def openssl(trusted: list[Path], untrusted: list[Path], leaf: Path) -> bool:
    named = [("-trusted", path) for path in trusted] + [("-untrusted", path) for path in untrusted]
    options = [part for pair in named for part in pair]
    done = subprocess.run(
        ["openssl", "verify", "-check_ss_sig", "-attime", f"{AT.timestamp():.0f}", *options, leaf],
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


def test_yubicos_certificates() -> None:
    anchors = [SHIPPED / name for _, name in roots.YUBICO_ROOTS.values()]
    between = [SHIPPED / name for _, name in roots.YUBICO_INTERMEDIATES.values()]
    for path in (*anchors, *between):
        assert openssl(anchors, between, path), path
    assert not openssl(anchors[:1], between, between[0])


@pytest.mark.parametrize("serial", ["25515137", "13078782"])
def test_real_attestations(serial: str) -> None:
    root = SHIPPED / "yubico-piv-root-ca-263751.pem"
    slot, f9 = (VECTORS / f"{serial}-{name}.pem" for name in ("9c", "f9"))
    assert openssl([root], [f9], slot)
    assert not openssl([SHIPPED / "yubico-attestation-root-1.pem"], [f9], slot)


ROOT = authority("a root")
KEY = ec_key(9, "P-384").public_key()
F9S: dict[str, tuple[Authority, bool]] = {
    "RSA": (authority(F9_NAME, ROOT, rsa_key(1), path_length=0), True),
    "EC": (authority(F9_NAME, ROOT, ec_key(1), path_length=0), True),
    "signs certificates": (
        authority(F9_NAME, ROOT, rsa_key(1), signs_certificates=True),
        True,
    ),
    "expired": (authority(F9_NAME, ROOT, rsa_key(1), valid=OLD), False),
    "no authority": (authority(F9_NAME, ROOT, rsa_key(1), ca=False), False),
    "signs no certificates": (
        authority(F9_NAME, ROOT, rsa_key(1), signs_certificates=False),
        False,
    ),
    "not under this root": (authority(F9_NAME, authority("b"), rsa_key(1)), False),
    "signed by another": (authority(F9_NAME, ROOT, rsa_key(1), signed_by=rsa_key(4)), False),
}


@pytest.mark.parametrize("name", F9S)
def test_made_chains(name: str, tmp_path: Path) -> None:
    f9, good = F9S[name]
    slot = attest(f9, KEY)
    pem = x509.load_der_x509_certificate(slot).public_bytes(Encoding.PEM)
    for file, octets in (("root", ROOT.pem), ("f9", f9.pem), ("slot", pem)):
        (tmp_path / file).write_bytes(octets)
    assert openssl([tmp_path / "root"], [tmp_path / "f9"], tmp_path / "slot") == good
    try:
        attestation.verify(slot, f9.der, Roots((ROOT.certificate,)), at=AT)
        ours = True
    except VerificationError:
        ours = False
    assert ours == good
