"""Opened for the records on envelopes that must be refused: each differs from a good one once."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_wrap
from hsm1_envelopes import CONTENT, case, encode, to
from hsm1_fixed import Case, FixedSigner, Json, fp, octets, own, secret, torsion

from mesh_hsm.curves import Point, curve
from mesh_hsm.dare import suite
from mesh_hsm.dare.strict_json import b64url, compact
from mesh_hsm.udf import udf_of

SIGNER, OTHER = FixedSigner("P-384", "signer"), FixedSigner("P-384", "other signer")
Change = Callable[[Json, list[Any]], object]
"""Changes the members of P, or header, payload and trailer in a list of three."""


def altered() -> list[Case]:
    """hsm-1 §2 and §3: what a reader refuses."""
    bases = {
        "encrypted": encode("unsigned", [to("P-256", "recipient")], [], armor=True),
        "X25519": encode("unsigned X", [to("X25519", "recipient")], [], armor=True),
        "signed": encode("clear", [], [SIGNER], armor=True),
        "both": encode("to alter", [to("P-256", "recipient")], [SIGNER], armor=True),
    }
    cases = []
    for failure, changes in CHANGES.items():
        for (base, name), change in changes.items():
            envelope = _changed(json.loads(bases[base]), change)
            keys = [own("X25519" if base == "X25519" else "P-256", "recipient")]
            cases.append(case(f"{base}: {name}", envelope, keys, [SIGNER], "", failure))
    return cases + _whole(bases) + _crafted()


def _changed(envelope: list[Any], change: Change) -> bytes:
    before = envelope[0]["protected"]
    P = json.loads(base64.urlsafe_b64decode(before + "=="))
    change(P, envelope)
    envelope[0]["protected"] = b64url(compact(P))
    return compact(envelope).replace(b"\\\\u", b"\\u")  # an escape, where one was meant


def _p(**members: object) -> Change:
    return lambda P, _: P.update(members)


def _first(**members: object) -> Change:
    return lambda P, _: P["recipients"][0].update(members)


def _part(at: int, **members: object) -> Change:
    return lambda _, envelope: envelope[at].update(members)


def _payload(change: Callable[[str], str]) -> Change:
    return lambda _, envelope: envelope.__setitem__(1, change(envelope[1]))


def _signature(**members: object) -> Change:
    return lambda _, envelope: envelope[2]["signatures"][0].update(members)


def _again(P: Json, envelope: list[Any]) -> None:
    envelope[2]["signatures"] *= 2


def _epk(octets: bytes) -> Change:
    text = b64url(octets)
    return lambda P, _: P["recipients"][0]["epk"]["PublicKeyECDH"].update(Public=text)


_E = secret("P-256", "e").public()
_X25519 = curve("X25519")
CHANGES: dict[str, dict[tuple[str, str], Change]] = {
    "decryption": {
        ("encrypted", "EnvelopeId"): _p(EnvelopeId="N"),
        ("encrypted", "Salt"): _p(Salt=b64url(bytes(32))),
        ("encrypted", "Commit"): _p(Commit=b64url(bytes(32))),
        ("encrypted", "wmk"): _first(wmk=b64url(bytes(40))),
        ("encrypted", "payload"): _payload(lambda text: text[:-4] + "AAAA"),
        ("encrypted", "epk of another exchange"): _epk(_E.encode()),
    },
    "point": {
        ("encrypted", "epk off the curve"): _epk(_E.encode()[:-1] + bytes([_E.encode()[-1] ^ 1])),
        ("X25519", "epk of small order"): _epk(torsion(_X25519).encode()),
    },
    "verification": {
        ("signed", "payload"): _payload(lambda _: "AAAA"),
        ("signed", "ContentMetaData"): _p(ContentMetaData="e30"),
        ("both", "signature missing"): _part(2, signatures=[]),
        ("both", "another signer"): _p(signers=[b64url(fp(OTHER.public))]),
    },
    "format": {
        ("encrypted", "a member more in P"): _p(x=1),
        ("encrypted", "v"): _p(v="hsm-2"),
        ("encrypted", "enc in P"): _p(enc="none"),
        ("encrypted", "no recipients"): _p(recipients=[]),
        ("encrypted", "Salt of 16 octets"): _p(Salt=b64url(bytes(16))),
        ("encrypted", "ContentMetaData is no JSON"): _p(ContentMetaData="AAAA"),
        ("encrypted", "epk2 beside one kid"): _first(epk2=1),
        ("encrypted", "epk compressed"): _epk(bytes([2 + _E.is_odd]) + _E.encode()[1:33]),
        ("X25519", "epk without its sign"): _epk(_X25519.base.encode()[:-1]),
        ("encrypted", "enc in the header"): _part(0, enc="A256CBC"),
        ("encrypted", "a member more in the header"): _part(0, kid="x"),
        ("encrypted", "dig without signers"): _part(0, dig="S512"),
        ("encrypted", "signatures without signers"): _part(2, signatures=[]),
        ("encrypted", "padding in base64url"): _payload(lambda text: text + "="),
        ("encrypted", "an escape in the payload"): _payload(lambda text: "\\u0041" + text),
        ("both", "another dig"): _part(0, dig="S3"),
        ("both", "a member more in the trailer"): _part(2, x=1),
        ("both", "signers emptied"): _p(signers=[]),
        ("both", "a signer of 32 octets"): _p(signers=[b64url(bytes(32))]),
        ("both", "signature twice"): _again,
        ("both", "alg of a signature"): _signature(alg="S512"),
    },
}


def _whole(bases: dict[str, bytes]) -> list[Case]:
    """Files cut or lengthened, other keys, a member that stands twice."""
    keys, text = [own("P-256", "recipient")], bases["encrypted"]
    twice = text.replace(b'{"enc"', b'{"enc":"A256GCM","enc"', 1)
    binary = encode("binary", [to("P-256", "recipient")], [])
    stranger = [own("P-256", "other")]
    return [
        case("a member twice in the header", twice, keys, [], "", "format"),
        case("cut by one octet", binary[:-2], keys, [], "", "format"),
        case("an octet after it", binary + b"x", keys, [], "", "format"),
        case("another key", bases["both"], stranger, [SIGNER], "", "decryption"),
        case("a signer not known", bases["both"], keys, [OTHER], "", "verification"),
    ]


def _crafted() -> list[Case]:
    """Made by somebody who follows the rules but for one."""
    e, P256 = secret("P-256", "crafted"), secret("P-256", "recipient").public()
    seed, salt = octets("crafted seed"), octets("crafted salt")
    entry = _entry(e.x_of(P256).octets(), e.public(), P256, seed)
    false = _sealed(entry, seed, salt, commit=bytes(32))
    e, X = secret("X25519", "crafted"), secret("X25519", "recipient").public()
    mixed = _entry(e.x_of(X).octets(), e.public() + torsion(_X25519), X, seed)
    torsioned = _sealed(mixed, seed, salt)
    note = "the tag is right: only a reader that compares Commit finds it"
    x_keys, accepted = [own("X25519", "recipient")], "the agreement clears the part of small order"
    return [
        case("a false Commit", false, [own("P-256", "recipient")], [], note, "decryption"),
        case("epk with a part of small order", torsioned, x_keys, [], accepted),
    ]


def _entry(Z: bytes, epk: Point, recipient: Point, seed: bytes) -> Json:
    tagged = {"PublicKeyECDH": {"crv": epk.curve.name, "Public": b64url(epk.encode())}}
    wmk = aes_key_wrap(suite.kek(Z, epk, recipient), seed)
    return {"kid": udf_of(recipient), "epk": tagged, "wmk": b64url(wmk)}


def _sealed(entry: Json, seed: bytes, salt: bytes, commit: bytes | None = None) -> bytes:
    keys = suite.payload_keys(seed, salt)
    P = {"v": "hsm-1", "enc": "A256GCM", "EnvelopeId": "NAAA", "ContentMetaData": "e30"}
    members: Json = {**P, "Salt": b64url(salt), "Commit": b64url(commit or keys.commit)}
    protected = b64url(compact(members | {"recipients": [entry]}))
    payload = AESGCM(keys.key).encrypt(keys.iv, CONTENT, protected.encode())
    return compact([{"enc": "A256GCM", "protected": protected}, b64url(payload), {}])
