"""Is an RSA modulus one of those that Infineon's library made badly? Open this to check F9's key.

The primes have the form k·M + (65537^a mod M), M the product of the first 126 primes for moduli of
2048 bits and of more for longer ones, so that a modulus is a power of 65537 modulo each of them
(Nemec et al., "The Return of Coppersmith's Attack", CCS 2017, §2). Modulo all 126 that happens to
one sound key in 2^167.
"""

from __future__ import annotations

from functools import cache


def has_fingerprint(modulus: int) -> bool:
    """True if the private key can be computed from this modulus (CVE-2017-15361)."""
    return all(modulus % p in powers for p, powers in _powers_of_65537())


@cache
def _powers_of_65537() -> tuple[tuple[int, frozenset[int]], ...]:
    """For each odd prime up to the 126th, 701."""
    primes = (n for n in range(3, 702) if all(n % d for d in range(2, n)))
    return tuple((p, frozenset(pow(65537, a, p) for a in range(p))) for p in primes)
