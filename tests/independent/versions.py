"""Opened for versions of a ProfileMaster (hsm-1 §7): what a verifier that has seen one accepts."""

import json
from typing import Any

from . import envelope
from .refusal import unverified
from .rules import b64, sha512, udf, unb64


def newest(pinned: dict[str, Any], octets: bytes) -> dict[str, Any]:
    """Version and payload digest of an envelope, if it is no step back from what is pinned.

    `pinned` has the UDF of the master key, the highest version seen and its payload's digest.
    """
    _, payload, _ = envelope.parse(octets)
    profile = json.loads(payload)["ProfileMaster"]
    crv, public = envelope.untagged(profile["ProfileSignature"]["PublicParameters"])
    master = envelope.Key(crv, public)
    content = envelope.open_envelope(octets, [], [master])
    name, version, digest = udf(crv, public), profile["Version"], sha512(content)
    P = envelope.read(octets)[0]
    if name != pinned["udf"] or P["EnvelopeId"] != name or P["signers"] != [b64(master.fp)]:
        raise unverified("another Mesh")
    if version < pinned["version"]:
        raise unverified("an older version")
    if version == pinned["version"] and digest.hex() != pinned["digest"]:
        raise unverified("a second profile of one version")
    previous = unb64(profile["PreviousDigest"])
    if version == pinned["version"] + 1 and previous.hex() != pinned["digest"]:
        raise unverified("the successor of another profile")
    return {"version": version, "digest": digest.hex(), "previous": previous.hex()}
