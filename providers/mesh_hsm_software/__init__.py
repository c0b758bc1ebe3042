"""The software provider: keys in an encrypted file, for machines without a device and for tests.

Open ``private`` to audit what touches a private key, ``store`` for the file, ``token`` and ``key``
for the contract.
"""

from mesh_hsm_software.provider import SoftwareProvider

__all__ = ["SoftwareProvider"]
