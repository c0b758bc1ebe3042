"""What a YubiKey's firmware can do, refuses, and is known to do badly.

Open this file when Yubico publishes an advisory, or when a gate is wrong: everything is data with
its source. Firmware is never updated, so a version says for ever what a key is worth. Least
versions and refusals are those of yubikit (yubikey-manager 5.9, ``piv.py``), which the tests ask.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from mesh_hsm.custody import PinPolicy, TouchPolicy
from mesh_hsm.errors import UnsupportedError
from mesh_hsm.provider import Use

Version = tuple[int, int, int]
"""Firmware: major, minor, patch."""

ECDSA: Final = frozenset({"P-256", "P-384"})
RSA: Final = frozenset({"RSA-1024", "RSA-2048", "RSA-3072", "RSA-4096"})

_BIO = (0x06, 0x07)
"""Form factors of the YubiKey Bio, USB-A and USB-C."""


class Feature(Enum):
    """What came with a firmware: its name, and the first version that has it."""

    POLICIES = ("PIN and touch policies", (4, 0, 0))
    CACHED_TOUCH = ("a touch that counts for a while", (4, 3, 0))
    ATTESTATION = ("attestation", (4, 3, 0))
    METADATA = ("key metadata", (5, 3, 0))
    MOVE = ("moving keys", (5, 7, 0))
    DELETE = ("deleting keys", (5, 7, 0))

    @property
    def least(self) -> Version:
        """The first firmware that has it."""
        return self.value[1]


LEAST: Final[dict[str, Version]] = {
    "RSA-1024": (0, 0, 0),
    "RSA-2048": (0, 0, 0),
    "RSA-3072": (5, 7, 0),
    "RSA-4096": (5, 7, 0),
    "P-256": (0, 0, 0),
    "P-384": (4, 0, 0),
    "Ed25519": (5, 7, 0),
    "X25519": (5, 7, 0),
}
"""The first firmware of each algorithm."""

NOT_FIPS: Final = frozenset({"RSA-1024", "X25519"})
"""Refused by FIPS devices, as is a key without a PIN (docs.yubico.com, "PIV with FIPS")."""


@dataclass(frozen=True, slots=True)
class Advisory:
    """A published weakness of keys of some algorithms on firmware in [first, beyond).

    ``only`` narrows that to single versions. ``signing`` and ``agreeing`` are what to say of a key
    of that use; None says nothing.
    """

    name: str
    source: str
    algorithms: frozenset[str]
    first: Version
    beyond: Version
    signing: str | None
    agreeing: str | None
    bio_beyond: Version | None = None
    only: frozenset[Version] | None = None

    def concerns(self, firmware: Version, form_factor: int | None) -> bool:
        """Whether this firmware has the weakness."""
        bio = form_factor is not None and form_factor & 0x0F in _BIO
        beyond = self.bio_beyond if bio and self.bio_beyond else self.beyond
        return self.first <= firmware < beyond and (self.only is None or firmware in self.only)


ADVISORIES: Final = (
    Advisory(
        "EUCLEAK",
        "https://www.yubico.com/support/security-advisories/ysa-2024-03/",
        ECDSA,
        (0, 0, 0),
        (5, 7, 0),
        "EUCLEAK (YSA-2024-03): whoever holds this YubiKey with laboratory equipment, and knows "
        "the PIN where one is asked, can compute the key from signatures that it makes",
        "EUCLEAK (YSA-2024-03): firmware below 5.7 leaks keys that sign with ECDSA; agreement is "
        "not concerned, but whoever holds this YubiKey and its PIN can make this key sign",
        bio_beyond=(5, 7, 2),
    ),
    Advisory(
        "ROCA",
        "https://www.yubico.com/support/security-advisories/ysa-2017-01/",
        RSA,
        (4, 2, 6),
        (4, 3, 5),
        "ROCA (YSA-2017-01): an RSA private key can be computed from its public key if this "
        "YubiKey made it",
        "ROCA (YSA-2017-01): an RSA private key can be computed from its public key if this "
        "YubiKey made it",
    ),
    Advisory(
        "YSA-2019-02",
        "https://www.yubico.com/support/security-advisories/ysa-2019-02/",
        ECDSA | RSA,
        (4, 4, 2),
        (4, 4, 5),
        "YSA-2019-02: random values were partly predictable after power-up; signatures can betray "
        "the key, and the key itself may be weak",
        "YSA-2019-02: random values were partly predictable after power-up; the key may be weak",
        only=frozenset({(4, 4, 2), (4, 4, 4)}),
    ),
)


def concerns(
    firmware: Version, algorithm: str, use: Use, *, form_factor: int | None = None
) -> tuple[str, ...]:
    """Sentences for a custody statement's notes: what is known against such a key."""
    said = (
        one.signing if use is Use.SIGN else one.agreeing
        for one in ADVISORIES
        if algorithm in one.algorithms and one.concerns(firmware, form_factor)
    )
    return tuple(sentence for sentence in said if sentence is not None)


def has(firmware: Version, feature: Feature) -> bool:
    """Whether this firmware has it."""
    return firmware >= feature.least


def require(firmware: Version, feature: Feature) -> None:
    """Raise ``UnsupportedError`` where this firmware has it not."""
    if not has(firmware, feature):
        raise _too_old(feature.value[0], feature.least, firmware)


def is_fips(firmware: Version, form_factor: int | None = None) -> bool:
    """Whether this is a device of a FIPS series: every 4.4 is, later ones say so themselves."""
    return firmware[:2] == (4, 4) or (form_factor is not None and bool(form_factor & 0x80))


def check_key(
    firmware: Version,
    algorithm: str,
    pin: PinPolicy,
    touch: TouchPolicy,
    *,
    fips: bool = False,
    generated: bool = True,
) -> None:
    """Raise ``UnsupportedError``, with the reason, for a key that this firmware does not take.

    ``fips`` says that the device restricts itself, beyond those whose firmware tells it.
    """
    least = LEAST.get(algorithm)
    if least is None:
        raise UnsupportedError(f"a YubiKey knows no {algorithm} keys")
    if firmware < least:
        raise _too_old(f"{algorithm} keys", least, firmware)
    require(firmware, Feature.POLICIES)
    if touch is TouchPolicy.CACHED:
        require(firmware, Feature.CACHED_TOUCH)
    if generated and algorithm in RSA and (4, 2, 0) <= firmware < (4, 3, 5):
        raise UnsupportedError(
            f"firmware {text(firmware)} makes weak RSA keys (ROCA, YSA-2017-01)",
            hint="use an elliptic curve, or another YubiKey",
        )
    if fips or is_fips(firmware):
        if algorithm in NOT_FIPS:
            raise UnsupportedError(f"a YubiKey of the FIPS series takes no {algorithm} keys")
        if pin is PinPolicy.NONE:
            raise UnsupportedError(
                "a YubiKey of the FIPS series takes no keys without a PIN",
                hint="ask for a PIN once or always",
            )


def text(firmware: Version) -> str:
    """``5.7.1``."""
    return ".".join(map(str, firmware))


def _too_old(what: str, least: Version, firmware: Version) -> UnsupportedError:
    return UnsupportedError(
        f"{what}: firmware {text(least)} or later, and this YubiKey has {text(firmware)}",
        hint="firmware cannot be updated: use a newer YubiKey",
    )
