"""The PKCS#11 provider: keys in any module that speaks PKCS #11 2.40 or 3.x.

Open ``provider`` to see how a token is found, ``token`` for what can be asked of one, and ``key``
to audit the two calls that use a private key. ``dialect`` holds what modules do differently.
"""

from mesh_hsm_pkcs11.provider import Pkcs11Provider

__all__ = ["Pkcs11Provider"]
