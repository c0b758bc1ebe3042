"""What goes wrong with a device on purpose: it is pulled out, loses power, or refuses."""

from __future__ import annotations

from enum import Enum

from mesh_hsm.testing.virtual_yubikey.status import Refused


class Loss(Enum):
    """When a device goes away."""

    BEFORE = "before the command was processed"
    UNANSWERED = "after the command was processed, before its answer"
    ANSWERED = "after the answer"


class Faults:
    """Counts commands and says what happens to the next one."""

    def __init__(self) -> None:
        self._losses: dict[int, Loss] = {}
        self._failures: dict[int, list[int]] = {}
        self._passed = 0

    def lose(self, n: int, loss: Loss) -> None:
        """Go away at the n-th command from now; 1 is the next."""
        if n < 1:
            raise ValueError("the next command is number 1")
        self._losses[self._passed + n] = loss

    def fail(self, ins: int, status: int, times: int) -> None:
        """Answer this instruction with a status word so many times, without processing it."""
        self._failures.setdefault(ins, []).extend([status] * times)

    def next(self) -> Loss | None:
        """Count a command; the loss that comes with it, if one does."""
        self._passed += 1
        return self._losses.pop(self._passed, None)

    def check(self, command: bytes) -> None:
        """Raise ``Refused`` where this command is to fail."""
        waiting = self._failures.get(command[1]) if len(command) > 1 else None
        if waiting:
            raise Refused(waiting.pop(0))
