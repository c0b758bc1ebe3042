"""Proof that a composite key contains the device's key: a Schnorr proof of y (hsm-1 §5).

Open this file to make or check the ``Proof`` member of a ConnectionDevice. A sum that checks proves
nothing: anybody can publish Z = zG and call Z - X the contribution. Only with this proof *and* the
device's countersignature is a composite key ``proved``.
"""

from __future__ import annotations

import re
from hashlib import sha512

from mesh_hsm.curves import Point, SecretScalar
from mesh_hsm.errors import FormatError, InvalidPointError, UnsupportedError, VerificationError
from mesh_hsm.framing import F
from mesh_hsm.provider import Use

_USE_NAMES = {
    Use.ENCRYPT: "Encryption",
    Use.AUTHENTICATE: "Authentication",
    Use.SIGN: "Signature",
}
_UDF_140 = re.compile(r"[A-Z2-7]{4}(-[A-Z2-7]{4}){6}\Z")


def prove(
    y: SecretScalar, X: Point, Z: Point, use: Use, profile_digest: bytes, authority_udf: str
) -> bytes:
    """T || s: that the maker knows y with Z = X + yG, or Z = yX for a signature key.

    X is the device's key, Z the composite. ``profile_digest`` is SHA-512 of the ProfileDevice
    payload, ``authority_udf`` the ProfileMaster's UDF in its presented 140-bit form. T in the
    signed encoding, s at scalar width, little-endian on X25519 and X448. A fresh k every time.
    Raises ``VerificationError`` if y is not that scalar, ``InvalidPointError``, ``FormatError``,
    ``UnsupportedError``.
    """
    k = SecretScalar.random(X.curve)
    return _prove(k, y, X, Z, use, profile_digest, authority_udf)


def verify_proof(
    proof: bytes, X: Point, Z: Point, use: Use, profile_digest: bytes, authority_udf: str
) -> None:
    """Return if the proof holds; else raise ``VerificationError``, whatever is wrong with it.

    Checks s·base = T + c·statement, refusing s >= n and any of X, Z, T, Z - X that is neutral or
    outside the prime-order subgroup: torsion would otherwise pass in a few tries (hsm-1 §5).
    """
    curve = X.curve
    try:
        base, statement = _statement(X, Z, use)
        if len(proof) != curve.encoded_size + curve.scalar_size:
            raise FormatError("a proof is T || s")
        T = curve.decode(proof[: curve.encoded_size])
        _check_point(T)
        s = int.from_bytes(proof[curve.encoded_size :], curve.byteorder)
        if s >= curve.order:
            raise FormatError("s is not below the group order")
        c = _challenge(X, Z, T, use, profile_digest, authority_udf)
    except (FormatError, UnsupportedError) as error:
        raise VerificationError(f"the proof of contribution is void: {error}") from error
    if base.multiply(s) != T + statement.multiply(c):
        raise VerificationError("the proof of contribution does not check")


def _prove(
    k: SecretScalar,
    y: SecretScalar,
    X: Point,
    Z: Point,
    use: Use,
    profile_digest: bytes,
    authority_udf: str,
) -> bytes:
    """The proof with a given k. Two proofs with one k give y away: ``prove`` alone calls this."""
    curve = X.curve
    base, statement = _statement(X, Z, use)
    if _times(y, base) != statement:
        raise VerificationError("this scalar is not the contribution of that composite key")
    T = _times(k, base)
    c = _challenge(X, Z, T, use, profile_digest, authority_udf)
    s = (k.value + c * y.value) % curve.order
    return T.encode() + s.to_bytes(curve.scalar_size, curve.byteorder)


def _times(k: SecretScalar, base: Point) -> Point:
    return k.public() if base == base.curve.base else k.times(base)


def _statement(X: Point, Z: Point, use: Use) -> tuple[Point, Point]:
    """The base and the point whose logarithm is y: (G, Z - X), or (X, Z) for a signature key."""
    curve = X.curve
    if curve.family == "edwards" or (use is Use.SIGN and curve.family == "montgomery"):
        raise UnsupportedError(f"no composite {use} key on {curve.name} has a proof")
    Y = Z - X
    for point in (X, Z, Y):
        _check_point(point)
    return (X, Z) if use is Use.SIGN else (curve.base, Y)


def _check_point(point: Point) -> None:
    if point.is_neutral or not point.in_prime_subgroup:
        raise InvalidPointError("a point is neutral or outside the prime-order subgroup")


def _challenge(
    X: Point, Z: Point, T: Point, use: Use, profile_digest: bytes, authority_udf: str
) -> int:
    """c, an integer mod n; the digest is little-endian on X25519 and X448, else big-endian."""
    if len(profile_digest) != sha512().digest_size:
        raise FormatError("a profile digest has 64 octets")
    if not _UDF_140.match(authority_udf):
        raise FormatError("an authority is named by its 140-bit UDF")
    framed = F(
        "mesh-hsm/1 contribution",
        X.curve.name,
        _USE_NAMES[use],
        X.encode(),
        Z.encode(),
        T.encode(),
        profile_digest,
        authority_udf,
    )
    return int.from_bytes(sha512(framed).digest(), X.curve.byteorder) % X.curve.order
