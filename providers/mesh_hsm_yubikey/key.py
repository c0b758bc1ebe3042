"""One key in a slot. Open this file to see what happens around each use of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import TypeVar

from cryptography.hazmat.primitives.serialization import Encoding
from yubikit.core.smartcard import SW, ApduError
from yubikit.piv import PIN_POLICY, TOUCH_POLICY, PivSession

from mesh_hsm.curves import Point, XOnly
from mesh_hsm.custody import CustodyStatement
from mesh_hsm.errors import AccessError, NotFoundError
from mesh_hsm.provider import DeviceKey
from mesh_hsm.uri import Uri
from mesh_hsm_yubikey import description, operations, slot_state, statements, touch
from mesh_hsm_yubikey.card import Hold
from mesh_hsm_yubikey.directory import Entry
from mesh_hsm_yubikey.opened import Opened

R = TypeVar("R")


class YubiKeyKey(DeviceKey):
    """A key of ours in a PIV slot. A PIN is asked for, and a touch awaited, as its policies say."""

    def __init__(self, opened: Opened, uri: Uri, entry: Entry, public: Point) -> None:
        self.uri = uri
        self.label = entry.label
        self.use = entry.use
        self.public = public
        self._opened = opened
        self._entry = entry

    def __repr__(self) -> str:
        return f"YubiKeyKey({self.uri})"

    def custody(self) -> CustodyStatement:
        """What the card says now, and its attestation of a key that it made. No PIN is needed.

        Raises ``VerificationError`` where the two disagree.
        """
        opened = self._opened
        state, attested = opened.run(
            "tell about the key", lambda hold: (self._state(hold), self.certificates(hold))
        )
        statement = statements.of_key(opened.info, opened.device, self._entry, state)
        if state is None or attested is None:
            return statement
        return statements.checked(statement, self._entry, state, attested, opened)

    def certificates(self, hold: Hold) -> tuple[bytes, bytes] | None:
        """The key's attestation and F9's certificate, in DER; None for a key from outside."""
        try:
            slot = hold.piv.attest_key(self._entry.slot)
        except ApduError:
            return None
        f9 = description.f9_certificate(hold.piv)
        return (
            None if f9 is None else (slot.public_bytes(Encoding.DER), f9.public_bytes(Encoding.DER))
        )

    def _agree(self, point: Point) -> Point | XOnly:
        return self._use("agree", lambda piv: operations.agree(piv, self._entry.slot, point))

    def _sign(self, octets: bytes) -> bytes:
        return self._use(
            "sign", lambda piv: operations.sign(piv, self._entry.slot, self.public, octets)
        )

    def _use(self, doing: str, work: Callable[[PivSession], R]) -> R:
        opened, entry = self._opened, self._entry
        pin = None if entry.pin is PIN_POLICY.NEVER else opened.login.prepare()
        waits = entry.touch is not TOUCH_POLICY.NEVER

        def use(hold: Hold) -> R:
            if entry not in hold.seen:  # once: it is ours alone from then on
                self._state(hold)
                hold.seen.add(entry)
            if pin is not None:
                prove = (
                    opened.login.prove if entry.pin is PIN_POLICY.ALWAYS else opened.login.ensure
                )
                prove(hold, pin)
            subject = f"{opened.card.subject} to {doing} with {self.label}"
            with touch.awaited(opened.login.secrets, subject) if waits else nullcontext():
                return self._asked(hold.piv, work, waits=waits)

        return opened.run(doing, use)

    def _asked(self, piv: PivSession, work: Callable[[PivSession], R], *, waits: bool) -> R:
        try:
            return work(piv)
        except ApduError as error:
            if not waits or error.sw != SW.SECURITY_CONDITION_NOT_SATISFIED:
                raise
            raise AccessError(
                f"nobody touched {self._opened.card.subject}",
                hint="run it again, and touch the YubiKey when it blinks",
                uri=str(self.uri),
            ) from error

    def _state(self, hold: Hold) -> slot_state.SlotState | None:
        """What the slot holds, if it is this key still. Raises ``NotFoundError``."""
        state = slot_state.read(hold.piv, self._entry.slot)
        if state is None and not slot_state.tells(hold.piv):
            return None
        if not slot_state.holds(state, self._entry):
            raise NotFoundError(
                "the slot does not hold this key any more",
                hint="mesh-hsm key list",
                uri=str(self.uri),
            )
        return state
