"""Uniform Data Fingerprints: the Mesh's names for keys, nonces and seeds.

Open this for a key's fingerprint, for UDF text in and out, and for keys derived from seeds.
"""

from mesh_hsm.udf.derive import (
    SeedUse,
    derive_key,
    derive_octets,
    new_seed,
    nonce,
    parse_seed,
    present_seed,
)
from mesh_hsm.udf.digest import ContentDigest, content_digest
from mesh_hsm.udf.keys import CONTENT_TYPE, OLDER_CONTENT_TYPES, fingerprint, key_info, udf_of
from mesh_hsm.udf.presentation import TypeId, Udf, is_canonical, matches, parse, present

__all__ = [
    "CONTENT_TYPE",
    "OLDER_CONTENT_TYPES",
    "ContentDigest",
    "SeedUse",
    "TypeId",
    "Udf",
    "content_digest",
    "derive_key",
    "derive_octets",
    "fingerprint",
    "is_canonical",
    "key_info",
    "matches",
    "new_seed",
    "nonce",
    "parse",
    "parse_seed",
    "present",
    "present_seed",
    "udf_of",
]
