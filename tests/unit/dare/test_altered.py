"""Every field and every octet of an envelope altered in turn: each alteration is detected.

The table in docs/reference/dare-file.md is this file in words.
"""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from mesh_hsm import dare
from mesh_hsm.dare.strict_json import b64url, compact, un_b64url
from mesh_hsm.errors import (
    CannotVerifyError,
    DecryptionError,
    FormatError,
    MeshHsmError,
    VerificationError,
)
from mesh_hsm.udf import fingerprint, udf_of

Alteration = Callable[[Any, Any], None]  # (envelope, the object inside P)
FAILURES = (FormatError, VerificationError, DecryptionError)


def trust(*keys: Any) -> dict[bytes, Any]:
    return {fingerprint(one.public).octets: one.public for one in keys}


@pytest.fixture(scope="module")
def keys(decryptor: Any, signer: Any) -> dict[str, Any]:
    return {
        "recipient": decryptor("P-256"),
        "second": decryptor("X25519"),
        "signer": signer("P-256"),
        "late": signer("Ed25519", "Late"),
        "stranger": signer("P-256", "Stranger"),
    }


def sealed(keys: dict[str, Any], kind: str) -> list[Any]:
    recipients = [dare.Recipient(keys[name].public) for name in ("recipient", "second")]
    return dare.seal(
        b"content of some length",
        recipients=recipients if "encrypted" in kind else [],
        signers=[keys["signer"]] if "signed" in kind else [],
        meta=dare.ContentMeta(cty="text/plain", filename="a.txt"),
    )


def unsealed(envelope: Any, keys: dict[str, Any]) -> Any:
    known = trust(keys["signer"], keys["stranger"])
    return dare.unseal(envelope, keys=[keys["recipient"]], trusted=known)


def flip(text: str) -> str:
    octets = bytearray(un_b64url(text, "x"))
    octets[0] ^= 1
    return b64url(octets)


def set_in(path: tuple[Any, ...], change: Callable[[Any], Any]) -> Alteration:
    def alter(envelope: Any, P: Any) -> None:
        place: Any = P
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = change(place[path[-1]])

    return alter


def delete(path: tuple[Any, ...]) -> Alteration:
    def alter(envelope: Any, P: Any) -> None:
        place: Any = P
        for step in path[:-1]:
            place = place[step]
        del place[path[-1]]

    return alter


def header(change: Callable[[dict[str, Any]], Any]) -> Alteration:
    return lambda envelope, P: change(envelope[0])


def trailer(change: Callable[[dict[str, Any]], Any]) -> Alteration:
    return lambda envelope, P: change(envelope[2])


def reversed_(value: list[Any]) -> list[Any]:
    return value[::-1]


BOTH: dict[str, Alteration] = {
    "P.v": set_in(("v",), lambda _: "hsm-2"),
    "P.v-missing": delete(("v",)),
    "P.enc": set_in(("enc",), lambda enc: "none" if enc == "A256GCM" else "A256GCM"),
    "P.enc-unknown": set_in(("enc",), lambda _: "A256CBC"),
    "P.EnvelopeId": set_in(("EnvelopeId",), lambda _: "NAAA"),
    "P.EnvelopeId-number": set_in(("EnvelopeId",), lambda _: 1),
    "P.ContentMetaData": set_in(
        ("ContentMetaData",), lambda _: b64url(b'{"Filename":"/etc/passwd"}')
    ),
    "P.ContentMetaData-number": set_in(("ContentMetaData",), lambda _: b64url(b'{"cty":1}')),
    "P.SequenceInfo": lambda envelope, P: P.update(SequenceInfo={"Index": 1}),
    "P.SequenceInfo-no-object": lambda envelope, P: P.update(SequenceInfo=1),
    "P.member-added": lambda envelope, P: P.update(note="x"),
    "header.enc": header(lambda one: one.update(enc="A256CBC")),
    "header.enc-none": header(lambda one: one.update(enc="none")),
    "header.member-added": header(lambda one: one.update(kid="x")),
    "header.Salt-added": header(lambda one: one.update(Salt="AAAA")),
    "header.ContentMetaData-added": header(lambda one: one.update(ContentMetaData="e30")),
    "header.protected-number": header(lambda one: one.update(protected=1)),
    "header.protected-array": header(lambda one: one.update(protected=b64url(b"[]"))),
    "payload": lambda envelope, P: envelope.__setitem__(1, flip(envelope[1])),
    "payload-cut": lambda envelope, P: envelope.__setitem__(1, envelope[1][:-4]),
    "payload-longer": lambda envelope, P: envelope.__setitem__(1, envelope[1] + "AAAA"),
    "payload-empty": lambda envelope, P: envelope.__setitem__(1, ""),
    "trailer.member-added": trailer(lambda one: one.update(PayloadDigest="AAAA")),
    "trailer.witness-added": trailer(lambda one: one.update(witness="AAAA")),
}
ENCRYPTED: dict[str, Alteration] = {
    "P.Salt": set_in(("Salt",), flip),
    "P.Salt-short": set_in(("Salt",), lambda text: text[:22]),
    "P.Commit": set_in(("Commit",), flip),
    "P.recipients-none": set_in(("recipients",), lambda _: []),
    "P.recipients-no-list": set_in(("recipients",), lambda _: {}),
    "P.recipients-one-removed": set_in(("recipients",), lambda entries: entries[:1]),
    "P.recipients-one-repeated": set_in(("recipients",), lambda entries: entries + entries[:1]),
    "P.recipients-reordered": set_in(("recipients",), reversed_),
    "P.kid": set_in(("recipients", 0, "kid"), lambda _: "MAAA"),
    "P.kid-number": set_in(("recipients", 0, "kid"), lambda _: 5),
    "P.kid-of-another": set_in(("recipients", 1, "kid"), lambda _: "MAAA"),
    "P.epk.crv": set_in(("recipients", 0, "epk", "PublicKeyECDH", "crv"), lambda _: "P-384"),
    "P.epk.crv-number": set_in(("recipients", 0, "epk", "PublicKeyECDH", "crv"), lambda _: 1),
    "P.epk.Public": set_in(("recipients", 0, "epk", "PublicKeyECDH", "Public"), flip),
    "P.epk.Public-of-another": set_in(("recipients", 1, "epk", "PublicKeyECDH", "Public"), flip),
    "P.epk-tag": set_in(("recipients", 0, "epk"), lambda one: {"Key": one["PublicKeyECDH"]}),
    "P.wmk": set_in(("recipients", 0, "wmk"), flip),
    "P.wmk-of-another": set_in(("recipients", 1, "wmk"), flip),
    "P.wmk-short": set_in(("recipients", 0, "wmk"), lambda text: text[:-4]),
    "P.recipient-member-added": set_in(("recipients", 0), lambda one: one | {"rkd": "x"}),
    "P.recipient-member-missing": delete(("recipients", 0, "wmk")),
    "P.recipient-made-double": set_in(
        ("recipients", 0), lambda one: one | {"kid2": one["kid"], "epk2": one["epk"]}
    ),
}
SIGNED: dict[str, Alteration] = {
    "P.signers-removed": delete(("signers",)),
    "P.signers-none": set_in(("signers",), lambda _: []),
    "P.signers-other": set_in(("signers",), lambda fps: [flip(fps[0])]),
    "P.signers-added": set_in(("signers",), lambda fps: [*fps, flip(fps[0])]),
    "P.signers-twice": set_in(("signers",), lambda fps: fps * 2),
    "P.signers-short": set_in(("signers",), lambda fps: [fps[0][:-2]]),
    "P.signers-too-many": set_in(("signers",), lambda fps: fps * 65),
    "header.dig": header(lambda one: one.update(dig="S256")),
    "header.dig-missing": header(lambda one: one.pop("dig")),
    "trailer-emptied": trailer(lambda one: one.clear()),
    "trailer.signatures-none": trailer(lambda one: one.update(signatures=[])),
    "trailer.signatures-no-list": trailer(lambda one: one.update(signatures={})),
    "trailer.signatures-twice": trailer(lambda one: one.update(signatures=one["signatures"] * 2)),
    "trailer.signatures-too-many": trailer(
        lambda one: one.update(signatures=one["signatures"] * 257)
    ),
    "trailer.alg": trailer(lambda one: one["signatures"][0].update(alg="S512")),
    "trailer.kid": trailer(lambda one: one["signatures"][0].update(kid="MAAA")),
    "trailer.kid-number": trailer(lambda one: one["signatures"][0].update(kid=1)),
    "trailer.signature": trailer(
        lambda one: one["signatures"][0].update(signature=flip(one["signatures"][0]["signature"]))
    ),
    "trailer.signature-short": trailer(
        lambda one: one["signatures"][0].update(signature=one["signatures"][0]["signature"][:-4])
    ),
    "trailer.signature-empty": trailer(lambda one: one["signatures"][0].update(signature="")),
    "trailer.signature-member-added": trailer(lambda one: one["signatures"][0].update(cert="x")),
    "trailer.signature-member-missing": trailer(lambda one: one["signatures"][0].pop("alg")),
}
UNSIGNED: dict[str, Alteration] = {
    "header.dig-added": header(lambda one: one.update(dig="S512")),
    "trailer.signatures-added": trailer(lambda one: one.update(signatures=[])),
    "P.signers-claimed": lambda envelope, P: P.update(signers=[b64url(bytes(64))]),
}
CASES = [
    pytest.param(kind, alteration, id=f"{kind}-{name}")
    for kind, tables in {
        "encrypted": (BOTH, ENCRYPTED, UNSIGNED),
        "encrypted+signed": (BOTH, ENCRYPTED, SIGNED),
        "signed": (BOTH, SIGNED),
    }.items()
    for table in tables
    for name, alteration in table.items()
]


@pytest.mark.parametrize(("kind", "alteration"), CASES)
def test_an_altered_field_is_detected(
    keys: dict[str, Any], kind: str, alteration: Alteration
) -> None:
    envelope = sealed(keys, kind)
    assert unsealed(envelope, keys).payload == b"content of some length"
    before = copy.deepcopy(envelope)
    octets = un_b64url(envelope[0]["protected"], "P")
    P = json.loads(octets)
    assert compact(P) == octets
    alteration(envelope, P)
    if compact(P) != octets:
        envelope[0]["protected"] = b64url(compact(P))
    assert envelope != before
    with pytest.raises(FAILURES):
        unsealed(envelope, keys)


@pytest.mark.parametrize("kind", ["encrypted", "encrypted+signed", "signed"])
@pytest.mark.parametrize("armor", [False, True])
def test_every_octet_altered_is_detected(keys: dict[str, Any], kind: str, armor: bool) -> None:
    recipients = [dare.Recipient(keys["recipient"].public)] if "encrypted" in kind else []
    signers = [keys["signer"]] if "signed" in kind else []
    sink = io.BytesIO()
    dare.encode(io.BytesIO(b"content"), sink, recipients=recipients, signers=signers, armor=armor)
    octets = sink.getvalue()
    for at in range(len(octets) - 1):  # the last is the line feed after the envelope
        altered = bytearray(octets)
        altered[at] ^= 1 << at % 8
        with pytest.raises(MeshHsmError):
            unsealed(bytes(altered), keys)


@pytest.mark.parametrize("kind", ["encrypted+signed", "signed"])
@pytest.mark.parametrize("armor", [False, True])
@pytest.mark.parametrize("size", [None, 7])
def test_every_truncation_is_detected(
    keys: dict[str, Any], kind: str, armor: bool, size: int | None
) -> None:
    recipients = [dare.Recipient(keys["recipient"].public)] if "encrypted" in kind else []
    sink = io.BytesIO()
    dare.encode(
        io.BytesIO(b"content"),
        sink,
        recipients=recipients,
        signers=[keys["signer"]],
        armor=armor,
        size=size,
    )
    octets = sink.getvalue()
    for length in range(len(octets) - 1):
        with pytest.raises(FormatError):
            unsealed(octets[:length], keys)


@pytest.mark.parametrize("name", ["enc", "protected", "dig"])
def test_a_header_member_that_stands_twice_is_refused(keys: dict[str, Any], name: str) -> None:
    envelope = sealed(keys, "encrypted+signed")
    text = compact(envelope)
    member = compact({name: envelope[0][name]})[1:-1]
    twice = text.replace(member, member + b"," + member, 1)
    assert twice != text
    with pytest.raises(FormatError):
        unsealed(twice, keys)


def test_a_member_of_p_that_stands_twice_is_refused(keys: dict[str, Any]) -> None:
    envelope = sealed(keys, "signed")
    octets = un_b64url(envelope[0]["protected"], "P")
    envelope[0]["protected"] = b64url(octets[:-1] + b',"v":"hsm-1"}')
    with pytest.raises(FormatError):
        unsealed(envelope, keys)


def test_a_stripped_and_replaced_signature_is_detected(keys: dict[str, Any]) -> None:
    """Somebody who cannot read it puts his own signature in the place of the signer's."""
    envelope = sealed(keys, "encrypted+signed")
    stranger = dare.seal(b"", signers=[keys["stranger"]])
    entry = {**stranger[2]["signatures"][0], "kid": udf_of(keys["stranger"].public)}
    envelope[2] = {"signatures": [entry]}
    with pytest.raises(VerificationError):
        unsealed(envelope, keys)


def test_relabelled_as_cbc_it_is_refused(keys: dict[str, Any]) -> None:
    """A GCM payload under the published labels would be a decryption oracle."""
    envelope = sealed(keys, "encrypted")
    P = json.loads(un_b64url(envelope[0]["protected"], "P"))
    relabelled = {"enc": "A256CBC", "Salt": P["Salt"][:22], "recipients": P["recipients"]}
    for header_ in (relabelled, relabelled | {"protected": envelope[0]["protected"]}):
        for decryptor_ in (keys["recipient"], keys["second"]):
            with pytest.raises((FormatError, DecryptionError)):
                dare.unseal(
                    [header_, envelope[1], {}], keys=[decryptor_], allow_unauthenticated=True
                )


def test_another_ephemeral_point_is_detected(keys: dict[str, Any]) -> None:
    """On the curve, of full order, and wrong: the key wrap's check value tells."""
    envelope = sealed(keys, "encrypted")
    P = json.loads(un_b64url(envelope[0]["protected"], "P"))
    point = keys["stranger"].public.encode()
    P["recipients"][0]["epk"]["PublicKeyECDH"]["Public"] = b64url(point)
    envelope[0]["protected"] = b64url(compact(P))
    with pytest.raises(DecryptionError):
        unsealed(envelope, keys)


def test_gcm_without_protected_header_is_refused(keys: dict[str, Any]) -> None:
    envelope = sealed(keys, "encrypted")
    P = json.loads(un_b64url(envelope[0]["protected"], "P"))
    header_ = {"enc": "A256GCM", "Salt": P["Salt"], "recipients": P["recipients"]}
    with pytest.raises(FormatError):
        dare.unseal([header_, envelope[1], {}], keys=[keys["recipient"]])


def test_a_payload_under_another_header_is_refused(keys: dict[str, Any]) -> None:
    one, other = sealed(keys, "encrypted+signed"), sealed(keys, "encrypted+signed")
    for mixed in (
        [one[0], other[1], one[2]],
        [one[0], one[1], other[2]],
        [other[0], one[1], one[2]],
    ):
        with pytest.raises((DecryptionError, VerificationError)):
            unsealed(mixed, keys)


def test_a_later_signature_altered_is_detected_or_reported(keys: dict[str, Any]) -> None:
    """What was added later is outside P: it can be removed unseen, but not forged."""
    envelope = dare.countersign(sealed(keys, "signed"), keys["late"])
    known = trust(keys["signer"], keys["late"])
    late = fingerprint(keys["late"].public).octets
    assert dare.unseal(envelope, trusted=known, require=[late]).payload
    bad = copy.deepcopy(envelope)
    bad[2]["signatures"][1]["signature"] = flip(bad[2]["signatures"][1]["signature"])
    with pytest.raises(VerificationError):
        dare.unseal(bad, trusted=known)
    renamed = copy.deepcopy(envelope)
    renamed[2]["signatures"][1]["kid"] = "MAAA"
    (report,) = dare.unseal(renamed, trusted=known).report.countersigners
    assert report.status is dare.SignatureStatus.UNKNOWN_KEY
    shown = dare.unseal(renamed, trusted=known).report.to_json()["countersigners"]
    assert shown == [{"kid": "MAAA", "status": "key not known"}]
    removed = copy.deepcopy(envelope)
    del removed[2]["signatures"][1]
    assert dare.unseal(removed, trusted=known).report.countersigners == ()
    for one in (renamed, removed):
        with pytest.raises(VerificationError):
            dare.unseal(one, trusted=known, require=[late])


def test_an_unknown_signer_fails_closed(keys: dict[str, Any]) -> None:
    for kind in ("signed", "encrypted+signed"):
        envelope = sealed(keys, kind)
        for known in ({}, trust(keys["stranger"])):
            with pytest.raises(CannotVerifyError):
                dare.unseal(envelope, keys=[keys["recipient"]], trusted=known)
