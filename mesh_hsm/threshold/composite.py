"""Keys made of shares: ``CompositeKey`` decrypts and authenticates wherever its shares live.

Open this file to see how partial results become an agreement value (threshold §6, hsm-1 §9). The
signature counterpart is ``mesh_hsm.threshold.derived``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product

from mesh_hsm.curves import Point
from mesh_hsm.custody import CompositeCustody
from mesh_hsm.errors import DeviceError, FormatError, UnsupportedError, VerificationError
from mesh_hsm.provider import DeviceKey, Use
from mesh_hsm.threshold.additive import combine
from mesh_hsm.threshold.recovery import recover_blinded, recover_plain

MAX_SHARES = 8  # at most 128 candidates; every one costs a key unwrap


class CompositeKey:
    """An n-of-n key Z = X_1 + … + X_m for one use; a single share is an ordinary key.

    ``public`` is the Z that was published: the sum of the shares' public keys must equal it, sign
    octet included, else ``VerificationError``. ``proved`` is the verdict of whoever verified the
    proof of contribution and the device's countersignature (hsm-1 §5); a sum proves nothing.
    Raises ``UnsupportedError`` for signatures and Edwards curves, ``FormatError`` for a share of
    another use or more than ``MAX_SHARES``, and ``InvalidPointError`` as ``combine``.
    """

    def __init__(
        self, public: Point, use: Use, shares: Sequence[DeviceKey], *, proved: bool = False
    ) -> None:
        if use is Use.SIGN or public.curve.family == "edwards":
            raise UnsupportedError("a sum of keys agrees; signature keys are derived (DerivedKey)")
        if len(shares) > MAX_SHARES:
            raise FormatError(f"a composite key has at most {MAX_SHARES} shares")
        if any(share.use is not use for share in shares):
            raise FormatError(f"a share of this key is not for the same use ({use})")
        if combine([share.public for share in shares]) != public:
            raise VerificationError(
                "the shares do not add up to the published composite key",
                hint="a share is missing, stale, or the key was claimed by somebody else",
            )
        self.public = public
        self.use = use
        self._shares = tuple(shares)
        self._proved = proved

    def agreements(self, S: Point) -> Iterator[bytes]:
        """Candidate agreement octets of zS, exactly one right, for the caller's integrity check.

        Each share is asked once, now; sums are formed as they are taken. One candidate where all
        shares give full points, 2^m with m x-only shares beside them, 2^(m-1) with x-only ones
        alone (threshold §6(a)). For a ciphertext that tells right from wrong only: never send
        candidates to a peer. A wrap made to Y - X opens as well, which a full-point device refuses:
        where several parties must agree on the result, use ``agree`` (hsm-1 §9). Raises what
        ``DeviceKey.agree`` raises.
        """
        points: list[Point] = []
        choices: list[tuple[Point, ...]] = []
        for share in self._shares:
            answer = share.agree(S)
            if isinstance(answer, Point):
                points.append(answer)
            else:
                choices.append(answer.lifts())
        if not points:
            # The candidates' own sign does not show in x, so the first lift may be fixed.
            choices[0] = choices[0][:1]
        fixed = sum(points, start=S.curve.neutral)
        sums = (sum(signs, start=fixed) for signs in product(*choices))
        # A wrong combination may cancel, or on Montgomery curves give u = 0: never an answer.
        return (Z.agreement_octets() for Z in sums if not Z.is_neutral and Z.x)

    def agree(self, S: Point, *, blinded: bool = False) -> Point:
        """zS for certain, two calls for each x-only share (threshold §6(b)).

        ``blinded`` also finds devices that lie, full-point ones included, with two calls for each
        (hsm-1 §9). Raises ``DeviceError`` with the culprit's ``uri``, and what ``DeviceKey.agree``
        raises.
        """
        recover = recover_blinded if blinded else recover_plain
        total = sum((recover(share, S) for share in self._shares), start=S.curve.neutral)
        if total.is_neutral:
            raise DeviceError("the shares' answers cancel: one of them is wrong")
        return total

    def custody(self) -> CompositeCustody:
        """What the key is worth, from what each share says of itself now (hsm-1 §4)."""
        statements = tuple(share.custody() for share in self._shares)
        whole = CompositeCustody.additive(statements, threshold=len(statements))
        return replace(whole, proved=self._proved)
