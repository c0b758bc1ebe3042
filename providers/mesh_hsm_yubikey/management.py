"""The management key, which writing to the card takes. Open this file for where it comes from.

A management key that the PIN protects lies on the card, in the object that other tools use for it
(ykman, yubico-piv-tool): then the PIN is all that is asked, and all that is needed to replace keys
(hsm-1 §11). Else it is asked for, in hexadecimal. The factory's is never tried.
"""

from __future__ import annotations

from binascii import Error as NotHexadecimal
from binascii import unhexlify

from ykman.piv import (
    OBJECT_ID_PIVMAN_DATA,
    OBJECT_ID_PIVMAN_PROTECTED_DATA,
    PivmanData,
    PivmanProtectedData,
)
from yubikit.core import BadResponseError
from yubikit.core.smartcard import SW, ApduError
from yubikit.piv import MANAGEMENT_KEY_TYPE, PivSession

from mesh_hsm.errors import DeviceError, WrongSecretError
from mesh_hsm.secret_source import SecretKind, SecretRequest
from mesh_hsm_yubikey import catalogue
from mesh_hsm_yubikey.card import Card, Hold
from mesh_hsm_yubikey.login import Login
from mesh_hsm_yubikey.pin import Pin, Secret


class Management:
    """One opened token's right to write to its card."""

    def __init__(self, card: Card, login: Login) -> None:
        self._card = card
        self._login = login
        self._key: Secret | None = None

    def prepare(self) -> Pin | None:
        """Ask for what will be needed: the PIN where it protects the management key, else that."""
        if self._card.run("say how it is managed", lambda hold: is_protected(hold.piv)):
            return self._login.prepare()
        if self._key is None:
            self._card.release()
            request = SecretRequest(SecretKind.MANAGEMENT_KEY, self._card.subject)
            self._key = _read(self._login.secrets.secret(request), self._card.uri)
        return None

    def prove(self, hold: Hold, pin: Pin | None) -> None:
        """Authenticate in this hold, unless that was done. ``pin`` is what ``prepare`` gave."""
        if hold.managed_by is self:
            return
        if pin is None:
            key = self._key
        else:
            self._login.ensure(hold, pin)
            key = _stored(hold.piv)
        if key is None:
            raise DeviceError(
                "the YubiKey says that its PIN protects the management key, and holds none",
                hint="set one with ykman piv access change-management-key --protect",
                uri=self._card.uri,
            )
        authenticate(hold.piv, key, self._card.uri)
        hold.managed_by = self

    def forget(self) -> None:
        """Drop the management key."""
        self._key = None


def is_protected(piv: PivSession) -> bool:
    """Whether the PIN gives the management key."""
    octets = catalogue.get_object(piv, OBJECT_ID_PIVMAN_DATA)
    return octets is not None and PivmanData(octets).has_stored_key


def _stored(piv: PivSession) -> Secret | None:
    octets = catalogue.get_object(piv, OBJECT_ID_PIVMAN_PROTECTED_DATA)
    key = PivmanProtectedData(octets).key if octets else None
    return None if key is None else Secret(key)


def authenticate(piv: PivSession, key: Secret, uri: str) -> None:
    """Mutual authentication, GENERAL AUTHENTICATE on 9B. Wrong keys are not counted by the card.

    Raises ``WrongSecretError``.
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
    raise WrongSecretError("the YubiKey refused the management key", uri=uri)


def _read(text: bytes, uri: str) -> Secret:
    try:
        return Secret(unhexlify(text.strip()))
    except (NotHexadecimal, ValueError):
        pass  # not chained: that error may carry the text
    raise WrongSecretError("a management key is given in hexadecimal", uri=uri)
