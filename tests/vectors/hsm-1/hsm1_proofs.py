"""Opened for the records on proofs of contribution: good, altered, and what a cheat tries."""

from __future__ import annotations

from hashlib import sha512

from hsm1_answers import answer
from hsm1_fixed import (
    AGREEING,
    AUTHORITY,
    NIST,
    PROFILE_DEVICE,
    Case,
    Json,
    point_hex,
    scalar_hex,
    secret,
    torsion,
)

from mesh_hsm.curves import Point, SecretScalar, curve
from mesh_hsm.provider import Use
from mesh_hsm.threshold.proof import _challenge

USES = ("Encryption", "Authentication", "Signature")


def proofs() -> list[Case]:
    """hsm-1 §5."""
    cases = []
    for on in AGREEING:
        for use in USES:
            if use != "Signature" or on in NIST:
                cases += _proof(on, use)
    return cases


def _proof(on: str, use: str) -> list[Case]:
    x, y, k = secret(on, "x"), secret(on, use), secret(on, f"k of {use}")
    X = x.public()
    Z = y.times(X) if use == "Signature" else X + y.public()
    inputs: Json = {"crv": on, "use": use, "X": point_hex(X), "Z": point_hex(Z)}
    inputs |= {"profile_device": PROFILE_DEVICE.hex(), "authority": AUTHORITY}
    making = {**inputs, "y": scalar_hex(y), "k": scalar_hex(k)}
    proof = bytes.fromhex(answer("prove", making)["proof"])
    checked: Json = {**inputs, "proof": proof.hex()}
    group, size = curve(on), curve(on).scalar_size
    T, s = proof[:-size], int.from_bytes(proof[-size:], group.byteorder)

    def other(name: str, **changed: str) -> Case:
        altered = {**checked, **changed}
        return Case(f"{use}, {on}: {name}", "verify-proof", altered, failure="verification")

    others = [
        other("another device payload", profile_device=b"{}".hex()),
        other("another authority", authority=AUTHORITY[::-1]),
        other("another Z", Z=point_hex(Z + group.base)),
        other("Z is X", Z=point_hex(X)),
        other("s altered", proof=(T + _s(on, (s + 1) % group.order)).hex()),
        other(
            "T of another proof", proof=(secret(on, "T").public().encode() + proof[-size:]).hex()
        ),
        other("cut", proof=proof[:-1].hex()),
    ]
    if s + group.order < 1 << (8 * size):
        others.append(other("s + n", proof=(T + _s(on, s + group.order)).hex()))
    if use == "Encryption":
        others.append(other("another use", use="Authentication"))
        others.append(other("Z = zG, claimed as X + Y", **_claimed(on, making)))
    if on not in NIST:
        T2 = torsion(group)
        others.append(other("Z with torsion", Z=point_hex(Z + T2)))
        for name, changed in _cancelling(making, y, k).items():
            others.append(other(name, **changed))
        others.append(
            other("T with torsion", proof=((group.decode(T) + T2).encode() + proof[-size:]).hex())
        )
    return [
        Case(f"{use}, {on}", "prove", making),
        Case(f"{use}, {on}", "verify-proof", checked),
        *others,
    ]


def _claimed(on: str, making: Json) -> dict[str, str]:
    """What an administrator can offer who knows z and the device's X, and no y."""
    X, z, k = curve(on).decode(bytes.fromhex(making["X"])), secret(on, "z"), secret(on, "k of z")
    Z, T, digest = z.public(), k.public(), sha512(PROFILE_DEVICE).digest()
    c = _challenge(X, Z, T, Use.ENCRYPT, digest, AUTHORITY)
    s = (k.value + c * z.value) % curve(on).order
    return {"Z": point_hex(Z), "proof": (T.encode() + _s(on, s)).hex()}


def _cancelling(making: Json, y: SecretScalar, k: SecretScalar) -> dict[str, dict[str, str]]:
    """Statements outside the subgroup whose equation holds, found in a few tries."""
    X, Z = (y.curve.decode(bytes.fromhex(making[name])) for name in ("X", "Z"))
    t, digest = torsion(y.curve), sha512(PROFILE_DEVICE).digest()
    use = {"Encryption": Use.ENCRYPT, "Authentication": Use.AUTHENTICATE}[making["use"]]

    def shown(X: Point, Z: Point, k: SecretScalar, T: Point) -> tuple[int, dict[str, str]]:
        c = _challenge(X, Z, T, use, digest, AUTHORITY)
        s = _s(y.curve.name, (k.value + c * y.value) % y.curve.order)
        points = {"X": point_hex(X), "Z": point_hex(Z)}
        return c, {**points, "proof": (T.encode() + s).hex()}

    found = {"X and Z with the same torsion": shown(X + t, Z + t, k, k.public())[1]}
    for tried in range(1, 99):
        once = SecretScalar(y.curve, k.value + tried)
        c, changed = shown(X, Z + t, once, once.public() - t)
        if t.multiply(c) == t:
            return found | {"torsion of T cancels that of Z": changed}
    raise AssertionError("no challenge fits")


def _s(on: str, value: int) -> bytes:
    return value.to_bytes(curve(on).scalar_size, curve(on).byteorder)
