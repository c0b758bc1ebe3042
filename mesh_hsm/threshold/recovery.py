"""The full point xS from a device that gives only its x, or a check of one that gives all of it.

Open this file where the result must be one certain point: authentication, a service's partial
result, naming a culprit. Decryption tries candidates instead, with one call (hsm-1 §9).

* ``recover_plain``: S, then S + G. Finds faults and wrong keys, not a device that lies.
* ``recover_blinded``: S, then Q = aS + rG. Finds liars too.
"""

from __future__ import annotations

from typing import Final

from mesh_hsm.curves import Point, SecretScalar, XOnly, recover
from mesh_hsm.errors import DeviceError, VerificationError
from mesh_hsm.provider import DeviceKey
from mesh_hsm.secret_source import asked_again

_WHY: Final = "a second time: its first answer leaves two points, and this tells which"


def recover_plain(share: DeviceKey, S: Point) -> Point:
    """xS by two calls, S and S + D with known xD (threshold §6(b)); one if the device gives points.

    Raises ``DeviceError`` naming the share when its two answers do not belong together, and what
    ``DeviceKey.agree`` raises.
    """
    answer = share.agree(S)
    if isinstance(answer, Point):
        return answer
    D, xD = _offset(share.public, S)
    with asked_again(_WHY):
        second = share.agree(S + D)
    try:
        return recover(xD, answer, XOnly(second.curve, second.x))
    except VerificationError as error:
        raise _disagrees(share) from error


def recover_blinded(share: DeviceKey, S: Point) -> Point:
    """xS by two calls, S and Q = aS + rG with secret one-use a and r (hsm-1 §9).

    Honest answers always pass; no known lie does. A device that gives full points is checked in the
    same way. Raises ``DeviceError`` naming the share, and what ``DeviceKey.agree`` raises.
    """
    answer = share.agree(S)
    R = answer.lifts()[0] if isinstance(answer, XOnly) else answer
    # Otherwise xS + T with T of small order passes: a is a multiple of the cofactor in effect.
    if not R.in_prime_subgroup:
        raise _disagrees(share)
    a, r = SecretScalar.random(S.curve), SecretScalar.random(S.curve)
    with asked_again(_WHY):
        second = share.agree(a.times(S) + r.public())
    aR, rX = a.times(R), r.times(share.public)
    signs = [(R, aR)] if isinstance(answer, Point) else [(R, aR), (-R, -aR)]
    for candidate, blinded in signs:
        if _matches(blinded + rX, second):
            return candidate
    raise _disagrees(share)


def _offset(X: Point, S: Point) -> tuple[Point, Point]:
    """D and xD for the second question S + D: G, or -G where S + G is a point no device may see."""
    G = S.curve.base
    return (-G, -X) if (S + G).has_small_order else (G, X)


def _matches(expected: Point, answer: Point | XOnly) -> bool:
    if isinstance(answer, Point):
        return expected == answer
    return not expected.is_neutral and expected.x == answer.x


def _disagrees(share: DeviceKey) -> DeviceError:
    return DeviceError(
        "the device's answers do not belong together: a fault, another key, or a lie",
        hint="run it again; if it stays, take the device out of service",
        uri=str(share.uri),
    )
