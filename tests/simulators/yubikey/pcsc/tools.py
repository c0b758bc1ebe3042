"""Tools of other people's, unmodified, and what all of them must find on a virtual YubiKey."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mesh_hsm.testing.virtual_yubikey import attestation_root

OPENSC, YKCS11 = "opensc-pkcs11.so", "libykcs11.so.2"
_YKMAN = Path(sys.executable).with_name("ykman")


@dataclass(frozen=True)
class Tools:
    """Runs them in ``folder`` with ``environment``; ``reader`` where ykman has to be told."""

    environment: dict[str, str]
    folder: Path
    reader: str | None = None

    def ykman(self, *arguments: str, fails: bool = False) -> str:
        """What ``ykman`` says on its standard output; where it ``fails``, on standard error."""
        where = ("--reader", self.reader) if self.reader else ()
        return self._run(str(_YKMAN), *where, *arguments, fails=fails)

    def pkcs11(self, module: str, *arguments: str) -> str:
        """What OpenSC's ``pkcs11-tool`` says of a PKCS #11 module."""
        if shutil.which("pkcs11-tool") is None:
            pytest.skip("OpenSC is not installed")
        return self._run("pkcs11-tool", "--module", module, *arguments)

    def _run(self, *command: str, fails: bool = False) -> str:
        done = subprocess.run(
            command,
            env=os.environ | self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert bool(done.returncode) == fails, f"{command}:\n{done.stdout}{done.stderr}"
        return done.stderr if fails else done.stdout


def check_key(tools: Tools, pin: str) -> ec.EllipticCurvePublicKey:
    """Make a key in 9D with a certificate; check its attestation; return its public part."""
    tools.ykman("piv", "keys", "generate", "-P", pin, "-a", "ECCP256", "9d", "public.pem")
    tools.ykman("piv", "certificates", "generate", "-P", pin, "-s", "CN=agree", "9d", "public.pem")
    tools.ykman("piv", "keys", "attest", "9d", "attestation.pem")
    tools.ykman("piv", "certificates", "export", "f9", "f9.pem")
    tools.ykman("piv", "certificates", "export", "9d", "certificate.pem")
    public = serialization.load_pem_public_key((tools.folder / "public.pem").read_bytes())
    assert isinstance(public, ec.EllipticCurvePublicKey)
    attestation, f9, certificate = (
        x509.load_pem_x509_certificate((tools.folder / f"{name}.pem").read_bytes())
        for name in ("attestation", "f9", "certificate")
    )
    assert attestation.public_key() == certificate.public_key() == public
    attestation.verify_directly_issued_by(f9)
    f9.verify_directly_issued_by(attestation_root())
    certificate.verify_directly_issued_by(certificate)  # the key in 9D has signed
    info = tools.ykman("piv", "info")
    assert "Private key type: ECCP256" in info
    assert "Subject DN:       CN=agree" in info
    return public


def check_agreement(tools: Tools, pin: str, module: str, public: ec.EllipticCurvePublicKey) -> None:
    """A PKCS #11 module derives from 9D what another library derives from the other side."""
    login = ("--login", "--pin", pin, "--id", "03")
    peer = ec.generate_private_key(ec.SECP256R1())
    (tools.folder / "peer.der").write_bytes(
        peer.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    tools.pkcs11(
        *(module, *login, "--derive", "-m", "ECDH1-DERIVE"),
        *("--input-file", "peer.der", "--output-file", "shared"),
    )
    assert (tools.folder / "shared").read_bytes() == peer.exchange(ec.ECDH(), public)


def check_signature(tools: Tools, pin: str, module: str, public: ec.EllipticCurvePublicKey) -> None:
    """A PKCS #11 module signs with 9D."""
    (tools.folder / "letter").write_bytes(b"Dear YubiKey")
    tools.pkcs11(
        *(module, "--login", "--pin", pin, "--id", "03", "--sign", "-m", "ECDSA-SHA256"),
        *("--signature-format", "openssl", "--input-file", "letter", "--output-file", "signature"),
    )
    signature = (tools.folder / "signature").read_bytes()
    public.verify(signature, b"Dear YubiKey", ec.ECDSA(hashes.SHA256()))
