"""The witness: what both sides show after connecting, for a person to compare (hsm-1 §6.2)."""

from __future__ import annotations

from base64 import b32encode
from hashlib import sha512

from mesh_hsm.framing import F


def witness(request_digest: bytes, connection_digest: bytes) -> str:
    """28 Base32 characters in groups of four, over the SHA-512 of both payloads. No type octet."""
    octets = sha512(F("mesh-hsm/1 witness", request_digest, connection_digest)).digest()
    text = b32encode(octets).decode("ascii")[:28]
    return "-".join(text[at : at + 4] for at in range(0, len(text), 4))
