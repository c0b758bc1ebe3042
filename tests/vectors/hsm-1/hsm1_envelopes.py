"""Opened for the records on envelopes: derivations, and whole files that are accepted."""

from __future__ import annotations

import io
import json
from hashlib import sha512

from hsm1_fixed import (
    AGREEING,
    SIGNING,
    Case,
    FixedSigner,
    Json,
    chance,
    fp,
    octets,
    own,
    point_hex,
    scalar_hex,
    secret,
    torsion,
)

from mesh_hsm import dare
from mesh_hsm.curves import curve
from mesh_hsm.dare import signatures
from mesh_hsm.dare.strict_json import b64url, compact

CONTENT = "Content in UTF-8: Ångström, 封筒\n".encode()
META = dare.ContentMeta(cty="text/plain", filename="a note.txt", created="2026-11-23T12:00:00Z")


def derivations() -> list[Case]:
    """hsm-1 §2 and §6.3 below the level of files."""
    cases = []
    seed, salt = octets("base seed"), octets("salt")
    for on in AGREEING:
        inputs = _wrapping(on, "recipient") | {"seed": seed.hex()}
        cases.append(Case(f"wrap for {on}", "kek", inputs))
        small = torsion(curve(on)).encode().hex() if on.startswith("X") else None
        if small:
            altered = {**inputs, "recipient": small}
            cases.append(Case(f"{on}: recipient of small order", "kek", altered, "", "point"))
    for on, two in (("P-384", "P-384"), ("P-384", "X448"), ("X25519", "P-256"), ("P-521", "P-521")):
        double: Json = {"device": _wrapping(on, "device"), "once": _wrapping(two, "once")}
        cases.append(Case(f"double wrap, {on} and {two}", "kek2", double | {"seed": seed.hex()}))
    for size in (0, 1, 16, 1000):
        inputs = {"seed": seed.hex(), "salt": salt.hex(), "protected": "eyJ2IjoiaHNtLTEifQ"}
        inputs["content"] = octets("content", size).hex()
        cases.append(Case(f"payload of {size} octets", "payload", inputs))
    return cases


def _wrapping(on: str, name: str) -> Json:
    recipient = point_hex(secret(on, name).public())
    return {"crv": on, "recipient": recipient, "ephemeral": scalar_hex(secret(on, f"e {name}"))}


def envelopes() -> list[Case]:
    """hsm-1 §2, §3 and §6.3 as files."""
    cases = []
    for on in AGREEING:
        for form in ("binary", "text"):
            octets_ = encode(f"{on} {form}", [to(on, "recipient")], [], armor=form == "text")
            cases.append(case(f"for {on}, {form} form", octets_, [own(on, "recipient")], []))
    for on in SIGNING:
        signer = FixedSigner(on, "signer")
        cases.append(case(f"signed by {on}", encode(f"by {on}", [], [signer]), [], [signer]))
    several = [to(on, "recipient") for on in AGREEING]
    signers = [FixedSigner("P-384", "signer"), FixedSigner("Ed448", "signer")]
    whole = encode("several", several, signers)
    for on in AGREEING:
        cases.append(
            case(f"five recipients, two signers: {on}", whole, [own(on, "recipient")], signers)
        )
    note = "chunks of 3, 0 and 4 octets and a final item: readers take any"
    chunked = rechunked(whole)
    cases.append(case("payload in chunks", chunked, [own("P-256", "recipient")], signers, note))
    both = dare.DoubleRecipient(secret("P-384", "device").public(), secret("X448", "once").public())
    double = encode("double", [both], signers[:1])
    pair = [own("P-384", "device"), own("X448", "once")]
    cases.append(case("for two keys at once", double, pair, signers[:1]))
    for key in pair:
        name = f"for two keys at once, {key['crv']} alone"
        cases.append(case(name, double, [key], signers[:1], failure="decryption"))
    return cases + _harmless()


def _harmless() -> list[Case]:
    """What says nothing and is accepted: other ways to write the same envelope."""
    signer, second = FixedSigner("P-384", "signer"), FixedSigner("Ed25519", "countersigner")
    binary = encode("harmless", [to("P-256", "recipient")], [signer])
    text = encode("harmless", [to("P-256", "recipient")], [signer], armor=True)
    envelope = json.loads(text)
    with chance("countersigned"):
        both = dare.countersign(envelope, second)
    bad = json.loads(compact(both))
    bad[2]["signatures"][1]["signature"] = b64url(bytes(64))
    close = binary.rindex(b'{"signatures"')
    unsigned = encode("harmless, unsigned", [to("P-256", "recipient")], [], armor=True)
    keys = [own("P-256", "recipient")]
    spaced = json.dumps(envelope, indent=1).encode()
    comma = binary[:close] + b"," + binary[close:]
    return [
        case("white space between items", spaced, keys, [signer]),
        case("a comma after a binary payload", comma, keys, [signer]),
        case("no trailer", unsigned.replace(b",{}]", b"]"), keys, []),
        case("countersigned", compact(both), keys, [signer, second]),
        case("countersigned by a stranger", compact(both), keys, [signer]),
        case("a bad countersignature by a stranger", compact(bad), keys, [signer]),
        case(
            "a bad countersignature by a known key",
            compact(bad),
            keys,
            [signer, second],
            failure="verification",
        ),
        _spaced(signer),
    ]


def _spaced(signer: FixedSigner) -> Case:
    """A signed envelope whose P was written with white space and in another order."""
    P = {"signers": [b64url(fp(signer.public))], "ContentMetaData": "e30", "EnvelopeId": "NAAA"}
    protected = b64url(json.dumps({**P, "enc": "none", "v": "hsm-1"}, indent=2).encode())
    entry = signatures.sign(signer, protected, sha512(CONTENT).digest())
    header = {"protected": protected, "dig": "S512"}
    envelope = compact([header, b64url(CONTENT), {"signatures": [entry]}])
    return case("white space in P, another order", envelope, [], [signer])


def to(on: str, name: str) -> dare.Recipient:
    """A recipient."""
    return dare.Recipient(secret(on, name).public())


def encode(
    name: str,
    recipients: list[dare.Recipient] | list[dare.DoubleRecipient],
    signers: list[FixedSigner],
    *,
    armor: bool = False,
    content: bytes = CONTENT,
    size: int | None = len(CONTENT),
) -> bytes:
    """An envelope's octets, the same for the same name."""
    sink = io.BytesIO()
    with chance(name):
        dare.encode(
            io.BytesIO(content),
            sink,
            recipients=recipients,
            signers=signers,
            meta=META,
            armor=armor,
            size=size,
        )
    return sink.getvalue()


def rechunked(binary: bytes) -> bytes:
    """The same envelope with its payload in chunks, which no signature covers."""
    at = binary.index(b",\x8b") + 1
    size = int.from_bytes(binary[at + 1 : at + 9], "big")
    payload, rest = binary[at + 9 : at + 9 + size], binary[at + 9 + size :]
    parts = (b"\x8c\x03" + payload[:3], b"\x8d\0\0", b"\x8e\0\0\0\x04" + payload[3:7])
    last = b"\x89" + (size - 7).to_bytes(2, "big") + payload[7:]
    return binary[:at] + b"".join(parts) + last + rest


def case(
    name: str,
    envelope: bytes,
    keys: list[Json],
    trusted: list[FixedSigner],
    note: str = "",
    failure: str | None = None,
) -> Case:
    """A record of kind `open`."""
    form = {"text": envelope.decode()} if envelope.isascii() else {"binary": envelope.hex()}
    inputs = {**form, "keys": keys, "trusted": [one.record for one in trusted]}
    return Case(name, "open", inputs, note, failure)
