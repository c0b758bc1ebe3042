"""Opened to recompute a record of tests/vectors/hsm-1: kind and inputs give the expected octets.

Octets are hexadecimal; scalars are octets at scalar width in the curve's byte order.
"""

from collections.abc import Callable
from typing import Any

from . import connection, envelope, proof, recovery, rules, signing, tpm, versions
from .groups import GROUPS, Group, Point
from .refusal import Refused, unverified

Json = dict[str, Any]


def answer(kind: str, inputs: Json) -> Json:
    """The `expected` member of a record, errors included."""
    try:
        return _KINDS[kind](inputs)
    except Refused as refused:
        return {"error": refused.failure}


def _octets(inputs: Json, *names: str) -> list[bytes]:
    return [bytes.fromhex(inputs[name]) for name in names]


def _group(inputs: Json) -> Group:
    return GROUPS[inputs["crv"]]


def _scalar(inputs: Json, name: str) -> int:
    return _group(inputs).scalar(bytes.fromhex(inputs[name]))


def _point(inputs: Json, name: str) -> Point:
    return _group(inputs).decode(bytes.fromhex(inputs[name]))


def _scalar_hex(group: Group, value: int) -> str:
    return value.to_bytes(group.scalar_width, group.endian).hex()


def _fingerprint(inputs: Json) -> Json:
    crv, public = inputs["crv"], bytes.fromhex(inputs["public"])
    return {
        "key_info": rules.key_info(crv, public).hex(),
        "fp": rules.fingerprint(crv, public).hex(),
        "udf": rules.udf(crv, public),
    }


def _decode(inputs: Json) -> Json:
    group, P = _group(inputs), _point(inputs, "public")
    return {
        "plain": group.agreement(group.foreign(P)).hex(),
        "odd": P is not None and P[1] % 2 == 1,
    }


def _contribution(inputs: Json) -> Json:
    group = _group(inputs)
    y = rules.contribution(bytes.fromhex(inputs["seed"]), inputs["name"], group.name)
    return {"y": _scalar_hex(group, y), "Y": group.encode(group.multiply(y, group.base)).hex()}


def _combined(inputs: Json) -> Json:
    X, y = _point(inputs, "X"), _scalar(inputs, "y")
    Z = rules.combined(inputs["crv"], inputs["use"], X, y)
    return {"Z": _group(inputs).encode(Z).hex()}


def _sent(inputs: Json) -> tuple[bytes, tuple[str, bytes, bytes]]:
    group, e = _group(inputs), _scalar(inputs, "ephemeral")
    Z = group.agreement(group.agree(e, _point(inputs, "recipient")))
    fp = rules.fingerprint(group.name, bytes.fromhex(inputs["recipient"]))
    return Z, (group.name, group.encode(group.multiply(e, group.base)), fp)


def _kek(inputs: Json) -> Json:
    Z, (crv, epk, fp) = _sent(inputs)
    key = envelope.kek(Z, crv, epk, fp)
    wmk = envelope.wrap(key, bytes.fromhex(inputs["seed"]))
    names = ("epk", "Z", "fp", "kek", "wmk")
    return dict(zip(names, (v.hex() for v in (epk, Z, fp, key, wmk)), strict=True))


def _kek2(inputs: Json) -> Json:
    Z, device = _sent(inputs["device"])
    Z2, once = _sent(inputs["once"])
    key = envelope.kek2(Z + Z2, device, once)
    wmk = envelope.wrap(key, bytes.fromhex(inputs["seed"]))
    names = ("epk", "epk2", "kek", "wmk")
    return dict(zip(names, (v.hex() for v in (device[1], once[1], key, wmk)), strict=True))


def _payload(inputs: Json) -> Json:
    seed, salt, content = _octets(inputs, "seed", "salt", "content")
    key, iv, commit = envelope.payload_keys(seed, salt)
    sealed = envelope.seal_payload(key, iv, inputs["protected"].encode(), content)
    names = ("key", "iv", "commit", "payload")
    return dict(zip(names, (v.hex() for v in (key, iv, commit, sealed)), strict=True))


def _open(inputs: Json) -> Json:
    keys = [own_key(one["crv"], bytes.fromhex(one["private"])) for one in inputs["keys"]]
    trusted = [envelope.Key(one["crv"], bytes.fromhex(one["public"])) for one in inputs["trusted"]]
    octets = bytes.fromhex(inputs["binary"]) if "binary" in inputs else inputs["text"].encode()
    return {"content": envelope.open_envelope(octets, keys, trusted).hex()}


def own_key(crv: str, private: bytes) -> envelope.Key:
    """An agreement key from its scalar."""
    group = GROUPS[crv]
    k = group.scalar(private)
    public = group.encode(group.multiply(k, group.base))
    return envelope.Key(crv, public, lambda S: group.agree(k, S))


def _message(inputs: Json) -> Json:
    public, payload = _octets(inputs, "public", "payload")
    M = signing.message(inputs["crv"], public, inputs["protected"].encode(), payload)
    return {"M": M.hex(), "signed": signing.signed(inputs["crv"], M).hex()}


def _verify(inputs: Json) -> Json:
    public, payload, signature = _octets(inputs, "public", "payload", "signature")
    M = signing.message(inputs["crv"], public, inputs["protected"].encode(), payload)
    signing.verify(inputs["crv"], public, M, signature)
    return {"verified": True}


def _derived(inputs: Json) -> Json:
    group, X, y = _group(inputs), _point(inputs, "X"), _scalar(inputs, "y")
    digest, device = _octets(inputs, "digest", "device_signature")
    Z = rules.combined(group.name, "Signature", X, y)
    sent = signing.device_digest(group.name, digest, y)
    return {
        "Z": group.encode(Z).hex(),
        "device_digest": sent.hex(),
        "signature": signing.finish(group.name, device, y).hex(),
    }


def _possession(inputs: Json) -> Json:
    public, nonce = _octets(inputs, "public", "nonce")
    if len(nonce) < 16:
        raise unverified("a nonce of fewer than 16 octets")
    M = rules.possession(inputs["crv"], public, inputs["verifier"], nonce)
    signing.verify(inputs["crv"], public, M, bytes.fromhex(inputs["signature"]), either_s=True)
    return {"signed": signing.signed(inputs["crv"], M).hex()}


def _prove(inputs: Json) -> Json:
    made = proof.prove(
        inputs["crv"],
        inputs["use"],
        _point(inputs, "X"),
        _point(inputs, "Z"),
        _scalar(inputs, "y"),
        _scalar(inputs, "k"),
        bytes.fromhex(inputs["profile_device"]),
        inputs["authority"],
    )
    return {"proof": made.hex()}


def _verify_proof(inputs: Json) -> Json:
    proof.verify(
        inputs["crv"],
        inputs["use"],
        _point(inputs, "X"),
        _point(inputs, "Z"),
        bytes.fromhex(inputs["proof"]),
        bytes.fromhex(inputs["profile_device"]),
        inputs["authority"],
    )
    return {"verified": True}


def _witness(inputs: Json) -> Json:
    return {"witness": rules.witness(*_octets(inputs, "request", "connection"))}


def _x(inputs: Json, name: str) -> int:
    return int.from_bytes(bytes.fromhex(inputs[name]), _group(inputs).endian)


def _recover(inputs: Json) -> Json:
    X, x1, x3 = _point(inputs, "X"), _x(inputs, "x1"), _x(inputs, "x3")
    return {"xS": _group(inputs).encode(recovery.plain(inputs["crv"], X, x1, x3)).hex()}


def _recover_blinded(inputs: Json) -> Json:
    group, X, S = _group(inputs), _point(inputs, "X"), _point(inputs, "S")
    a, r = _scalar(inputs, "a"), _scalar(inputs, "r")
    Q = group.add(group.multiply(a, S), group.multiply(r, group.base))
    xS = recovery.blinded(group.name, X, a, r, _x(inputs, "x1"), _x(inputs, "x2"))
    return {"Q": group.encode(Q).hex(), "xS": group.encode(xS).hex()}


def _version(inputs: Json) -> Json:
    return versions.newest(inputs["pinned"], inputs["offered"].encode())


def _connection(inputs: Json) -> Json:
    names = ("profile_master", "profile_device", "connection")
    master, device, octets = (inputs[name].encode() for name in names)
    composite = connection.verify(master, device, octets, inputs["now"])
    return {"composite": composite}


def _policy(inputs: Json) -> Json:
    values = [bytes.fromhex(value) for value in inputs["pcr_values"]]
    return {"policy": tpm.policy(inputs["pcrs"], values, pin=inputs["pin"]).hex()}


def _share(inputs: Json) -> Json:
    storage_key, ephemeral, auth = _octets(inputs, "storage_key", "ephemeral", "auth")
    values = [bytes.fromhex(value) for value in inputs["pcr_values"]]
    rule = tpm.policy(inputs["pcrs"], values, pin=inputs["pin"]) if values else b""
    k, scalar = int.from_bytes(ephemeral, "big"), _scalar(inputs, "scalar")
    made = tpm.share(storage_key, k, inputs["crv"], inputs["use"], scalar, auth, rule)
    return dict(
        zip(("public", "duplicate", "encrypted_seed"), (v.hex() for v in made), strict=True)
    )


_KINDS: dict[str, Callable[[Json], Json]] = {
    "fingerprint": _fingerprint,
    "decode": _decode,
    "contribution": _contribution,
    "combined": _combined,
    "kek": _kek,
    "kek2": _kek2,
    "payload": _payload,
    "open": _open,
    "message": _message,
    "verify": _verify,
    "derived": _derived,
    "possession": _possession,
    "prove": _prove,
    "verify-proof": _verify_proof,
    "witness": _witness,
    "recover": _recover,
    "recover-blinded": _recover_blinded,
    "version": _version,
    "connection": _connection,
    "policy": _policy,
    "share": _share,
}
