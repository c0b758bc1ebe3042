"""A PIN, PUK or management key in memory, kept out of messages, logs and tracebacks."""

from __future__ import annotations

from typing import NoReturn


class Secret:
    """Octets whose ``repr`` says nothing, so that no traceback that holds them shows them."""

    __slots__ = ("_octets",)

    def __init__(self, octets: bytes) -> None:
        self._octets = octets

    @property
    def octets(self) -> bytes:
        """SECRET."""
        return self._octets

    def __repr__(self) -> str:
        return "<secret>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is neither pickled nor copied")


class Pin(Secret):
    """A PIN or PUK: 6 to 8 octets (SP 800-73-4 Part 2 §2.4.3, and Yubico's PUK)."""

    __slots__ = ()

    @property
    def trouble(self) -> str | None:
        """Why no YubiKey takes it, if so. Says nothing of what is in it."""
        if not 6 <= len(self._octets) <= 8:
            return "a YubiKey takes 6 to 8 characters"
        if not self._octets.isascii():
            return "a YubiKey takes plain ASCII alone"
        return None

    @property
    def text(self) -> str:
        """SECRET: the same for yubikit, which encodes and pads it."""
        return self._octets.decode("ascii")
