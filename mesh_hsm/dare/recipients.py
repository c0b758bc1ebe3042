"""Wrapping the base seed for recipients and unwrapping it again: hsm-1 §2 and §6.3.

Open this file for the members of a ``recipients`` entry and for how a key is chosen to open one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from mesh_hsm.curves import Curve, Point, SecretScalar
from mesh_hsm.dare import suite
from mesh_hsm.dare.model import (
    Decryptor,
    DoubleDecryptor,
    DoubleRecipient,
    JsonObject,
    Recipient,
)
from mesh_hsm.dare.strict_json import b64url, require_members, un_b64url
from mesh_hsm.errors import DecryptionError, FormatError, UnsupportedError
from mesh_hsm.udf import is_canonical, udf_of

MAX_RECIPIENTS: Final = 1024
_WRAPPED_SIZE: Final = suite.SEED_SIZE + 8
_SINGLE = frozenset({"kid", "epk", "wmk"})
_DOUBLE = frozenset({"kid", "epk", "kid2", "epk2", "wmk"})


def wrap(seed: bytes, recipients: Sequence[Recipient | DoubleRecipient]) -> list[JsonObject]:
    """One entry for each recipient, each with a fresh ephemeral key on the recipient's curve.

    Raises ``InvalidPointError`` and ``UnsupportedError`` for keys that cannot be agreed with.
    """
    if len(recipients) > MAX_RECIPIENTS:
        raise UnsupportedError(f"an envelope has at most {MAX_RECIPIENTS} recipients")
    doubles = [one for one in recipients if isinstance(one, DoubleRecipient)]
    if doubles:
        if len(recipients) > 1:
            raise UnsupportedError("a recipient with two keys is the only one (hsm-1 §6.3)")
        return [_wrap_double(seed, doubles[0])]
    points = dict.fromkeys(one.public for one in recipients if isinstance(one, Recipient))
    return [_wrap_single(seed, public) for public in points]


def check_entries(entries: Any) -> list[JsonObject]:
    """The ``recipients`` member: its shape, but no point in it. Raises ``FormatError``."""
    if not isinstance(entries, list) or not 0 < len(entries) <= MAX_RECIPIENTS:
        raise FormatError(f"an encrypted envelope has 1 to {MAX_RECIPIENTS} recipients")
    for entry in entries:
        double = isinstance(entry, dict) and "kid2" in entry
        require_members(entry, "a recipient", _DOUBLE if double else _SINGLE)
        if double and len(entries) > 1:
            raise FormatError("a recipient with two keys is the only one")
        for kid, epk in (("kid", "epk"), ("kid2", "epk2"))[: 1 + double]:
            if not isinstance(entry[kid], str) or not is_canonical(entry[kid]):
                raise FormatError(f"a recipient's {kid} is not a UDF")
            _epk_members(entry[epk])
        un_b64url(entry["wmk"], "wmk", _WRAPPED_SIZE)
    if len({entry["kid"] for entry in entries}) != len(entries):
        # Each entry costs the named device a call, on a point of the sender's choice.
        raise FormatError("a recipient stands twice")
    return entries


def kids(entries: Iterable[JsonObject]) -> tuple[str, ...]:
    """The UDFs of everybody who is meant to open it; both of a double one, joined by ``+``."""
    return tuple(
        entry["kid"] + (f"+{entry['kid2']}" if "kid2" in entry else "") for entry in entries
    )


def unwrap(
    entries: Sequence[JsonObject], keys: Sequence[Decryptor | DoubleDecryptor]
) -> Iterator[tuple[bytes, str]]:
    """Each seed that a key of ours opens, with the ``kid`` of the entry.

    A key is asked only for entries that name it, the first key first. Raises ``DecryptionError`` if
    none is named.
    """
    asked = False
    for key, entry in ((key, entry) for key in keys for entry in entries):
        if isinstance(key, DoubleDecryptor) != ("kid2" in entry):
            continue
        if isinstance(key, DoubleDecryptor):
            if (entry["kid"], entry["kid2"]) != (
                udf_of(key.device.public),
                udf_of(key.once.public),
            ):
                continue
            keks = _keks_double(entry, key)
        else:
            if entry["kid"] != udf_of(key.public):
                continue
            keks = _keks_single(entry, key)
        asked = True
        wrapped = un_b64url(entry["wmk"], "wmk")
        for kek in keks:
            try:
                seed = aes_key_unwrap(kek, wrapped)
            except InvalidUnwrap:
                continue
            yield seed, entry["kid"]
            break
    if not asked:
        raise DecryptionError(
            "none of the keys at hand is a recipient",
            hint="it opens for " + ", ".join(kids(entries)[:4]),
        )


def tagged_key(public: Point) -> JsonObject:
    """The Mesh's JSON form of a public key, in the signed encoding (dare §2)."""
    return {"PublicKeyECDH": {"crv": public.curve.name, "Public": b64url(public.encode())}}


def _wrap_single(seed: bytes, recipient: Point) -> JsonObject:
    epk, Z = _agree(recipient)
    wrapped = aes_key_wrap(suite.kek(Z, epk, recipient), seed)
    return {"kid": udf_of(recipient), "epk": tagged_key(epk), "wmk": b64url(wrapped)}


def _wrap_double(seed: bytes, both: DoubleRecipient) -> JsonObject:
    epk, Z = _agree(both.device)
    epk2, Z2 = _agree(both.once)
    kek = suite.kek2(Z, epk, both.device, Z2, epk2, both.once)
    return {
        "kid": udf_of(both.device),
        "epk": tagged_key(epk),
        "kid2": udf_of(both.once),
        "epk2": tagged_key(epk2),
        "wmk": b64url(aes_key_wrap(kek, seed)),
    }


def _agree(recipient: Point) -> tuple[Point, bytes]:
    """A fresh ephemeral public point and the agreement octets with ``recipient``."""
    _require_agreement(recipient.curve)
    ephemeral = SecretScalar.random(recipient.curve)
    return ephemeral.public(), ephemeral.x_of(recipient).octets()


def _keks_single(entry: JsonObject, key: Decryptor) -> Iterator[bytes]:
    epk = _epk(entry["epk"], key.public.curve)
    for Z in key.agreements(epk):
        yield suite.kek(Z, epk, key.public)


def _keks_double(entry: JsonObject, key: DoubleDecryptor) -> Iterator[bytes]:
    device, once = key.device.public, key.once.public
    epk, epk2 = _epk(entry["epk"], device.curve), _epk(entry["epk2"], once.curve)
    candidates = list(key.once.agreements(epk2))
    for Z in key.device.agreements(epk):
        for Z2 in candidates:
            yield suite.kek2(Z, epk, device, Z2, epk2, once)


def _epk(tagged: Any, expected: Curve) -> Point:
    """An ephemeral point, checked like every foreign one."""
    _require_agreement(expected)
    crv, public = _epk_members(tagged)
    if crv != expected.name:
        raise FormatError(f"an ephemeral key on {crv[:16]!r} for a key on {expected.name}")
    if len(public) != expected.encoded_size:
        raise FormatError("the ephemeral key is not in its full form")
    epk = expected.decode(public)
    epk.check_foreign()
    return epk


def _epk_members(tagged: Any) -> tuple[str, bytes]:
    outer = require_members(tagged, "epk", frozenset({"PublicKeyECDH"}))
    inner = require_members(outer["PublicKeyECDH"], "epk", frozenset({"crv", "Public"}))
    if not isinstance(inner["crv"], str):
        raise FormatError("an ephemeral key's crv is not text")
    return inner["crv"], un_b64url(inner["Public"], "epk")


def _require_agreement(curve: Curve) -> None:
    if curve.family == "edwards":
        raise UnsupportedError(f"{curve.name} keys sign; hsm-1 does not encrypt to them")
