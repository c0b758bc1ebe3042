"""``token init``: a YubiKey that nobody has made his own yet, or one that is erased first.

Open this file to see what erases a YubiKey, and the only place where factory secrets are sent: to
a card that has just said itself that they are in force. PIN and PUK are asked for, and refused,
before anything is changed. The management key is random, AES where the firmware has it, and lies
on the card under the PIN, where ykman and yubico-piv-tool find it too.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from ykman.piv import (
    OBJECT_ID_PIVMAN_DATA,
    OBJECT_ID_PIVMAN_PROTECTED_DATA,
    PivmanData,
    PivmanProtectedData,
)
from yubikit.piv import DEFAULT_MANAGEMENT_KEY, MANAGEMENT_KEY_TYPE, PivSession

from mesh_hsm.errors import ConflictError, DeviceError, FormatError, MeshHsmError
from mesh_hsm.provider import Tries
from mesh_hsm.secret_source import SecretKind, SecretSource
from mesh_hsm_yubikey import catalogue, factory
from mesh_hsm_yubikey.card import Card, Hold
from mesh_hsm_yubikey.directory import Directory
from mesh_hsm_yubikey.pin import Pin
from mesh_hsm_yubikey.pin_change import FACTORY_PIN, FACTORY_PUK, new_secret

_AES: Final = (5, 4, 2)
_MOST_TRIES: Final = 15
"""A status word has room for no more (SP 800-73-4 Part 2 §3.2.1)."""
_LONGEST_LABEL: Final = 64


@dataclass(frozen=True, slots=True)
class _Wanted:
    label: str
    pin: Pin
    puk: Pin
    tries: Tries | None


def initialise(
    card: Card, label: str, secrets: SecretSource, *, erase: bool, tries: Tries | None
) -> None:
    """Name a YubiKey and make it somebody's own. See ``mesh_hsm.provider.Initialises``."""
    if not 1 <= len(label) <= _LONGEST_LABEL or not label.isprintable():
        raise FormatError(f"a token's label is 1 to {_LONGEST_LABEL} printable characters")
    if tries is not None and not all(1 <= n <= _MOST_TRIES for n in (tries.pin, tries.officer)):
        raise FormatError(f"a YubiKey counts 1 to {_MOST_TRIES} tries")
    if not erase and not card.run("describe itself", lambda hold: factory.is_new(hold.piv)):
        raise ConflictError(
            f"{card.subject} is in use already, or does not say that it is not",
            hint="--erase makes a new one of it: every key in its PIV application is lost",
            uri=card.uri,
        )
    pin = new_secret(secrets, SecretKind.NEW_PIN, card)
    puk = new_secret(secrets, SecretKind.NEW_PUK, card)
    if pin.octets == puk.octets:
        raise FormatError("PIN and PUK are two secrets: whoever learns one must not have both")
    wanted = _Wanted(label, pin, puk, tries)

    begun = False

    def make(hold: Hold) -> None:
        nonlocal begun
        if not erase and not factory.is_new(hold.piv):
            raise ConflictError("somebody else set the YubiKey up meanwhile", uri=card.uri)
        begun = True
        if erase:
            hold.piv.reset()
        _make_own(hold.piv, wanted)

    try:
        card.run("be set up", make)
    except MeshHsmError as error:
        if not begun:
            raise
        raise DeviceError(
            f"{error}; it is set up by half",
            hint=f"plug it in, and run mesh-hsm token init '{card.uri}' --label NAME --erase",
            uri=card.uri,
        ) from error
    finally:
        card.release()


def _make_own(piv: PivSession, wanted: _Wanted) -> None:
    """PIN and PUK first; the management key last, as whatever comes before needs the factory's."""
    piv.authenticate(DEFAULT_MANAGEMENT_KEY)
    if wanted.tries is not None:
        piv.verify_pin(FACTORY_PIN)
        piv.set_pin_attempts(wanted.tries.pin, wanted.tries.officer)
    piv.change_puk(FACTORY_PUK, wanted.puk.text)
    piv.change_pin(FACTORY_PIN, wanted.pin.text)
    kind = _management_key_type(piv)
    key = os.urandom(kind.key_len)
    protected, data = PivmanProtectedData(), PivmanData()
    protected.key = key
    data.mgm_key_protected = True
    # On the card before it is in force: cut off in between, there is no key that nobody knows.
    piv.put_object(OBJECT_ID_PIVMAN_PROTECTED_DATA, protected.get_bytes())
    piv.put_object(OBJECT_ID_PIVMAN_DATA, data.get_bytes())
    catalogue.write(piv, Directory(wanted.label))
    piv.set_management_key(kind, key)


def _management_key_type(piv: PivSession) -> MANAGEMENT_KEY_TYPE:
    has_aes = piv.version >= _AES
    return MANAGEMENT_KEY_TYPE.AES256 if has_aes else MANAGEMENT_KEY_TYPE.TDES
