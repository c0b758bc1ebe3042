"""What passed through the door of a device, without the secrets that hosts send to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from mesh_hsm.testing.virtual_yubikey.piv.names import Ins

_SECRET: Final = frozenset(
    {Ins.VERIFY, Ins.CHANGE_REFERENCE, Ins.RESET_RETRY, Ins.IMPORT, Ins.SET_MANAGEMENT_KEY}
)
# Where hosts keep a management key behind the PIN; the object's own name may be seen.
_PRINTED: Final = bytes.fromhex("5C035FC109")
_HEADER: Final = 4


@dataclass(frozen=True)
class Record:
    """One exchange. ``status`` is None where the device was gone before it answered."""

    header: bytes
    """CLA INS P1 P2, or less of a command that was cut off."""
    body: bytes
    """Lc, data and Le as they came; every octet zero where they are secret."""
    answer: bytes
    """Response data, without the status word. A shared secret may be among them."""
    status: int | None

    @classmethod
    def of(cls, command: bytes, response: bytes | None) -> Self:
        """The record of a command and what was answered, if anything was."""
        header, body = command[:_HEADER], command[_HEADER:]
        if header[1:2] and header[1] in _SECRET:
            body = bytes(len(body))
        if response is None:
            return cls(header, body, b"", None)
        answer, status = response[:-2], int.from_bytes(response[-2:], "big")
        if _PRINTED in body:
            shown = body.index(_PRINTED) + len(_PRINTED)
            body, answer = body[:shown] + bytes(len(body) - shown), bytes(len(answer))
        return cls(header, body, answer, status)

    @property
    def ins(self) -> int | None:
        """The instruction, if the command got that far."""
        return self.header[1] if len(self.header) > 1 else None

    def __str__(self) -> str:
        status = "gone" if self.status is None else f"{self.status:04X}"
        return f"{self.header.hex()} {self.body.hex()} -> {self.answer.hex()} {status}"
