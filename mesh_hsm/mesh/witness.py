"""The witness: what both sides show after connecting (hsm-1 §6.2)."""

from __future__ import annotations


def witness(request_digest: bytes, connection_digest: bytes) -> str:
    """28 Base32 characters in groups of four, over the SHA-512 of both payloads."""
    raise NotImplementedError
