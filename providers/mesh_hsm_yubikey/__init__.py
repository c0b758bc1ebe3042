"""The YubiKey provider: keys in the PIV application of a YubiKey, reached through yubikit.

Open ``operations`` to audit what touches a private key, ``login`` and ``management`` for PINs and
the management key, ``directory`` for what we keep on the card, ``card`` for how long the reader
is held. The rules are hsm-1 §11, SP 800-73-4 and Yubico's extensions to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mesh_hsm_yubikey.provider import YubiKeyProvider

__all__ = ["YubiKeyProvider"]


def __getattr__(name: str) -> Any:
    # Late, so that attestations can be verified where no yubikit is installed.
    if name == "YubiKeyProvider":
        from mesh_hsm_yubikey.provider import YubiKeyProvider

        return YubiKeyProvider
    raise AttributeError(name)
