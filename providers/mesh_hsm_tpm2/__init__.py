"""The TPM 2.0 provider: keys that a laptop's TPM makes, keeps and multiplies with.

Open ``key`` to audit what touches a private key, ``templates`` and ``policies`` for what a key is,
``sessions`` for what protects the wire, ``wrapping`` to send a share to somebody's TPM. The rules
are hsm-1 §10.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# The TSS logs every refused PIN to stderr by itself; what matters comes as an exception. It reads
# this when it is loaded, so it is said before that.
os.environ.setdefault("TSS2_LOG", "all+none")

if TYPE_CHECKING:
    from mesh_hsm_tpm2.provider import Tpm2Provider

__all__ = ["Tpm2Provider"]


def __getattr__(name: str) -> Any:
    # Late, so that an administrator without tpm2-pytss can still import ``wrapping``.
    if name == "Tpm2Provider":
        from mesh_hsm_tpm2.provider import Tpm2Provider

        return Tpm2Provider
    raise AttributeError(name)
