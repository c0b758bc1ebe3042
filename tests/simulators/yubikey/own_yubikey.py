"""A YubiKey of a test's own, set up or new, with everything that is sent to it in full view.

Open this file to see how a test looks at what reached the card, and how it plays the other program:
ykman's own code on a connection of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from smartcard.Exceptions import CardConnectionException, NoCardException
from smartcard.scard import SCARD_SHARE_EXCLUSIVE, SCARD_UNPOWER_CARD
from smartcard.System import readers
from ykman.pcsc import ScardSmartCardConnection
from yubikit.piv import PivSession

from mesh_hsm.custody import PinPolicy, TouchPolicy
from mesh_hsm.provider import DeviceKey, KeySpec, Token, Use
from mesh_hsm.secret_source import SecretKind, SecretRequest
from mesh_hsm.testing.virtual_yubikey import VirtualYubiKey
from mesh_hsm.testing.virtual_yubikey.pcsc_process import PcscProcess
from mesh_hsm.testing.virtual_yubikey.piv.attestation_identity import attestation_root
from mesh_hsm.testing.virtual_yubikey.piv.names import Ins
from mesh_hsm.testing.virtual_yubikey.piv.state import PivState
from mesh_hsm.uri import Uri
from mesh_hsm_yubikey.card import card_of
from mesh_hsm_yubikey.provider import YubiKeyProvider

PIN, PUK = b"246813", b"97531864"
OTHER_PIN, WRONG_PIN, WRONG_PUK = b"864213", b"000000", b"00000000"
FACTORY = (b"123456", b"12345678")
SERIALS = count(30_040_000)

_WITH_SECRETS = (Ins.VERIFY, Ins.CHANGE_REFERENCE, Ins.RESET_RETRY)
_ABOUT_TRIES = (Ins.METADATA, Ins.VERIFY)


class Person:
    """Answers what it is asked, and notes the questions. ``on_asked`` happens while it types."""

    def __init__(
        self,
        own: Own,
        *,
        last_try: bool = False,
        on_asked: Callable[[SecretRequest], None] = lambda _: None,
        **answers: bytes,
    ) -> None:
        self.own, self.last_try, self.on_asked = own, last_try, on_asked
        self.answers = {
            SecretKind.PIN: PIN,
            SecretKind.NEW_PIN: PIN,
            SecretKind.PUK: PUK,
            SecretKind.NEW_PUK: PUK,
        } | {SecretKind[name.upper()]: answer for name, answer in answers.items()}
        self.asked: list[SecretRequest] = []
        self.consents: list[SecretRequest] = []

    def secret(self, request: SecretRequest) -> bytes:
        assert self.own.is_free(), "the reader is held while a person types"
        self.asked.append(request)
        self.on_asked(request)
        return self.answers[request.kind]

    def consents_to_last_try(self, request: SecretRequest) -> bool:
        self.consents.append(request)
        return self.last_try

    @property
    def kinds(self) -> list[SecretKind]:
        return [request.kind for request in self.asked]


class Own:
    """One virtual YubiKey in the PC/SC service of this process."""

    def __init__(self, service: PcscProcess, folder: Path, firmware=(5, 7, 1), **made) -> None:
        self.device = VirtualYubiKey(next(SERIALS), firmware, **made)
        self.uri = Uri("yubikey", (("serial", str(self.device.serial)),))
        self.records = folder
        self.card = card_of(self.device.serial)
        self.wire: list[bytes] = []
        self._cut: tuple[int, bool] | None = None
        self._transmit = self.device.transmit
        self.device.transmit = self._seen
        self._service = service
        self.reader = service.add(self.device)

    def _seen(self, command: bytes) -> bytes:
        if self._cut is not None and command[1] == self._cut[0] and data_of(command):
            processed, self._cut = self._cut[1], None
            if processed:
                self.device.power_loss_after(1, answered=False)
            else:
                self.device.unplug_at(1)
        self.wire.append(command)
        return self._transmit(command)

    def cut_at(self, ins: int, *, processed: bool) -> None:
        """Lose power at the next command of this instruction: done already, or never to be."""
        self._cut = ins, processed

    def pull_out(self) -> None:
        self.card.release()
        self._service.remove(self.device)

    # -- what the provider does with it ----------------------------------------------------------

    @property
    def provider(self) -> YubiKeyProvider:
        return YubiKeyProvider(self.records)

    def person(self, **how) -> Person:
        return Person(self, **how)

    def set_up(self, person: Person | None = None, **how) -> None:
        """``token init --erase``; what went over the wire is forgotten."""
        self.provider.initialise(self.uri, "test", person or self.person(), erase=True, **how)
        self.forget()

    def open(self, person: Person | None = None) -> Token:
        return self.provider.open(self.uri, person or self.person())

    def make(
        self,
        pin: PinPolicy = PinPolicy.NONE,
        touch: TouchPolicy = TouchPolicy.NONE,
        person: Person | None = None,
        *,
        algorithm: str = "P-256",
        use: Use = Use.SIGN,
    ) -> DeviceKey:
        """A key made by one opening, found again by another, which has proved nothing yet."""
        with self.open() as token:
            uri = token.generate(KeySpec(algorithm, use, "key", pin=pin, touch=touch)).uri
        self.forget()
        key = self.open(person).key(uri)
        self.wire.clear()
        return key

    def trust(self) -> None:
        """Give the simulators' root by file."""
        folder = self.records / "piv-roots"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "simulator.pem").write_bytes(attestation_root().public_bytes(Encoding.PEM))

    def forget(self) -> None:
        """Nobody has it in hand, and nothing was seen."""
        self.card.release()
        self.wire.clear()

    # -- what reached the card -------------------------------------------------------------------

    @property
    def state(self) -> PivState:
        """What the device knows: a test changes it as another program would have."""
        return self.device._piv.context.state

    def sent(self, ins: int) -> list[bytes]:
        """The data of each command of this instruction; b"" for one without."""
        return [data_of(command) for command in self.wire if command[1] == ins]

    @property
    def secrets_sent(self) -> list[tuple[Ins, bytes]]:
        """Every PIN and PUK, without padding, in order."""
        return [
            (Ins(command[1]), data_of(command))
            for command in self.wire
            if command[1] in _WITH_SECRETS and data_of(command)
        ]

    def tries_were_read_first(self) -> bool:
        """Whether a question after tries came before the first secret."""
        for command in self.wire:
            if command[1] in _WITH_SECRETS and data_of(command):
                return False
            if command[1] in _ABOUT_TRIES and command[3] in (0x80, 0x81):
                return True
        return False

    # -- the other program -----------------------------------------------------------------------

    def is_free(self) -> bool:
        """Whether another program could have the card to itself now."""
        try:
            with self.held():
                return True
        except CardConnectionException:
            return False
        except NoCardException:
            return True

    @contextmanager
    def held(self) -> Iterator[None]:
        """Another program has it, and says nothing to it."""
        connection = self._reader().createConnection()
        try:
            connection.connect(mode=SCARD_SHARE_EXCLUSIVE, disposition=SCARD_UNPOWER_CARD)
            yield
        finally:
            connection.release()

    @contextmanager
    def other_program(self) -> Iterator[PivSession]:
        """ykman's code, on a connection of its own. What it sends is not noted."""
        seen = list(self.wire)
        connection = ScardSmartCardConnection(self._reader().createConnection())
        try:
            yield PivSession(connection)
        finally:
            connection.close()
            self.wire[:] = seen

    def _reader(self) -> Any:
        (reader,) = (one for one in readers() if str(one) == self.reader)
        return reader


def padded(pin: bytes) -> bytes:
    """As it is sent."""
    return pin.ljust(8, b"\xff")


def data_of(command: bytes) -> bytes:
    """The data of a command APDU, short or extended."""
    if len(command) <= 5:
        return b""
    if command[4]:
        return command[5 : 5 + command[4]]
    return command[7 : 7 + int.from_bytes(command[5:7], "big")]
