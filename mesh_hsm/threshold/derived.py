"""Signature keys Z = yX from one device key X: open this file for derived ECDSA (threshold §7).

This is key *derivation*, not a threshold scheme (hsm-1 §4): the device and its bus learn y from the
first signature, so the key is worth what the device share is worth. It gives one device key many
unlinkable accounts. y is derived from a seed fixed before first use and never accepted bare;
what is signed begins with the key's fingerprint (hsm-1 §3), which stops related-key transfers.
"""

from __future__ import annotations

from dataclasses import replace

from mesh_hsm.curves import Curve, Point, SecretScalar, ecdsa_digest_size, verify_prehashed
from mesh_hsm.custody import CompositeCustody, CustodyStatement
from mesh_hsm.errors import DeviceError, FormatError, UnsupportedError
from mesh_hsm.provider import DeviceKey, Use


def derive_public(X: Point, y: SecretScalar) -> Point:
    """Z = yX, multiplied by the library.

    Raises ``UnsupportedError`` for y = 1 and for curves other than NIST's, ``InvalidPointError``
    for an X that is neutral or on another curve than y.
    """
    _check_factor(X.curve, y.value)
    return y.times(X)


def device_digest(curve: Curve, digest: bytes, y: int) -> bytes:
    """The octets the device signs in place of ``digest``: e' = e·y⁻¹ mod n, left aligned.

    32, 48 and 66 octets on P-256, P-384 and P-521 (there shifted by 7 bits, threshold §7). Raises
    ``FormatError`` for a digest of another length than the curve's, or one that is 0 mod n.
    """
    _check_factor(curve, y)
    if len(digest) != ecdsa_digest_size(curve):
        raise FormatError(f"{curve.name} signs a digest of {ecdsa_digest_size(curve)} octets")
    n = curve.order
    # No digest of these curves' sizes has more bits than n, so bits2int is the integer itself.
    e = int.from_bytes(digest, "big") % n
    if e == 0:
        raise FormatError("the digest is zero modulo the group order")
    e_prime = e * pow(y, -1, n) % n
    return (e_prime << (8 * curve.scalar_size - n.bit_length())).to_bytes(curve.scalar_size, "big")


def finish(curve: Curve, signature: bytes, y: int) -> bytes:
    """r || s from the device's r || s': s = y·s' mod n, low s (hsm-1 §3).

    Both big-endian at field width. Raises ``FormatError`` for a wrong length or r, s' outside
    [1, n).
    """
    _check_factor(curve, y)
    size, n = curve.scalar_size, curve.order
    r = int.from_bytes(signature[:size], "big")
    s = int.from_bytes(signature[size:], "big")
    if len(signature) != 2 * size or not (0 < r < n and 0 < s < n):
        raise FormatError("not an ECDSA signature of this curve")
    s = y * s % n
    return signature[:size] + min(s, n - s).to_bytes(size, "big")


class DerivedKey:
    """One account's signature key yX, where the device holds x and this process y.

    ``factor_custody`` says where y rests. Raises ``UnsupportedError`` for a device key that does
    not sign, for curves other than P-256 and P-384 (no device signs P-521's 66-octet digests),
    and for y in {0, 1}.
    """

    use = Use.SIGN

    def __init__(
        self,
        device: DeviceKey,
        factor: SecretScalar,
        *,
        factor_custody: CustodyStatement,
        proved: bool = False,
    ) -> None:
        curve = device.public.curve
        if device.use is not Use.SIGN:
            raise UnsupportedError("a signature key is derived from a signature key")
        if ecdsa_digest_size(curve) != curve.scalar_size:
            raise UnsupportedError(
                f"signature keys on {curve.name} cannot be derived",
                hint="use P-384 or P-256 for the device's signature key",
            )
        self.public = derive_public(device.public, factor)
        self._device = device
        self._factor = factor
        self._factor_custody = factor_custody
        self._proved = proved

    def sign(self, octets: bytes) -> bytes:
        """r || s, low s, over a digest of exactly the curve's length; verified under Z.

        Raises ``FormatError``, ``DeviceError`` naming the device, and what ``DeviceKey.sign``
        raises.
        """
        curve, y = self.public.curve, self._factor.value
        signature = finish(curve, self._device.sign(device_digest(curve, octets, y)), y)
        if not verify_prehashed(self.public, octets, signature):
            raise DeviceError("the derived signature does not verify", uri=str(self._device.uri))
        return signature

    def custody(self) -> CompositeCustody:
        """The device share's worth alone, from what the device says now (hsm-1 §4)."""
        whole = CompositeCustody.derived(self._device.custody(), self._factor_custody)
        return replace(whole, proved=self._proved)


def _check_factor(curve: Curve, y: int) -> None:
    """y = 1 would publish the device's own key; y = 0 has no inverse (threshold §7, hsm-1 §1)."""
    if curve.family != "weierstrass":
        raise UnsupportedError(f"signature keys on {curve.name} cannot be derived")
    if y % curve.order in (0, 1):
        raise UnsupportedError("a derivation factor is neither 0 nor 1")
