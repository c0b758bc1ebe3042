"""Templates of everything we make in a TPM. Open this file before changing an attribute.

A template cannot be repaired once keys exist (hsm-1 §10): noDA stays clear so that guessing is
counted, adminWithPolicy stays clear so that a key can be certified, restricted stays clear because
the Mesh decides what is agreed and signed.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from mesh_hsm.errors import UnsupportedError
from mesh_hsm.provider import Use
from mesh_hsm_tpm2.policies import Policy
from mesh_hsm_tpm2.structures import CURVE_IDS, Alg, Attr, PublicArea

GENERATED = Attr.FIXED_TPM | Attr.FIXED_PARENT | Attr.SENSITIVE_DATA_ORIGIN
"""What says together: made inside this TPM, and can never leave it."""

SCHEME_HASH = {"P-256": Alg.SHA256, "P-384": Alg.SHA384, "P-521": Alg.SHA512}
"""The hash of the fixed ECDSA scheme, and so the only digest length that a key accepts."""

STORAGE_ROOT = PublicArea(
    "P-256",
    GENERATED | Attr.USER_WITH_AUTH | Attr.NO_DA | Attr.RESTRICTED | Attr.DECRYPT,
    storage=True,
)
"""The TCG's ECC P-256 storage root key (TCG TPM v2.0 Provisioning Guidance §7.5.1).

``unique`` is empty, as the readers of TSS2 key files have it.
"""


def key(algorithm: str, use: Use, policy: Policy, *, imported: bool = False) -> PublicArea:
    """A device key: unrestricted, one use, its scheme fixed.

    ``imported`` keys cannot be fixedTPM; their policy has no Duplicate branch instead. Raises
    ``UnsupportedError`` for a curve that no TPM has.
    """
    if algorithm not in CURVE_IDS:
        raise UnsupportedError(f"a TPM has no {algorithm} keys")
    attributes = Attr(0) if imported else GENERATED
    attributes |= Attr.SIGN if use is Use.SIGN else Attr.DECRYPT
    scheme_hash = SCHEME_HASH[algorithm] if use is Use.SIGN else None
    return PublicArea(
        algorithm, attributes | _user_role(policy), policy.digest, scheme_hash=scheme_hash
    )


def sealed() -> PublicArea:
    """A small secret under the storage root key, with or without a PIN."""
    return PublicArea(None, Attr.FIXED_TPM | Attr.FIXED_PARENT | Attr.USER_WITH_AUTH)


def sealed_nothing() -> PublicArea:
    """An empty secret, which a TPM refuses to seal: marked by a policy that nothing satisfies."""
    marker = hashlib.sha256(b"mesh-hsm/1 tpm2 sealed nothing").digest()
    return replace(sealed(), policy=marker)


def _user_role(policy: Policy) -> Attr:
    # With a policy, userWithAuth would let a PIN-only session round the PCRs (hsm-1 §10).
    return Attr(0) if policy.digest else Attr.USER_WITH_AUTH
