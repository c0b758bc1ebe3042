"""Opened to write an envelope of hsm-1 (hsm-1 §2, §3, §6.3) with every random number given."""

import json
from collections.abc import Callable, Sequence

from . import signing
from .envelope import (
    ENC,
    Json,
    join,
    kek,
    kek2,
    payload_keys,
    seal_payload,
    tagged,
    wrap,
)
from .groups import GROUPS
from .rules import b64, fingerprint, udf

Signer = tuple[str, bytes, Callable[[bytes], bytes]]
"""Curve, public octets, and what signs M."""


def protect(members: Json) -> str:
    """P: base64url of the object without insignificant white space."""
    return b64(json.dumps(members, separators=(",", ":"), ensure_ascii=False).encode())


def recipient(crv: str, public: bytes, e: int, seed: bytes) -> Json:
    """One recipient entry, from the ephemeral scalar e."""
    Z, first = _sent(crv, public, e)
    wmk = b64(wrap(kek(Z, *first), seed))
    return {"kid": udf(crv, public), "epk": tagged(*first[:2]), "wmk": wmk}


def double_recipient(
    device: tuple[str, bytes, int], once: tuple[str, bytes, int], seed: bytes
) -> Json:
    """The one entry of §6.3 for (crv, public, ephemeral scalar) twice."""
    Z, first = _sent(*device)
    Z2, second = _sent(*once)
    return {
        "kid": udf(*device[:2]),
        "epk": tagged(*first[:2]),
        "kid2": udf(*once[:2]),
        "epk2": tagged(*second[:2]),
        "wmk": b64(wrap(kek2(Z + Z2, first, second), seed)),
    }


def _sent(crv: str, public: bytes, e: int) -> tuple[bytes, tuple[str, bytes, bytes]]:
    group = GROUPS[crv]
    Z = group.agreement(group.multiply(e, group.sound(group.decode(public))))
    epk = group.encode(group.multiply(e, group.base))
    return Z, (crv, epk, fingerprint(crv, public))


def encrypt(
    content: bytes, seed: bytes, salt: bytes, recipients: Sequence[Json], others: Json
) -> tuple[str, bytes]:
    """P and payload; `others` are EnvelopeId, ContentMetaData, signers."""
    key, iv, commit = payload_keys(seed, salt)
    P = protect(
        {"v": "hsm-1", "enc": ENC, "Salt": b64(salt), "Commit": b64(commit)}
        | {"recipients": list(recipients)}
        | others
    )
    return P, seal_payload(key, iv, P.encode(), content)


def make(
    content: bytes,
    seed: bytes,
    salt: bytes,
    recipients: Sequence[Json],
    signers: Sequence[Signer],
    *,
    binary: bool,
) -> bytes:
    """An envelope's octets: encrypted if it has recipients, signed if it has signers."""
    fps = [b64(fingerprint(crv, public)) for crv, public, _ in signers]
    others: Json = {"EnvelopeId": "NAAA", "ContentMetaData": b64(b"{}")}
    others |= {"signers": fps} if fps else {}
    if recipients:
        P, payload = encrypt(content, seed, salt, recipients, others)
    else:
        P, payload = protect({"v": "hsm-1", "enc": "none", **others}), content
    entries = []
    for crv, public, sign in signers:
        M = signing.message(crv, public, P.encode(), payload)
        entries.append({"alg": "MH1", "kid": udf(crv, public), "signature": b64(sign(M))})
    header = {"protected": P} | ({"enc": ENC} if recipients else {})
    header |= {"dig": "S512"} if fps else {}
    return join(header, payload, {"signatures": entries} if fps else {}, binary)
