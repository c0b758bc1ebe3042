"""Private keys as older published data hold them. Open this to decrypt or sign what they address.

Published data agree on Ed25519 and Ed448 keys, hash Ed448 seeds of 56 octets, sign Ed25519 with an
empty context, and store raw scalars (threshold §1, dare §2). `cryptography` offers none of that, so
the points are multiplied by pycryptodomex (extra ``legacy``). New keys are never made here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from mesh_hsm.curves import (
    CURVES,
    ED448,
    ED25519,
    Curve,
    Point,
    SecretScalar,
    curve,
    verify_ed25519ctx,
    verify_prehashed,
)
from mesh_hsm.dare.jsonb import Value, binary
from mesh_hsm.errors import (
    DeviceError,
    FormatError,
    InvalidPointError,
    ProviderUnavailableError,
    UnsupportedError,
)

_DOM2: Final = b"SigEd25519 no Ed25519 collisions\x00\x00"  # not prehashed, empty context
_DOM4: Final = b"SigEd448\x00\x00"
_SEED_SIZES: Final = {ED25519: (32,), ED448: (56, 57)}  # 56: the Mesh's own (threshold §1.2)
# Multiples of n that bring a nonce below n to a constant length, 32 or 56 octets.
_LENGTHENING: Final = {ED25519: 8, ED448: 2}


class EdwardsKey:
    """An Ed25519 or Ed448 key from published private octets; a ``Decryptor`` and a ``Signer``.

    The octets are a seed: hashed as they are with SHA-512 or SHAKE256, without padding, and pruned
    (RFC 8032 §5.1.5, §5.2.5; threshold §1). One key for two uses is what published data have; for
    new data it is refused everywhere else. Raises ``FormatError`` for another length,
    ``UnsupportedError`` for another curve, ``ProviderUnavailableError`` without pycryptodomex.
    """

    def __init__(self, curve: Curve, seed: bytes) -> None:
        if curve not in _SEED_SIZES:
            raise UnsupportedError(f"{curve.name} keys have no seed to expand")
        if len(seed) not in _SEED_SIZES[curve]:
            sizes = " or ".join(map(str, _SEED_SIZES[curve]))
            raise FormatError(f"published {curve.name} private octets number {sizes}")
        expanded = _hash(curve, seed)
        self.curve = curve
        self._scalar = _pruned(curve, expanded[: curve.encoded_size])
        self._prefix = expanded[curve.encoded_size :]
        self.public = _multiply(self._scalar, curve.base)

    def __repr__(self) -> str:
        return f"EdwardsKey({self.public!r})"

    def agreements(self, S: Point) -> Iterator[bytes]:
        """Z of one agreement: the encoding of a·S, sign bit included (dare §2.1).

        The pruned scalar is a multiple of the cofactor, so no small-order part gets through.
        Raises ``InvalidPointError`` for a point of another curve or of small order.
        """
        if S.curve is not self.curve:
            raise InvalidPointError(f"the point is not on {self.curve.name}")
        S.check_foreign()
        yield _multiply(self._scalar, S).agreement_octets()

    def sign(self, octets: bytes) -> bytes:
        """Sign a message purely, by RFC 8032, without context; verified before it is released."""
        signature = self._sign(octets, _DOM4 if self.curve is ED448 else b"")
        return self._checked(signature, verify_prehashed(self.public, octets, signature))

    def sign_ed25519ctx(self, message: bytes) -> bytes:
        """Ed25519ctx with an empty context, as published signatures are made (dare §2.3)."""
        if self.curve is not ED25519:
            raise UnsupportedError("only Ed25519 keys sign with Ed25519ctx")
        signature = self._sign(message, _DOM2)
        return self._checked(signature, verify_ed25519ctx(self.public, message, signature))

    def _sign(self, message: bytes, dom: bytes) -> bytes:
        n = self.curve.order
        # The prefix comes from the seed and is never empty: without it everybody could compute r,
        # and from one signature the scalar (threshold §3).
        r = int.from_bytes(_hash(self.curve, dom + self._prefix + message), "little") % n
        R = _multiply(r + _LENGTHENING[self.curve] * n, self.curve.base).encode()
        k = int.from_bytes(_hash(self.curve, dom + R + self.public.encode() + message), "little")
        s = (r + k * self._scalar) % n
        return R + s.to_bytes(self.curve.encoded_size, "little")

    def _checked(self, signature: bytes, verifies: bool) -> bytes:
        if not verifies:
            raise DeviceError("a signature just made does not verify: a fault in this machine")
        return signature


def edwards_key(tagged: Mapping[str, Value]) -> EdwardsKey:
    """The key of ``{"PrivateKeyECDH": {"crv": "Ed25519" | "Ed448", "Private": …}}``.

    Raises as ``EdwardsKey``, and ``FormatError`` for another shape.
    """
    crv, octets = _fields(tagged)
    return EdwardsKey(curve(crv), octets)


def montgomery_scalar(tagged: Mapping[str, Value]) -> SecretScalar:
    """The scalar of ``{"PrivateKeyECDH": {"crv", "Private"}}`` on X25519 or X448.

    ``crv`` with the suffix ``z`` marks a raw scalar below n, used as it is: a share of a group's
    key (threshold §1.5). Without it the octets are clamped (RFC 7748 §5). Raises ``FormatError``,
    and ``UnsupportedError`` for other curves. Make a ``ScalarShare`` of it to use it.
    """
    crv, octets = _fields(tagged)
    group = curve(crv.removesuffix("z"))
    if group.family != "montgomery":
        raise UnsupportedError(f"{crv} is not an X25519 or X448 scalar")
    if crv != group.name:
        return SecretScalar(group, group.scalar(octets))
    if len(octets) != group.field_size:
        raise FormatError(f"{crv} private octets number {group.field_size}")
    return SecretScalar(group, _pruned(group, octets) % group.order)


def _fields(tagged: Mapping[str, Value]) -> tuple[str, bytes]:
    fields = tagged.get("PrivateKeyECDH")
    if len(tagged) != 1 or not isinstance(fields, dict):
        raise FormatError("not a tagged private key")
    crv, octets = fields.get("crv"), fields.get("Private")
    if not isinstance(crv, str) or crv.removesuffix("z") not in CURVES:
        raise FormatError("a private key of no known curve")
    return crv, binary(octets)


def _hash(curve: Curve, octets: bytes) -> bytes:
    """Twice the encoded size: 64 octets of SHA-512, 114 of SHAKE256."""
    if curve is ED448:
        return hashlib.shake_256(octets).digest(114)
    return hashlib.sha512(octets).digest()


def _pruned(curve: Curve, octets: bytes) -> int:
    """Clear the cofactor's bits and all from the top bit on, then set that one: 254 or 447."""
    top = 1 << (254 if curve.cofactor == 8 else 447)
    return int.from_bytes(octets, "little") & (top - 1) & -curve.cofactor | top


def _multiply(k: int, S: Point) -> Point:
    """k·S on an Edwards curve, in the library's constant time for the length of k."""
    try:
        from Cryptodome.PublicKey.ECC import EccPoint
    except ImportError as error:
        raise ProviderUnavailableError(
            "operations on published Ed25519 and Ed448 keys need pycryptodomex",
            hint="pip install 'mesh-hsm[legacy]'",
        ) from error
    product: Any = EccPoint(S.x, S.y, curve=S.curve.name) * k
    return S.curve.point(int(product.x), int(product.y))
