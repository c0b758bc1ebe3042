"""Status words, and the exception by which an application answers one that is not 9000.

ISO 7816-4 §5.1.3; SP 800-73-4 Part 2 Table 3.
"""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """SW1 SW2."""

    OK = 0x9000
    MORE_DATA = 0x6100
    TRIES_LEFT = 0x63C0
    WRONG_LENGTH = 0x6700
    SECURITY_NOT_SATISFIED = 0x6982
    BLOCKED = 0x6983
    CONDITIONS_NOT_SATISFIED = 0x6985
    WRONG_DATA = 0x6A80
    NOT_FOUND = 0x6A82
    NO_SPACE = 0x6A84
    WRONG_P1P2 = 0x6A86
    REFERENCE_NOT_FOUND = 0x6A88
    WRONG_SLOT = 0x6B00
    UNKNOWN_INSTRUCTION = 0x6D00
    UNKNOWN_CLASS = 0x6E00


class Refused(Exception):  # noqa: N818  an answer, not an accident
    """The card answers ``status`` and no data."""

    def __init__(self, status: int) -> None:
        super().__init__(f"SW {status:04X}")
        self.status = status


def tries_left(count: int) -> int:
    """``63Cx``: x tries left, at most 15."""
    return Status.TRIES_LEFT | min(count, 15)
