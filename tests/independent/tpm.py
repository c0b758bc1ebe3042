"""Opened for what a TPM computes (hsm-1 §10): policy digests, and the wrap of an imported share.

TPM 2.0 Part 1 §11.4.10 (KDFa, KDFe), §23 (duplication); Part 2 §12 (public areas); Part 3 §23.
"""

import hashlib
import hmac
from collections.abc import Sequence

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.ciphers.modes import ECB

from .groups import GROUPS

_CURVES = {"P-256": b"\x00\x03", "P-384": b"\x00\x04", "P-521": b"\x00\x05"}
_SCHEME_HASH = {"P-256": b"\x00\x0b", "P-384": b"\x00\x0c", "P-521": b"\x00\x0d"}


def policy(pcrs: Sequence[int], values: Sequence[bytes], *, pin: bool) -> bytes:
    """PolicyPCR over the SHA-256 bank, then PolicyAuthValue where there is a PIN."""
    selection = bytes(sum(1 << pcr % 8 for pcr in pcrs if pcr // 8 == at) for at in range(3))
    state = bytes(32)
    state = hashlib.sha256(
        state
        + bytes.fromhex("0000017f")
        + bytes.fromhex("00000001 000b 03")
        + selection
        + hashlib.sha256(b"".join(values)).digest()
    ).digest()
    if pin:
        state = hashlib.sha256(state + bytes.fromhex("0000016b")).digest()
    return state


def share(
    storage_key: bytes, ephemeral: int, crv: str, use: str, scalar: int, auth: bytes, rule: bytes
) -> tuple[bytes, bytes, bytes]:
    """TPMT_PUBLIC, TPM2B_PRIVATE and TPM2B_ENCRYPTED_SECRET contents of a share for a parent.

    `rule` is the authPolicy, empty for a key with an auth value alone. Imported keys are neither
    fixedTPM nor fixedParent; userWithAuth is set exactly where there is no policy.
    """
    public = _public(crv, use, scalar, rule)
    name = b"\x00\x0b" + hashlib.sha256(public).digest()
    width = GROUPS[crv].width
    sensitive = _sized(
        b"\x00\x23" + _sized(auth) + _sized(b"") + _sized(scalar.to_bytes(width, "big"))
    )
    seed, encrypted = _seed(storage_key, ephemeral)
    ciphertext = _cfb(_kdfa(seed, b"STORAGE", name, 128), sensitive)
    tag = hmac.digest(_kdfa(seed, b"INTEGRITY", b"", 256), ciphertext + name, "sha256")
    return public, _sized(tag) + ciphertext, encrypted


def _public(crv: str, use: str, scalar: int, rule: bytes) -> bytes:
    group = GROUPS[crv]
    attributes = (1 << 18 if use == "Signature" else 1 << 17) | (0 if rule else 1 << 6)
    ecdsa = b"\x00\x18" + _SCHEME_HASH[crv]
    scheme = ecdsa if use == "Signature" else b"\x00\x10"
    octets = group.encode(group.multiply(scalar, group.base))
    x, y = octets[1 : group.width + 1], octets[group.width + 1 :]
    head = b"\x00\x23\x00\x0b" + attributes.to_bytes(4, "big") + _sized(rule) + b"\x00\x10"
    return head + scheme + _CURVES[crv] + b"\x00\x10" + _sized(x) + _sized(y)


def _seed(storage_key: bytes, ephemeral: int) -> tuple[bytes, bytes]:
    """KDFe over the ephemeral agreement with the parent, whose area ends with x and y."""
    group = GROUPS["P-256"]
    parent_x, parent_y = storage_key[-66:-34], storage_key[-32:]
    parent = group.decode(b"\x04" + parent_x + parent_y)
    shared = group.agreement(group.agree(ephemeral, parent))
    sent = group.encode(group.multiply(ephemeral, group.base))
    x, y = sent[1:33], sent[33:]
    seed = hashlib.sha256(b"\0\0\0\x01" + shared + b"DUPLICATE\0" + x + parent_x).digest()
    return seed, _sized(x) + _sized(y)


def _kdfa(key: bytes, label: bytes, context: bytes, bits: int) -> bytes:
    data = b"\0\0\0\x01" + label + b"\0" + context + bits.to_bytes(4, "big")
    return hmac.digest(key, data, "sha256")[: bits // 8]


def _cfb(key: bytes, octets: bytes) -> bytes:
    block = Cipher(algorithms.AES(key), ECB()).encryptor()  # CFB from its definition
    sealed, previous = b"", bytes(16)
    for at in range(0, len(octets), 16):
        part = zip(octets[at : at + 16], block.update(previous), strict=False)
        previous = bytes(a ^ b for a, b in part)
        sealed += previous
    return sealed


def _sized(octets: bytes) -> bytes:
    return len(octets).to_bytes(2, "big") + octets
