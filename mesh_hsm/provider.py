"""The contract: a private key is something that multiplies.

Open this file to write a provider, or to see what one promises. ``Provider`` finds tokens,
``Token`` holds keys, ``DeviceKey`` answers ``agree`` and ``sign``. Anything beyond that is one of
the small optional protocols at the end. ``mesh_hsm.testing.conformance`` checks every promise.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from types import TracebackType
from typing import Protocol, Self, final, runtime_checkable

from mesh_hsm.curves import Point, XOnly, ecdsa_digest_size, verify_prehashed
from mesh_hsm.custody import CustodyClass, CustodyStatement, Hardware, PinPolicy, TouchPolicy
from mesh_hsm.errors import DeviceError, FormatError, InvalidPointError, UnsupportedError
from mesh_hsm.secret_source import SecretSource
from mesh_hsm.uri import Uri


class Use(StrEnum):
    """A key has exactly one. A key with two uses is refused."""

    SIGN = "sign"
    ENCRYPT = "encrypt"
    AUTHENTICATE = "authenticate"

    @property
    def primitives(self) -> frozenset[Primitive]:
        """The primitives of which a key of this use answers one."""
        if self is Use.SIGN:
            return frozenset({Primitive.SIGN})
        return frozenset({Primitive.AGREE_POINT, Primitive.AGREE_X})


class Primitive(StrEnum):
    """The two things a device does with a key, and what it answers to ``agree``."""

    AGREE_POINT = "agree, full point"
    AGREE_X = "agree, x only"
    SIGN = "sign"


@dataclass(frozen=True, slots=True)
class Capability:
    """One thing that a token said it can do. ``algorithm`` is a curve name such as ``P-384``."""

    algorithm: str
    primitive: Primitive
    custody: CustodyClass

    @property
    def needs_consent(self) -> bool:
        """True if such a key is made only with ``KeySpec.allow_exportable``."""
        return self.custody in (CustodyClass.EXPORTABLE, CustodyClass.UNKNOWN)


@dataclass(frozen=True, slots=True)
class TokenInfo:
    """What is known of a token without logging in.

    One that is not ``initialised`` holds nothing and opens only after ``Initialises.initialise``.
    """

    uri: Uri
    label: str
    manufacturer: str
    model: str
    serial: str | None
    firmware: str | None
    hardware: Hardware
    initialised: bool = True


class Severity(StrEnum):
    """How much a finding matters: it stops work, it may bite later, or it is good to know."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that ``doctor`` says of a device.

    ``code`` (``TPM002``) is stable and has a section in docs/reference/doctor.md; ``problem`` and
    ``remedy`` are one line each, the remedy naming the command to run where there is one.
    """

    code: str
    severity: Severity
    problem: str
    remedy: str


@dataclass(frozen=True, slots=True)
class KeySpec:
    """A key to be made.

    ``label`` is unique on its token: 1 to 64 printable characters, else ``FormatError``. ``pcrs``
    binds the key to PCR values as they are now; ``persistent`` asks for a place in the device
    itself instead of a blob on disk; ``slot`` names that place where a device numbers them (``9c``
    of a PIV card), None leaves it to the provider.

    ``allow_exportable`` consents to a key that can leave the device, or of which the device does
    not say that it cannot; ``allow_factory_secrets`` to one on a device whose PIN, PUK or
    management key is still that of the factory. Without consent such a key is refused,
    ``UnsupportedError``, and nothing is left behind.
    """

    algorithm: str
    use: Use
    label: str
    pin: PinPolicy = PinPolicy.NONE
    pcrs: tuple[int, ...] = ()
    persistent: bool = False
    allow_exportable: bool = False
    touch: TouchPolicy = TouchPolicy.NONE
    slot: str | None = None
    allow_factory_secrets: bool = False

    def __post_init__(self) -> None:
        # Labels reach terminals, file names and URIs; a control character in one is an attack.
        if not 1 <= len(self.label) <= 64 or not self.label.isprintable():
            raise FormatError("a key's label is 1 to 64 printable characters")

    def refuse(self, who: str, *names: str) -> None:
        """Raise ``UnsupportedError`` if one of these is asked for: ``who`` knows no such thing."""
        for one in fields(self):
            if one.name in names and getattr(self, one.name) != one.default:
                raise UnsupportedError(f"{who} knows no {_SPOKEN.get(one.name, one.name)}")


_SPOKEN = {"pcrs": "PCRs", "persistent": "persistent place", "slot": "numbered slots"}


class DeviceKey(ABC):
    """A private key held elsewhere. ``agree`` and ``sign`` check both ways, for every provider."""

    uri: Uri
    label: str
    use: Use
    public: Point

    @abstractmethod
    def custody(self) -> CustodyStatement:
        """What the device says of this key, read back now."""

    @final
    def agree(self, point: Point) -> Point | XOnly:
        """x·S for a foreign point S, in full or as its x (u) coordinate.

        S is checked before the device sees it, the answer before the caller does (threshold
        §6.2). Raises ``InvalidPointError``, ``UnsupportedError``, ``DeviceError``, ``AccessError``.
        """
        if self.use is Use.SIGN:
            raise UnsupportedError("a signature key does not agree", uri=str(self.uri))
        if point.curve is not self.public.curve:
            raise InvalidPointError(f"the point is not on {self.public.curve.name}")
        point.check_foreign()
        answer = self._agree(point)
        if answer.curve is not self.public.curve:
            raise DeviceError("bad answer to agree: another curve", uri=str(self.uri))
        try:
            answer.check_answer()
        except InvalidPointError as error:
            raise DeviceError(f"bad answer to agree: {error}", uri=str(self.uri)) from error
        return answer

    @final
    def sign(self, octets: bytes) -> bytes:
        """A finished signature: over a digest of exactly the curve's length, or an EdDSA message.

        ECDSA: r || s, each big-endian at field width (s as the device made it). EdDSA: RFC 8032.
        Verified before it is released. Raises ``FormatError`` for another digest length,
        ``UnsupportedError``, ``DeviceError``, ``AccessError``.
        """
        if self.use is not Use.SIGN:
            raise UnsupportedError("an agreement key does not sign", uri=str(self.uri))
        size = ecdsa_digest_size(self.public.curve)
        if size is not None and len(octets) != size:
            raise FormatError(f"{self.public.curve.name} signs a digest of {size} octets")
        signature = self._sign(octets)
        if not verify_prehashed(self.public, octets, signature):
            raise DeviceError("the device's signature does not verify", uri=str(self.uri))
        return signature

    def _agree(self, point: Point) -> Point | XOnly:
        """Send a checked point. Override in keys that agree."""
        raise UnsupportedError("this key does not agree", uri=str(self.uri))

    def _sign(self, octets: bytes) -> bytes:
        """Send a digest of checked length, or a message. Override in keys that sign."""
        raise UnsupportedError("this key does not sign", uri=str(self.uri))


class Token(ABC):
    """A device, opened. A context manager; closing it forgets sessions and PINs."""

    info: TokenInfo
    touches: frozenset[TouchPolicy] = frozenset({TouchPolicy.NONE})
    """The touch policies with which a key can be made here."""

    @abstractmethod
    def capabilities(self) -> frozenset[Capability]:
        """What this device says it can do, asked of it and not inferred from its brand."""

    @final
    def capability(self, algorithm: str, use: Use) -> Capability:
        """The capability that a key of this algorithm and use needs, or ``UnsupportedError``."""
        for capability in self.capabilities():
            if capability.algorithm == algorithm and capability.primitive in use.primitives:
                return capability
        why = self.why_not(algorithm, use)
        said = f"{self.info.label} offers no {algorithm} key to {use}"
        raise UnsupportedError(f"{said}: {why}" if why else said, uri=str(self.info.uri))

    def why_not(self, algorithm: str, use: Use) -> str | None:
        """Why ``capabilities`` lacks an algorithm for a use, where the device gave a reason."""
        return None

    def pins(self, use: Use) -> frozenset[PinPolicy]:
        """The PIN policies with which a key of this use may be made here.

        One that shows only when it is tried is among them; ``generate`` then refuses it.
        """
        return frozenset({PinPolicy.NONE, PinPolicy.ONCE})

    @abstractmethod
    def keys(self) -> Sequence[DeviceKey]:
        """Every key of ours on this token, by label."""

    @abstractmethod
    def key(self, uri: Uri) -> DeviceKey:
        """One key. Raises ``NotFoundError``."""

    @abstractmethod
    def generate(self, spec: KeySpec) -> DeviceKey:
        """Make a key inside the device, or leave nothing behind. Raises ``ConflictError`` for a
        label in use, ``UnsupportedError`` before anything is sent.
        """

    @abstractmethod
    def delete(self, uri: Uri) -> None:
        """Remove a key as far as the device can. Raises ``NotFoundError``."""

    @abstractmethod
    def close(self) -> None:
        """End sessions. Calling it twice is harmless; every later call raises ``DeviceError``."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Provider(Protocol):
    """A family of devices. Made with the folder (a ``Path``) in which it may keep its records."""

    scheme: str

    def tokens(self) -> Sequence[TokenInfo]:
        """What is plugged in, without logging in. Raises ``ProviderUnavailableError``."""
        ...

    def open(self, uri: Uri, secrets: SecretSource) -> Token:
        """Open the token that a token's or key's URI names.

        Raises ``NotFoundError``, and ``UnsupportedError`` for a token that is not initialised.
        """
        ...


# -- optional powers: small protocols, tested with isinstance -------------------------------------


@runtime_checkable
class Imports(Protocol):
    """Takes a key or share from outside; it cannot leave afterwards."""

    def import_scalar(self, spec: KeySpec, scalar: int, known_by: tuple[str, ...]) -> DeviceKey:
        """Import a scalar mod n (clamping devices: the c of threshold §10)."""
        ...


@runtime_checkable
class Seals(Protocol):
    """Keeps small secrets encrypted under a device key."""

    def seal(self, label: str, secret: bytes, pin: PinPolicy = PinPolicy.NONE) -> bytes:
        """An opaque blob that only this device opens. At most 128 octets."""
        ...

    def unseal(self, blob: bytes) -> bytes:
        """The secret again. Raises ``DeviceError`` on another device."""
        ...


@runtime_checkable
class ChangesPin(Protocol):
    """Changes a key's PIN, or the token's where all its keys share one.

    ``pin_is_shared`` says which: one change then serves every key of the token.
    """

    pin_is_shared: bool

    def change_pin(self, uri: Uri) -> None:
        """Ask for the old and the new one by the token's secret source.

        ``uri`` is a key's; where the PIN is shared, the token's own will do.
        """
        ...


@runtime_checkable
class Attests(Protocol):
    """Proves a custody statement to somebody else, whose ``threshold.Judges`` reads it."""

    def introduce(self) -> bytes:
        """What a verifier has to know of the device before it can ask; empty if nothing.

        Public, and in the device's own format: a TPM's endorsement and attestation keys.
        """
        ...

    def attest(self, uri: Uri, challenge: bytes) -> bytes:
        """Evidence in the device's own format, which the key itself answers for.

        ``challenge`` is what a verifier sent: the octets of ``mesh_hsm.threshold.Challenge``, with
        its name, a nonce, a point for each curve whose keys agree instead of signing, and what the
        device's scheme is asked beside that. Raises
        ``FormatError`` for other octets, ``NotFoundError``, ``UnsupportedError`` for a key that
        the device cannot prove, ``AccessError``, ``DeviceError``.
        """
        ...


@dataclass(frozen=True, slots=True)
class Tries:
    """How many wrong ones a token takes in a row: of its PIN, and of what sets the PIN anew."""

    pin: int
    officer: int


@runtime_checkable
class Moves(Protocol):
    """A token whose keys are in numbered slots, and can change them."""

    def move(self, uri: Uri, slot: str) -> DeviceKey:
        """Put a key into another slot. Its old URI names nothing afterwards.

        Raises ``NotFoundError``, ``FormatError`` for no slot, ``ConflictError`` for one that is
        taken, ``UnsupportedError`` where the firmware moves no keys.
        """
        ...


@runtime_checkable
class Initialises(Protocol):
    """A provider whose tokens are made ready, and set right, by a security officer."""

    def initialise(
        self,
        uri: Uri,
        label: str,
        secrets: SecretSource,
        *,
        erase: bool = False,
        tries: Tries | None = None,
    ) -> TokenInfo:
        """Name a token and give it its PINs; with ``erase`` even one that has them.

        Everything that it held is gone then. Asks for ``NEW_SO_PIN``, or for ``SO_PIN`` where the
        token has a security officer already, and for ``NEW_PIN``, before anything is changed; of a
        YubiKey for ``NEW_PIN`` and ``NEW_PUK``.

        Raises ``ConflictError`` for an initialised token without ``erase``, ``FormatError`` for a
        label or PIN that the token does not take, ``UnsupportedError`` for ``tries`` where the
        device counts as it likes, ``NotFoundError``, ``AccessError``, ``DeviceError``.
        """
        ...

    def reset_pin(self, uri: Uri, secrets: SecretSource) -> None:
        """Set a forgotten or blocked user PIN anew; the keys stay.

        Asks for ``SO_PIN`` (of a YubiKey for ``PUK``) and ``NEW_PIN``. Raises ``UnsupportedError``
        for a token that is not initialised, ``FormatError`` for a PIN that it does not take,
        ``NotFoundError``, ``AccessError``, ``DeviceError``.
        """
        ...


@runtime_checkable
class Diagnoses(Protocol):
    """A provider that looks for what is wrong with its devices and their set-up."""

    def diagnose(self) -> Sequence[Finding]:
        """Look, change nothing, log in nowhere. What fails is a finding, not an exception."""
        ...


@runtime_checkable
class Rooted(Protocol):
    """A token whose keys hang under a root that its owner may pin (a TPM's storage root key)."""

    @property
    def root_name(self) -> str:
        """What identifies the root, as opaque text: a TPM's SRK name in hexadecimal."""
        ...
