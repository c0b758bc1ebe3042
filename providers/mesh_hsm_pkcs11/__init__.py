"""The PKCS#11 provider: keys in any module that speaks PKCS #11 2.40 or 3.x.

Open ``provider`` to see how a token is found, ``token`` for what can be asked of one, and ``key``
to audit the two calls that use a private key. ``dialect`` holds what modules do differently.

python-pkcs11 loads modules, lists slots and mechanisms, opens sessions, makes and takes key pairs,
and sets PINs. The rest goes through ``cryptoki``, which says why.
"""

import os

# A module over a TPM, which p11-kit may list, has the TSS log a dozen lines to stderr on a machine
# without one; what matters comes as an error. The TSS reads this when it is loaded.
os.environ.setdefault("TSS2_LOG", "all+none")

from mesh_hsm_pkcs11.provider import Pkcs11Provider

__all__ = ["Pkcs11Provider"]
