"""A PIN in memory. Open this file to see what keeps it out of messages, logs and tracebacks."""

from __future__ import annotations

import hmac
import os
from typing import Final, NoReturn

from mesh_hsm.errors import FormatError

_PROCESS: Final = os.urandom(32)


class Pin:
    """A PIN whose ``repr`` says nothing, so that no traceback that holds one shows it."""

    __slots__ = ("_octets",)

    def __init__(self, octets: bytes) -> None:
        self._octets = octets

    @property
    def octets(self) -> bytes:
        """SECRET: UTF-8, as PKCS #11 wants it."""
        return self._octets

    @property
    def text(self) -> str:
        """SECRET: the same for python-pkcs11, which encodes it again."""
        try:
            return self._octets.decode("utf-8")
        except UnicodeDecodeError:
            pass  # not chained: that error carries the octets
        raise FormatError("a PIN is UTF-8 text")

    def __len__(self) -> int:
        return len(self._octets)

    @property
    def mark(self) -> bytes:
        """32 octets that two equal PINs share within this process, and nothing is learnt from."""
        return hmac.digest(_PROCESS, self._octets, "sha256")

    def __repr__(self) -> str:
        return "<PIN>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a PIN is neither pickled nor copied")
