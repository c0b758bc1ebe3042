"""Opened for what a ConnectionDevice is bound to and when it counts as proved (hsm-1 §5, §7)."""

import json
from typing import Any

from . import envelope, proof
from .groups import GROUPS
from .refusal import malformed, unverified
from .rules import b64, sha512, udf, unb64

Json = dict[str, Any]


def verify(master: bytes, device: bytes, octets: bytes, now: str) -> str:
    """`proved` or `claimed, not proved`, of a connection under a ProfileMaster that is trusted.

    `now` is RFC 3339 in UTC, as are the times of the connection, and sorts as text.
    """
    try:
        return _verify(master, device, octets, now)
    except (KeyError, TypeError, ValueError) as error:
        raise malformed("not a connection") from error


def _verify(master: bytes, device: bytes, octets: bytes, now: str) -> str:
    profile, root, _ = _own(master, "ProfileMaster")
    own, subject, digest = _own(device, "ProfileDevice")
    claims, own_digest = _payload(octets, "ConnectionDevice")
    signers = [_key(one) for one in profile["AdministratorSignature"]]
    survives = b64(own_digest) in profile["SurvivingConnections"]
    signed = _signed(octets, signers, subject, survives)
    if (
        claims["AuthorityUdf"] != udf(root.crv, root.public)
        or claims["SubjectUdf"] != udf(subject.crv, subject.public)
        or unb64(claims["ProfileDeviceDigest"]) != digest
        or claims["ProfileMasterVersion"] > profile["Version"]
        or not claims["Created"] < claims["NotOnOrAfter"]
        or now >= claims["NotOnOrAfter"]
    ):
        raise unverified("a connection of another Mesh, device, version or time")
    proofs = [_proved(use, own[use], claims, device) for use in _USES]
    return "proved" if signed and all(proofs) else "claimed, not proved"


_USES = ("Encryption", "Authentication", "Signature")


def _proved(use: str, base: Json, claims: Json, device: bytes) -> bool:
    X, Z = _key(base), _key(claims[use])
    if X.crv != Z.crv:
        raise unverified("a combined key on another curve")
    if "Proof" not in claims[use]:
        return False
    group = GROUPS[X.crv]
    points = group.decode(X.public), group.decode(Z.public)
    _, payload, _ = envelope.parse(device)
    shown = unb64(claims[use]["Proof"])
    proof.verify(X.crv, use, *points, shown, payload, claims["AuthorityUdf"])
    return True


def _signed(
    octets: bytes, signers: list[envelope.Key], subject: envelope.Key, survives: bool
) -> bool:
    """Whether the device has countersigned; refused unless one administrator has signed.

    That one need not be known if the master key vouches for the payload.
    """
    P, _, _, trailer = envelope.read(octets)
    known = [one for one in signers if P["signers"] == [b64(one.fp)]]
    by_the_device = P["signers"] == [b64(subject.fp)]
    if len(P["signers"]) != 1 or by_the_device or not (known or survives):
        raise unverified("not signed by an administrator")
    if P["EnvelopeId"] != udf(subject.crv, subject.public):
        raise unverified("the envelope of another device")
    envelope.open_envelope(octets, [], [*known, subject], vouched=survives)
    kids = [entry["kid"] for entry in trailer["signatures"]]
    return udf(subject.crv, subject.public) in kids


def _own(octets: bytes, tag: str) -> tuple[Json, envelope.Key, bytes]:
    """A profile, the key that it names and is signed by, and the digest of its payload."""
    profile, digest = _payload(octets, tag)
    key = _key(profile["ProfileSignature"])
    P = envelope.read(octets)[0]
    if P["signers"] != [b64(key.fp)] or P["EnvelopeId"] != udf(key.crv, key.public):
        raise unverified("not signed by the key that it names")
    envelope.open_envelope(octets, [], [key])
    return profile, key, digest


def _payload(octets: bytes, tag: str) -> tuple[Json, bytes]:
    _, payload, _ = envelope.parse(octets)
    value: Json = json.loads(payload)[tag]
    return value, sha512(payload)


def _key(value: Json) -> envelope.Key:
    crv, public = envelope.untagged(value["PublicParameters"])
    if value["Udf"] != udf(crv, public):
        raise unverified("the UDF of another key")
    return envelope.Key(crv, public)
