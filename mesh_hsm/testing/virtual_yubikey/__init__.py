"""A virtual YubiKey for tests: discovery and the whole PIV application, at the level of APDUs.

``VirtualYubiKey`` is the device; hand it to a transport, or send it APDUs with ``transmit``.
"""

from mesh_hsm.testing.virtual_yubikey.choices import OTHERS, OURS, Choices
from mesh_hsm.testing.virtual_yubikey.device import SERIALS, Removed, VirtualYubiKey
from mesh_hsm.testing.virtual_yubikey.management import YUBIKEY_5, Capability
from mesh_hsm.testing.virtual_yubikey.piv.attestation_identity import (
    AttestationFault,
    attestation_root,
)
from mesh_hsm.testing.virtual_yubikey.piv.names import Operation
from mesh_hsm.testing.virtual_yubikey.touch import Finger, after
from mesh_hsm.testing.virtual_yubikey.trace import Record

__all__ = [
    "OTHERS",
    "OURS",
    "SERIALS",
    "YUBIKEY_5",
    "AttestationFault",
    "Capability",
    "Choices",
    "Finger",
    "Operation",
    "Record",
    "Removed",
    "VirtualYubiKey",
    "after",
    "attestation_root",
]
