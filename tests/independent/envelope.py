"""Opened for hsm-1 envelopes (hsm-1 §2, §3): KEK, payload keys, container, opening, making."""

import hmac
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from . import signing
from .groups import GROUPS, Point
from .refusal import malformed, unopened, unverified
from .rules import F, b64, fingerprint, hkdf, udf, unb64

ENC = "A256GCM"
Json = dict[str, Any]


@dataclass(frozen=True)
class Key:
    """A public key by curve name and signed octets; `agree` answers the point zS if we hold it."""

    crv: str
    public: bytes
    agree: Callable[[Point], Point] | None = None

    @property
    def fp(self) -> bytes:
        """The 64-octet fingerprint."""
        return fingerprint(self.crv, self.public)


def payload_keys(seed: bytes, salt: bytes) -> tuple[bytes, bytes, bytes]:
    """AES key, iv and Commit of a base seed."""
    okm = hkdf(seed, salt, F("mesh-hsm/1 payload", ENC), 76)
    return okm[:32], okm[32:44], okm[44:]


def kek(Z: bytes, crv: str, epk: bytes, fp: bytes) -> bytes:
    """The key that wraps the seed for one recipient."""
    return hkdf(Z, b"", F("mesh-hsm/1 kek", ENC, crv, epk, fp), 32)


def kek2(Z: bytes, device: tuple[str, bytes, bytes], once: tuple[str, bytes, bytes]) -> bytes:
    """The key that wraps an activation seed under both (crv, epk, fp) of §6.3."""
    return hkdf(Z, b"", F("mesh-hsm/1 kek2", ENC, *device, *once), 32)


def wrap(key: bytes, seed: bytes) -> bytes:
    """RFC 3394."""
    return aes_key_wrap(key, seed)


def unwrap(key: bytes, wmk: bytes) -> bytes:
    """RFC 3394; a wrong key shows."""
    try:
        return aes_key_unwrap(key, wmk)
    except (InvalidUnwrap, ValueError) as error:
        raise unopened("the wrapped seed does not open") from error


def seal_payload(key: bytes, iv: bytes, protected: bytes, content: bytes) -> bytes:
    """Ciphertext and tag, with the ASCII octets of P as additional data."""
    return AESGCM(key).encrypt(iv, content, protected)


def open_payload(seed: bytes, P: Json, protected: bytes, payload: bytes) -> bytes:
    """Commit first, then the tag, over P as additional data."""
    key, iv, commit = payload_keys(seed, unb64(P["Salt"]))
    if not hmac.compare_digest(commit, unb64(P["Commit"])):
        raise unopened("Commit is another")
    try:
        return AESGCM(key).decrypt(iv, payload, protected)
    except InvalidTag as error:
        raise unopened("the tag does not verify") from error


def tagged(crv: str, public: bytes) -> Json:
    """A public key object."""
    return {"PublicKeyECDH": {"crv": crv, "Public": b64(public)}}


def untagged(value: Json) -> tuple[str, bytes]:
    """Curve name and octets of a public key object."""
    body = value["PublicKeyECDH"]
    return body["crv"], unb64(body["Public"])


# --- the container -----------------------------------------------------------------------------


def _unique(pairs: list[tuple[str, Any]]) -> Json:
    if len({name for name, _ in pairs}) != len(pairs):
        raise malformed("a member stands twice")
    return dict(pairs)


_JSON = json.JSONDecoder(object_pairs_hook=_unique)


def parse(octets: bytes) -> tuple[Json, bytes, Json]:
    """Header, payload octets and trailer of either form."""
    try:
        return _parse(octets)
    except (ValueError, IndexError, KeyError, TypeError) as error:
        raise malformed("not an envelope") from error


def _parse(octets: bytes) -> tuple[Json, bytes, Json]:
    text = octets.decode("latin-1")  # one character per octet, so that positions agree
    header, at = _JSON.raw_decode(text, _past(text, 0, "["))
    at = _past(text, at, ",")
    if octets[at] >= 0x80:
        payload, at = _binary(octets, at)
        at = _past(text, at)
        at = _past(text, at, ",") if text[at] == "," else at
    else:
        end = text.index('"', at + 1)
        payload = unb64(text[_past(text, at, '"') : end])
        at = _past(text, end, '"')
        at = _past(text, at, ",") if text[at] != "]" else at
    trailer, at = _JSON.raw_decode(text, at) if text[at] != "]" else ({}, at)
    if _past(text, at, "]") != len(text):
        raise malformed("something after the envelope")
    return header, payload, trailer


def _past(text: str, at: int, sign: str = "") -> int:
    """The position after white space, `sign`, and white space."""
    rest = text[at:].lstrip(" \t\r\n")
    if not rest.startswith(sign):
        raise ValueError(sign)
    return len(text) - len(rest[len(sign) :].lstrip(" \t\r\n"))


def _binary(octets: bytes, at: int) -> tuple[bytes, int]:
    """Chunks 8C..8F and a final 88..8B (dare §1)."""
    parts = []
    while True:
        code = octets[at]
        if not 0x88 <= code <= 0x8F:
            raise ValueError(code)
        width = 1 << (code & 3)
        start = at + 1 + width
        length = int.from_bytes(octets[at + 1 : start], "big")
        if start + length > len(octets):
            raise ValueError(length)
        parts.append(octets[start : start + length])
        at = start + length
        if code <= 0x8B:
            return b"".join(parts), at


def join(header: Json, payload: bytes, trailer: Json, binary: bool) -> bytes:
    """An envelope's octets in binary or text form."""
    first, last = (json.dumps(v, separators=(",", ":")).encode() for v in (header, trailer))
    if binary:
        middle = b"\x8b" + len(payload).to_bytes(8, "big") + payload
    else:
        middle = b'"' + b64(payload).encode() + b'",'
    return b"[" + first + b"," + middle + last + b"]"


# --- opening -----------------------------------------------------------------------------------


def read(octets: bytes) -> tuple[Json, bytes, bytes, Json]:
    """P as an object, P as ASCII octets, payload, trailer; any member too many is refused."""
    header, payload, trailer = parse(octets)
    protected = header["protected"]
    P = _JSON.decode(unb64(protected).decode())
    if P["v"] != "hsm-1" or P["enc"] not in (ENC, "none"):
        raise malformed("another suite")
    encrypted, signed = P["enc"] == ENC, bool(P.get("signers"))
    expected = {"protected": protected} | ({"enc": ENC} if encrypted else {})
    if header != expected | ({"dig": "S512"} if signed else {}):
        raise malformed("the header contradicts P, or has a member of its own")
    if not signed and (not encrypted or "signatures" in trailer):
        raise malformed("a header that nothing protects, or signatures without signers")
    _check_members(P, encrypted)
    if not set(trailer) <= {"signatures"}:
        raise malformed("a trailer has signatures only")
    return P, protected.encode(), payload, trailer


def _check_members(P: Json, encrypted: bool) -> None:
    common = {"v", "enc", "EnvelopeId", "ContentMetaData"}
    needed = common | ({"Salt", "Commit", "recipients"} if encrypted else set())
    if not needed <= set(P) <= needed | {"SequenceInfo", "signers"}:
        raise malformed("members of P")
    if not isinstance(_JSON.decode(unb64(P["ContentMetaData"]).decode()), dict):
        raise malformed("ContentMetaData")
    if any(len(unb64(fp)) != 64 for fp in P.get("signers", [])):
        raise malformed("a signer is a fingerprint")
    if encrypted:
        sizes = [len(unb64(P[name])) for name in ("Salt", "Commit")]
        sizes += [len(unb64(entry["wmk"])) for entry in P["recipients"]]
        if sizes[:2] != [32, 32] or not sizes[2:] or set(sizes[2:]) != {40}:
            raise malformed("Salt and Commit of 32 octets, wmk of 40 for each recipient")


def open_envelope(
    octets: bytes, keys: Sequence[Key], trusted: Sequence[Key] = (), *, vouched: bool = False
) -> bytes:
    """The content, once every required signature and the tag have verified.

    Two keys for an entry with `kid2`: the device's and the one-time key. `vouched` if its signers
    need not be known, since the payload is vouched for elsewhere.
    """
    try:
        return _open(octets, keys, trusted, vouched)
    except (KeyError, TypeError, ValueError) as error:
        raise malformed("not an envelope of hsm-1") from error


def _open(octets: bytes, keys: Sequence[Key], trusted: Sequence[Key], vouched: bool) -> bytes:
    P, protected, payload, trailer = read(octets)
    _check_signers(P, protected, payload, trailer, trusted, vouched)
    if P["enc"] == "none":
        return payload
    return open_payload(_seed(P, keys), P, protected, payload)


def _seed(P: Json, keys: Sequence[Key]) -> bytes:
    by_kid = {udf(key.crv, key.public): key for key in keys}
    for entry in P["recipients"]:
        if entry["kid"] not in by_kid:
            continue
        device = by_kid[entry["kid"]]
        if set(entry) not in ({"kid", "epk", "wmk"}, {"kid", "epk", "kid2", "epk2", "wmk"}):
            raise malformed("members of a recipient")
        Z, first = _agreed(device, entry["epk"])
        if "kid2" not in entry:
            return unwrap(kek(Z, *first), unb64(entry["wmk"]))
        if entry["kid2"] in by_kid and len(P["recipients"]) == 1:
            Z2, second = _agreed(by_kid[entry["kid2"]], entry["epk2"])
            return unwrap(kek2(Z + Z2, first, second), unb64(entry["wmk"]))
    raise unopened("not a recipient")


def _agreed(key: Key, epk: Json) -> tuple[bytes, tuple[str, bytes, bytes]]:
    crv, octets = untagged(epk)
    if len(octets) != len(key.public):
        raise malformed("an ephemeral key that is not in full form")
    if crv != key.crv or key.agree is None:
        raise unopened("another curve")
    group = GROUPS[crv]
    Z = group.agreement(key.agree(group.foreign(group.decode(octets))))
    return Z, (crv, octets, key.fp)


def _check_signers(
    P: Json,
    protected: bytes,
    payload: bytes,
    trailer: Json,
    trusted: Sequence[Key],
    vouched: bool,
) -> None:
    """Every required signature, and those added later whose key is known."""
    entries: dict[str, str] = {}
    for entry in trailer.get("signatures", []):
        if set(entry) != {"alg", "kid", "signature"} or entry["alg"] != "MH1":
            raise malformed("members of a signature")
        if entry["kid"] in entries:
            raise malformed("two signatures by one key")
        entries[entry["kid"]] = entry["signature"]
    known = {key.fp: key for key in trusted}
    required = [unb64(fp) for fp in P.get("signers", [])]
    if not vouched and not set(required) <= set(known):
        raise unverified("a signer that is not known")
    for fp, signer in known.items():
        signature = entries.get(udf(signer.crv, signer.public))
        if signature is None and fp in required:
            raise unverified("a signature is missing")
        if signature is not None:
            M = signing.message(signer.crv, signer.public, protected, payload)
            signing.verify(signer.crv, signer.public, M, unb64(signature))
