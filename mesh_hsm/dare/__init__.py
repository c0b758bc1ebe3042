"""DARE envelopes: encrypt to keys that live in devices, sign, and read both back.

Start here. ``encode`` and ``decode`` stream files of any size in bounded memory; ``seal`` and
``unseal`` handle small objects as JSON. We write the suite of hsm-1 §2-§3 (``HSM1``) and, on
request, the newest published form (``PUBLISHED``); both are read.
"""

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

__all__ = [
    "HSM1",
    "PUBLISHED",
    "ContentMeta",
    "Decryptor",
    "Dialect",
    "DoubleDecryptor",
    "DoubleRecipient",
    "Opened",
    "Recipient",
    "Report",
    "SignatureReport",
    "SignatureStatus",
    "Signer",
]
