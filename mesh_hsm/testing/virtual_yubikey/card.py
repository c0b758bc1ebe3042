"""The card's logical channel 0: SELECT, chaining both ways, dispatch to one application, reset.

ISO 7816-4 §5.3, §7.1.1; SP 800-73-4 Part 2 §3.1.1. Open this for what happens to an APDU before
an application sees it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from enum import IntEnum
from typing import Final, Protocol

from mesh_hsm.errors import FormatError
from mesh_hsm.testing.virtual_yubikey.apdu import Command
from mesh_hsm.testing.virtual_yubikey.choices import OURS, Choices
from mesh_hsm.testing.virtual_yubikey.status import Refused, Status

_CHAINED: Final = 0x10  # the CLA bit of every block but the last
_SHORTEST_AID: Final = 5
# Hosts send 3,062 octets at most; room for a few more lets the largest object be refused as such.
_LARGEST_DATA: Final = 3_072


class Ins(IntEnum):
    """The instructions that the card answers itself."""

    SELECT = 0xA4
    GET_RESPONSE = 0xC0


class Application(Protocol):
    """What one application of the card does. ``Refused`` is an answer without data."""

    aid: bytes

    def select(self) -> bytes:
        """Answer to SELECT, also when it is selected already: what it knows then stays."""

    def process(self, command: Command) -> bytes:
        """Answer a whole command, its chain put together."""

    def deselect(self) -> None:
        """Another application was selected, or the card was reset: forget the security state."""


class Card:
    """A card with these applications, none selected."""

    def __init__(
        self,
        applications: Sequence[Application],
        choices: Choices = OURS,
    ) -> None:
        self._choices = choices
        self._applications = tuple(applications)
        self._selected: Application | None = None
        self._rest = b""
        self._chain: tuple[int, int, int] | None = None
        self._blocks = b""

    def reset(self) -> None:
        """Power up: nothing selected, no security state, no unfinished chain."""
        for application in self._applications:
            application.deselect()
        self._selected = None
        self._rest = b""
        self._drop_chain()

    def exchange(self, octets: bytes) -> bytes:
        """One command APDU in, response data and status word out. Never raises for bad octets."""
        try:
            command = Command.decode(octets)
        except FormatError:
            self._drop_chain()
            return _response(b"", Status.WRONG_LENGTH)
        try:
            return self._answer(command)
        except Refused as refused:
            return _response(b"", refused.status)

    def _answer(self, command: Command) -> bytes:
        if command.cla & ~_CHAINED:
            self._drop_chain()
            raise Refused(Status.UNKNOWN_CLASS)
        if command.ins == Ins.GET_RESPONSE:
            self._drop_chain()
            if command.p1 or command.p2:
                raise Refused(Status.WRONG_P1P2)
            if not self._rest:
                raise Refused(Status.CONDITIONS_NOT_SATISFIED)
        else:
            self._rest = b""
            whole = self._collect(command)
            if whole is None:
                return _response(b"", Status.OK)
            self._rest = self._process(whole)
        return self._next_part(command)

    def _next_part(self, command: Command) -> bytes:
        limit = command.answer_limit
        part, self._rest = self._rest[:limit], self._rest[limit:]
        left = len(self._rest)
        status = Status.MORE_DATA | (left if left < 0x100 else 0) if left else Status.OK
        return _response(part, status)

    def _collect(self, command: Command) -> Command | None:
        """The whole command, or None while blocks are missing (ISO 7816-4 §5.3.3)."""
        header = (command.ins, command.p1, command.p2)
        data = (self._blocks if header == self._chain else b"") + command.data
        self._drop_chain()
        if len(data) > _LARGEST_DATA:
            raise Refused(Status.WRONG_LENGTH)
        if command.cla & _CHAINED:
            self._chain, self._blocks = header, data
            return None
        return replace(command, data=data)

    def _drop_chain(self) -> None:
        self._chain, self._blocks = None, b""

    def _process(self, command: Command) -> bytes:
        if command.ins == Ins.SELECT:
            return self._select(command)
        if self._selected is None:
            raise Refused(self._choices.nothing_selected)
        return self._selected.process(command)

    def _select(self, command: Command) -> bytes:
        if (command.p1, command.p2) != (0x04, 0x00):
            raise Refused(Status.WRONG_P1P2)
        for application in self._applications:
            if len(command.data) >= _SHORTEST_AID and application.aid.startswith(command.data):
                # One that is selected again keeps its security state (SP 800-73-4 §3.1.1).
                if self._selected not in (None, application):
                    self._selected.deselect()
                self._selected = application
                return application.select()
        raise Refused(Status.NOT_FOUND)


def _response(data: bytes, status: int) -> bytes:
    return data + status.to_bytes(2, "big")
