"""What the kit must know of a device, and how it opens, restarts and breaks one.

Open this file to put a provider on the bench: subclass ``Bench``, and ``ProviderConformance`` with
a fixture ``bench`` that makes one, empty, for each test.
"""
# ruff: noqa: S101, SIM118  the kit is made of assertions; Token.keys is no dictionary's

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Final, final

import pytest

from mesh_hsm.curves import CURVES
from mesh_hsm.custody import CustodyClass, Hardware, PinPolicy
from mesh_hsm.errors import UnsupportedError
from mesh_hsm.provider import DeviceKey, KeySpec, Provider, Token, Use
from mesh_hsm.secret_source import NoSecrets, SecretKind, SecretRequest, SecretSource
from mesh_hsm.uri import Uri

WRONG: Final = b"a wrong secret, long enough"
# The fastest first, for tests that ask no particular curve of the device.
_ORDER: Final = ("P-256", "X25519", "Ed25519", "P-384", "X448", "Ed448", "P-521")


@dataclass(frozen=True, slots=True)
class CountedPin:
    """A PIN whose wrong tries the device counts.

    ``policy`` is what a key is made with; ``tries`` wrong ones lock a fresh device, for at most
    ``recovery_seconds`` (None: for good).
    """

    policy: PinPolicy
    tries: int
    recovery_seconds: int | None


class Bench(ABC):
    """One device, empty, and everything the kit does to it.

    ``uri`` names the token; ``answers`` are the right secrets by kind (the old PIN and the new one
    alike where both are asked); ``custody`` and ``hardware`` are what its own keys must read back;
    ``asks`` is what the first private operation on a key without PIN asks for, None for nothing;
    ``counted_pin`` is None where no PIN is counted; ``new_secret`` is one that the device takes
    when its PIN or passphrase is changed, ``wrong_secret`` one that it tries and refuses. ``lacks``
    are those of ``Imports`` and ``Seals`` whose methods the token has, since its provider has them,
    and which this device refuses: it must refuse them then, and no other device may.
    """

    uri: Uri
    answers: Mapping[SecretKind, bytes]
    custody: CustodyClass = CustodyClass.GENERATED
    hardware: Hardware = Hardware.SIMULATOR
    asks: SecretKind | None = None
    counted_pin: CountedPin | None = None
    new_secret: bytes = b"a fresh secret"
    wrong_secret: bytes = WRONG
    lacks: frozenset[type] = frozenset()

    @abstractmethod
    def provider(self) -> Provider:
        """A new instance on the same device and records, as another process would make it."""

    def failing(self, step: int) -> AbstractContextManager[None] | None:
        """Within the block the ``step``-th call (from 0) to the device or disk fails.

        None where the bench cannot do that; the rollback tests are then skipped.
        """
        return None

    def leftovers(self) -> Collection[object]:
        """What lies on the device or disk that no key accounts for: sessions, objects, files."""
        return ()

    def restart(self) -> bool:
        """Power the device off and on. False where there is nothing to restart."""
        return False

    def absent(self, uri: Uri) -> Uri:
        """The name that a key beside this one would have. Override where it is no ``key=``."""
        return uri.with_attribute("key", "absent")

    def end_lockout(self) -> None:
        """Let the device accept PINs again. Needed where ``counted_pin`` is given."""
        raise NotImplementedError

    @final
    def open(self, secrets: SecretSource | None = None) -> Token:
        """Open the token through a new provider instance, with the right answers or others."""
        return self.provider().open(self.uri, secrets or self.asked())

    @final
    def asked(self, *, wrong: Collection[SecretKind] = (), last_try: bool = False) -> Asked:
        """A source with the right answers, but for the kinds in ``wrong``."""
        return Asked(self.answers, wrong=wrong, last_try=last_try, wrong_secret=self.wrong_secret)


class Asked:
    """A source of secrets that writes down what it was asked. Its ``repr`` shows no secret."""

    def __init__(
        self,
        answers: Mapping[SecretKind, bytes],
        *,
        wrong: Collection[SecretKind] = (),
        last_try: bool = False,
        wrong_secret: bytes = WRONG,
    ) -> None:
        self._answers = dict(answers)
        self._wrong_secret = wrong_secret
        self._wrongs = 0
        self.wrong = frozenset(wrong)
        self.last_try = last_try
        self.requests: list[SecretRequest] = []
        self.consents: list[SecretRequest] = []

    def secret(self, request: SecretRequest) -> bytes:
        """The right answer, or a wrong one for a kind in ``wrong``."""
        self.requests.append(request)
        if request.kind in self.wrong:
            return self._another_wrong_secret()
        if request.kind not in self._answers:
            return NoSecrets().secret(request)
        return self._answers[request.kind]

    def _another_wrong_secret(self) -> bytes:
        """A person who mistypes types something else each time; a provider may refuse the same."""
        self._wrongs += 1
        if self._wrongs == 1:
            return self._wrong_secret
        return self._wrong_secret[:-1] + str(self._wrongs % 10).encode()

    def consents_to_last_try(self, request: SecretRequest) -> bool:
        """What ``last_try`` says."""
        self.consents.append(request)
        return self.last_try


class Kit:
    """What every part of the kit has: the bench, and a token opened on it."""

    @pytest.fixture
    def bench(self) -> Bench:
        """Override: a fresh, empty device."""
        raise NotImplementedError("a conformance test needs a fixture named bench")

    @pytest.fixture
    def token(self, bench: Bench) -> Iterator[Token]:
        """The bench's token with the right secrets."""
        with bench.open() as token:
            yield token


def algorithms(token: Token, use: Use) -> list[str]:
    """Algorithms in which this token makes keys of this use, the fastest first."""
    offered = {c.algorithm for c in token.capabilities() if c.primitive in use.primitives}
    return [name for name in _ORDER if name in offered]


def make(
    token: Token,
    use: Use,
    label: str = "subject",
    *,
    algorithm: str | None = None,
    pin: PinPolicy = PinPolicy.NONE,
) -> DeviceKey:
    """Generate a key of this use; skip the test where the token makes none."""
    offered = algorithms(token, use)
    if not offered or algorithm not in (None, *offered):
        pytest.skip(f"{token.info.label} makes no {algorithm or ''} key to {use}")
    algorithm = algorithm or offered[0]
    consent = token.capability(algorithm, use).needs_consent
    return token.generate(KeySpec(algorithm, use, label, pin=pin, allow_exportable=consent))


def make_any(token: Token, label: str = "subject", *, pin: PinPolicy = PinPolicy.NONE) -> DeviceKey:
    """Generate a key of whichever use, where that is not the point: not every token agrees."""
    use = Use.ENCRYPT if algorithms(token, Use.ENCRYPT) else Use.SIGN
    return make(token, use, label, pin=pin)


@contextmanager
def refused(bench: Bench, token: Token) -> Iterator[None]:
    """A block that raises ``UnsupportedError``, and leaves everything as it was."""
    before = seen(token), list(bench.leftovers())
    with pytest.raises(UnsupportedError):
        yield
    assert (seen(token), list(bench.leftovers())) == before


def seen(token: Token) -> dict[str, bytes]:
    """The token's keys as anybody sees them: public octets by label."""
    return {key.label: key.public.encode() for key in token.keys()}


def exercise(key: DeviceKey) -> None:
    """Use the private key once, whatever it is for. The contract checks the answer."""
    if key.use is Use.SIGN:
        key.sign(digest_for(key))
    else:
        key.agree(key.public.curve.base)


def digest_for(key: DeviceKey, fill: int = 0x5A) -> bytes:
    """Octets that this key signs: a digest of the right length, or a message."""
    sizes = {"P-256": 32, "P-384": 48, "P-521": 64}
    return bytes([fill]) * sizes.get(key.public.curve.name, 100)


def every_algorithm() -> list[str]:
    """Names of all curves known here."""
    return list(CURVES)
