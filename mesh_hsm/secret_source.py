"""Where PINs and passphrases come from: a callback, never an argument.

Open this file to see what a provider may ask a person for. The command line's own sources
(prompt, file descriptor, named environment variable) live in ``mesh_hsm_cli``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

from mesh_hsm.errors import SecretRequiredError


class SecretKind(StrEnum):
    """What is asked for."""

    PIN = "PIN"
    NEW_PIN = "new PIN"
    PASSPHRASE = "passphrase"  # noqa: S105  the word, not a secret
    NEW_PASSPHRASE = "new passphrase"  # noqa: S105  the word, not a secret
    BACKUP_PASSPHRASE = "backup passphrase"  # noqa: S105  the word, not a secret
    NEW_BACKUP_PASSPHRASE = "new backup passphrase"  # noqa: S105  the word, not a secret
    OWNER_AUTH = "TPM owner password"
    SO_PIN = "security officer's PIN"
    NEW_SO_PIN = "new security officer's PIN"
    PUK = "PUK"
    NEW_PUK = "new PUK"
    MANAGEMENT_KEY = "management key"


@dataclass(frozen=True, slots=True)
class SecretRequest:
    """One question to a person.

    ``subject`` names the key or token as people know it. ``attempts_remaining`` is what the
    device said just before (None: it does not count), to be shown before the secret is typed.
    """

    kind: SecretKind
    subject: str
    attempts_remaining: int | None = None


class SecretSource(Protocol):
    """Answers a provider's questions."""

    def secret(self, request: SecretRequest) -> bytes:
        """The secret's octets (UTF-8 of what was typed). Raises ``SecretRequiredError``."""
        ...

    def consents_to_last_try(self, request: SecretRequest) -> bool:
        """True if the person agrees to spend the last try before a lockout. Default: False."""
        ...


@runtime_checkable
class AwaitsTouch(Protocol):
    """A secret source that also tells a person when to touch a device."""

    def awaiting_touch(self, subject: str) -> AbstractContextManager[None]:
        """Entered once the device waits for a touch to use ``subject``, left when it has ended."""
        ...


_why_again: ContextVar[str] = ContextVar("why_again", default="")


@contextmanager
def asked_again(why: str) -> Iterator[None]:
    """Within the block a device is asked once more for one thing that a person wants.

    ``why`` completes "Touch … to agree with …," for whoever then has to touch it again.
    """
    before = _why_again.set(why)
    try:
        yield
    finally:
        _why_again.reset(before)


def why_again() -> str:
    """What ``asked_again`` said; empty at the first time."""
    return _why_again.get()


class NoSecrets:
    """A source with nothing to give: for keys without PIN, and for listing."""

    def secret(self, request: SecretRequest) -> bytes:
        """Refuse."""
        raise SecretRequiredError(
            f"{request.kind} of {request.subject} is needed",
            hint="run it on a terminal, or name a source with --pin-fd or --passphrase-fd",
        )

    def consents_to_last_try(self, request: SecretRequest) -> bool:
        """Never."""
        return False


@dataclass(frozen=True, slots=True, repr=False)
class FixedSecrets:
    """A source that knows its answers: for programs that already hold the secrets, and tests."""

    answers: dict[SecretKind, bytes]
    last_try: bool = False

    def secret(self, request: SecretRequest) -> bytes:
        """The answer for this kind, or ``SecretRequiredError``."""
        try:
            return self.answers[request.kind]
        except KeyError:
            return NoSecrets().secret(request)

    def consents_to_last_try(self, request: SecretRequest) -> bool:
        """What was said when this source was made."""
        return self.last_try
