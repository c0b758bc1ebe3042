"""Opened to have an envelope's signature checked by the openssl command line."""

import base64
import subprocess
from pathlib import Path

from . import envelope, rules, signing


def verified_by_openssl(octets: bytes, crv: str, public: bytes, folder: Path) -> None:
    """Raise `AssertionError` unless openssl accepts the first signature under this NIST key.

    It gets M itself, the ordinary SubjectPublicKeyInfo, and r and s in DER.
    """
    _, protected, payload, trailer = envelope.read(octets)
    raw = rules.unb64(trailer["signatures"][0]["signature"])
    half = len(raw) // 2
    (folder / "M").write_bytes(signing.message(crv, public, protected, payload))
    (folder / "signature").write_bytes(_der(raw[:half], raw[half:]))
    text = base64.encodebytes(rules.key_info(crv, public)).decode()
    (folder / "key").write_text(f"-----BEGIN PUBLIC KEY-----\n{text}-----END PUBLIC KEY-----\n")
    size = {"P-256": "256", "P-384": "384", "P-521": "512"}[crv]
    command = ["openssl", "dgst", f"-sha{size}", "-verify", "key", "-signature", "signature", "M"]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if ran.returncode or ran.stdout.strip() != "Verified OK":
        raise AssertionError(ran.stdout + ran.stderr)


def _der(*numbers: bytes) -> bytes:
    """SEQUENCE of INTEGERs, each without superfluous zeros."""
    body = b""
    for octets in numbers:
        value = int.from_bytes(octets, "big")
        shortest = value.to_bytes(value.bit_length() // 8 + 1, "big")
        body += bytes([2, len(shortest)]) + shortest
    return bytes([0x30, len(body)] if len(body) < 128 else [0x30, 0x81, len(body)]) + body
