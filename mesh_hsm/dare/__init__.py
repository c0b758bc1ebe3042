"""DARE envelopes: encrypt to keys that live in devices, sign, and read both back.

Start here. ``encode`` and ``decode`` stream files of any size in bounded memory; ``seal`` and
``unseal`` handle small objects as JSON. We write the suite of hsm-1 §2-§3 (``HSM1``) and, on
request, the newest published form (``PUBLISHED``); both are read.
"""

from mesh_hsm.dare.envelope import (
    countersign,
    decode,
    encode,
    inspect,
    peek_payload,
    seal,
    unseal,
    verify,
)
from mesh_hsm.dare.model import (
    HSM1,
    PUBLISHED,
    ContentMeta,
    Decryptor,
    Dialect,
    DoubleDecryptor,
    DoubleRecipient,
    Opened,
    Recipient,
    Report,
    SignatureReport,
    SignatureStatus,
    Signer,
)
from mesh_hsm.dare.published_keys import PresharedKey

__all__ = [
    "HSM1",
    "PUBLISHED",
    "ContentMeta",
    "Decryptor",
    "Dialect",
    "DoubleDecryptor",
    "DoubleRecipient",
    "Opened",
    "PresharedKey",
    "Recipient",
    "Report",
    "SignatureReport",
    "SignatureStatus",
    "Signer",
    "countersign",
    "decode",
    "encode",
    "inspect",
    "peek_payload",
    "seal",
    "unseal",
    "verify",
]
