"""Is an RSA modulus one of those that Infineon's library made badly? Open this to check F9's key.

The primes have the form k·M + (65537^a mod M) with M the product of the first primes, so that a
modulus is a power of 65537 modulo each of them (Nemec et al., "The Return of Coppersmith's
Attack", CCS 2017, §2). Of sound keys about one in 2^154 looks like that.
"""

from __future__ import annotations

from typing import Final

_PRIMES: Final = tuple(n for n in range(3, 168) if all(n % d for d in range(2, n)))
_POWERS: Final = tuple((p, frozenset(pow(65537, a, p) for a in range(p))) for p in _PRIMES)


def has_fingerprint(modulus: int) -> bool:
    """True if the private key can be computed from this modulus (CVE-2017-15361)."""
    return all(modulus % p in powers for p, powers in _POWERS)
