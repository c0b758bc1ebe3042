"""The management key, which writing to the card takes. Open this file for where it comes from.

A management key that the PIN protects lies on the card, in the object that other tools use for it
(ykman, yubico-piv-tool): then the PIN is all that is asked, and all that is needed to replace keys
(hsm-1 §11). Else it is asked for, in hexadecimal. The factory's is never tried.
"""

from __future__ import annotations

import threading
from binascii import Error as NotHexadecimal
from binascii import unhexlify
from typing import Final

from ykman.piv import (
    OBJECT_ID_PIVMAN_DATA,
    OBJECT_ID_PIVMAN_PROTECTED_DATA,
    PivmanData,
    PivmanProtectedData,
)
from yubikit.core import BadResponseError
from yubikit.core.smartcard import SW, ApduError
from yubikit.piv import MANAGEMENT_KEY_TYPE, TOUCH_POLICY, PivSession

from mesh_hsm.errors import AccessError, DeviceError, SecretRequiredError, WrongSecretError
from mesh_hsm.secret_source import SecretKind, SecretRequest
from mesh_hsm_yubikey import catalogue, slot_state, touch
from mesh_hsm_yubikey.card import Card, Hold
from mesh_hsm_yubikey.login import Login
from mesh_hsm_yubikey.pin import Pin, Secret

_TOUCHED: Final = (TOUCH_POLICY.ALWAYS, TOUCH_POLICY.CACHED)


class Management:
    """One opened token's right to write to its card."""

    def __init__(self, card: Card, login: Login) -> None:
        self._card = card
        self._login = login
        self._key: Secret | None = None
        self._asking = threading.Lock()

    def prepare(self) -> Secret:
        """Ask for what will be needed: the PIN where it protects the management key, else that."""
        if self._card.run("say how it is managed", lambda hold: is_protected(hold.piv)):
            return self._login.prepare()
        with self._asking:
            if self._key is None:
                self._card.release()  # nobody holds the reader while a person types
                request = SecretRequest(SecretKind.MANAGEMENT_KEY, self._card.subject)
                self._key = _read(self._login.secrets.secret(request), request, self._card.uri)
            return self._key

    def prove(self, hold: Hold, given: Secret) -> None:
        """Authenticate in this hold, unless that was done. ``given`` is what ``prepare`` gave.

        The card counts no wrong ones; one that was refused is asked for anew all the same.
        """
        if hold.managed_by is self:
            return
        key = self._under_pin(hold, given) if isinstance(given, Pin) else given
        try:
            touch.awaited(
                self._login.secrets,
                f"{self._card.subject} to change what it holds",
                lambda: authenticate(hold.piv, key, self._card.uri),
            )
        except AccessError:
            self._key = None
            raise
        hold.managed_by = self

    def _under_pin(self, hold: Hold, pin: Pin) -> Secret:
        self._login.ensure(hold, pin)
        octets = catalogue.get_object(hold.piv, OBJECT_ID_PIVMAN_PROTECTED_DATA)
        key = PivmanProtectedData(octets).key if octets else None
        if key is None:
            raise DeviceError(
                "the YubiKey says that its PIN protects the management key, and holds none",
                hint="set one with ykman piv access change-management-key --protect",
                uri=self._card.uri,
            )
        return Secret(key)

    def forget(self) -> None:
        """Drop the management key."""
        self._key = None


def is_protected(piv: PivSession) -> bool:
    """Whether the PIN gives the management key."""
    octets = catalogue.get_object(piv, OBJECT_ID_PIVMAN_DATA)
    return octets is not None and PivmanData(octets).has_stored_key


def authenticate(piv: PivSession, key: Secret, uri: str) -> None:
    """Mutual authentication, GENERAL AUTHENTICATE on 9B.

    Raises ``WrongSecretError``, and ``AccessError`` where the key wants a touch as well: the card
    has one answer for both.
    """
    kind: MANAGEMENT_KEY_TYPE = piv.management_key_type
    if len(key.octets) != kind.key_len:
        raise WrongSecretError(
            f"the management key of this YubiKey has {kind.key_len} octets ({kind.name})", uri=uri
        )
    try:
        piv.authenticate(key.octets)
    except ApduError as error:
        if error.sw != SW.SECURITY_CONDITION_NOT_SATISFIED:
            raise
    except BadResponseError:
        pass
    else:
        return
    if slot_state.tells(piv) and piv.get_management_key_metadata().touch_policy in _TOUCHED:
        raise AccessError(
            "the YubiKey refused the management key, or nobody touched it",
            hint="run it again, and touch the YubiKey when it blinks",
            uri=uri,
        )
    raise WrongSecretError("the YubiKey refused the management key", uri=uri)


def _read(text: bytes, request: SecretRequest, uri: str) -> Secret:
    if not text.strip():
        raise SecretRequiredError(f"the {request.kind} of {request.subject} is empty", uri=uri)
    try:
        return Secret(unhexlify(text.strip()))
    except (NotHexadecimal, ValueError):
        pass  # not chained: that error may carry the text
    raise WrongSecretError("a management key is given in hexadecimal", uri=uri)
