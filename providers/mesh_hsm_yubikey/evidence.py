"""Evidence that a key lives in a YubiKey and is at hand: what ``attest`` gives, and its verifier.

Open this file to verify a peer's YubiKey. An attestation certificate can be copied by anybody and
names no time, so beside it stands the key's own answer to the verifier's challenge (hsm-1 §11).
One JSON object in one form (``strict_json.compact``, members in the order given here):
``{"evidence":"mesh-hsm/1 piv","verifier":…,"nonce":…,"certificates":[slot, F9],"answer":…}``,
octets as unpadded base64url, certificates in DER.
"""

from __future__ import annotations

from datetime import datetime
from hmac import compare_digest
from typing import Final

from mesh_hsm.curves import Point
from mesh_hsm.dare.strict_json import b64url, compact, parse, require_members, un_b64url
from mesh_hsm.errors import FormatError, VerificationError
from mesh_hsm.provider import DeviceKey, Use
from mesh_hsm.threshold import Challenge, Verifier
from mesh_hsm.udf import fingerprint
from mesh_hsm_yubikey import attestation
from mesh_hsm_yubikey.attestation import Attestation
from mesh_hsm_yubikey.points import same_key
from mesh_hsm_yubikey.roots import Roots

KIND: Final = "mesh-hsm/1 piv"
_ORDER = ("evidence", "verifier", "nonce", "certificates", "answer")
_LARGEST = 65_536


def make(key: DeviceKey, slot_certificate: bytes, f9_certificate: bytes, challenge: bytes) -> bytes:
    """Answer a verifier's ``Challenge.octets`` with a key and its certificates in DER.

    One operation of the key. Raises ``FormatError`` for what is no challenge, and what
    ``Challenge.answer`` raises.
    """
    asked = Challenge.parse(challenge)
    answer = asked.answer(key, fingerprint(key.public).octets)
    return compact(
        {
            "evidence": KIND,
            "verifier": asked.verifier_id,
            "nonce": b64url(asked.nonce),
            "certificates": [b64url(slot_certificate), b64url(f9_certificate)],
            "answer": b64url(answer),
        }
    )


def verify(
    evidence: bytes,
    public: Point,
    use: Use,
    asked: Verifier,
    trusted: Roots | None = None,
    *,
    at: datetime | None = None,
) -> Attestation:
    """What was proved of ``public``, a key of that ``use``, to the verifier who ``asked``.

    Look at ``Attestation.hardware``: under roots of your own it need not be ``ATTESTED``. Raises
    ``FormatError``, ``VerificationError``, and what ``attestation.verify`` raises.
    """
    verifier, nonce, slot, f9, answer = _parse(evidence)
    challenge = asked.challenge
    if verifier != challenge.verifier_id or not compare_digest(nonce, challenge.nonce):
        raise VerificationError("the evidence answers another challenge")
    proved = attestation.verify(slot, f9, trusted, at=at)
    if not same_key(proved.public, public):
        raise VerificationError("the evidence is about another key")
    asked.verify(answer, proved.public, use, fingerprint(proved.public).octets)
    return proved


def _parse(evidence: bytes) -> tuple[str, bytes, bytes, bytes, bytes]:
    value = require_members(parse(evidence, _LARGEST), "the evidence", frozenset(_ORDER))
    if value["evidence"] != KIND:
        raise FormatError("the evidence is of another kind")
    certificates = value["certificates"]
    if not isinstance(certificates, list) or len(certificates) != 2:
        raise FormatError("the evidence does not have two certificates")
    if not isinstance(value["verifier"], str):
        raise FormatError("the evidence names no verifier")
    ordered = {name: value[name] for name in _ORDER}
    if compact(ordered) != evidence:
        raise FormatError("the evidence is not in its one form")
    slot, f9 = (un_b64url(one, "a certificate") for one in certificates)
    nonce = un_b64url(value["nonce"], "the nonce")
    return value["verifier"], nonce, slot, f9, un_b64url(value["answer"], "the answer")
