"""A token of a PKCS #11 module. Open this file for what can be asked of one, extras included."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Final

from mesh_hsm.curves import CURVES, SecretScalar, XOnly, curve
from mesh_hsm.custody import PinPolicy
from mesh_hsm.errors import DeviceError, FormatError, NotFoundError, UnsupportedError
from mesh_hsm.provider import Capability, DeviceKey, KeySpec, Token, TokenInfo, Use
from mesh_hsm.uri import Uri
from mesh_hsm_pkcs11 import capabilities, creating, importing, naming, pin_change, sealing
from mesh_hsm_pkcs11.connection import Connection
from mesh_hsm_pkcs11.dialect import Dialect
from mesh_hsm_pkcs11.key import Pkcs11Key
from mesh_hsm_pkcs11.keys import SEALING_LABEL, Entry, Keys, sealing_entry
from mesh_hsm_pkcs11.records import Records

_SEALING_KEY_NEEDED: Final = "this token agrees on no curve, and so cannot seal"


class Pkcs11Token(Token):
    """One token and our keys on it. Also ``Imports``, ``Seals`` and ``ChangesPin``.

    Nobody is asked for the PIN before a private key is needed.
    """

    pin_is_shared = True

    def __init__(self, info: TokenInfo, connection: Connection, records: Records) -> None:
        self.info = info
        self._connection = connection
        self._keys = Keys(connection, records)
        self._finaliser = weakref.finalize(self, connection.abandon)

    def __repr__(self) -> str:
        return f"Pkcs11Token({self.info.uri})"

    # -- the contract ----------------------------------------------------------------------------

    def capabilities(self) -> frozenset[Capability]:
        """Curves × primitives, tried with session keys as far as the token lets us."""
        return capabilities.read(self._connection)

    def pins(self, use: Use) -> frozenset[PinPolicy]:
        """The token's PIN once, or for each signature, where the token does ask each time."""
        each_time = {PinPolicy.ALWAYS} if use is Use.SIGN else set()
        return frozenset({PinPolicy.ONCE, *each_time})

    def keys(self) -> Sequence[DeviceKey]:
        """Every key of ours on the token, by label; no PIN is needed to see them."""
        return [self._key(entry) for entry in self._keys.all()]

    def key(self, uri: Uri) -> DeviceKey:
        """The key ``pkcs11:…;object=LABEL``, ``id=…``, or both."""
        return self._key(self._entry(uri))

    def generate(self, spec: KeySpec) -> DeviceKey:
        """Make a key pair in the token, read back what it really stored, and try it."""
        self._check(spec)
        return self._key(creating.generate(self._keys, spec))

    def delete(self, uri: Uri) -> None:
        """Destroy a key pair on the token, for everybody who uses it."""
        creating.delete(self._keys, self._entry(uri))

    def close(self) -> None:
        """Forget the PIN, and end login and sessions if nobody else here has the token open."""
        self._finaliser.detach()
        self._connection.close()

    def why_not(self, algorithm: str, use: Use) -> str | None:
        """What the token said when such a key was tried."""
        refusals = Dialect.of(self._connection.sessions).refusals
        refusal = refusals.get((algorithm, use is Use.SIGN))
        return None if refusal is None else refusal.reason

    # -- extras ----------------------------------------------------------------------------------

    def import_scalar(self, spec: KeySpec, scalar: int, known_by: tuple[str, ...]) -> DeviceKey:
        """Take a scalar mod n, wrapped on its way in if the token unwraps keys."""
        self._check(spec)
        share = SecretScalar(curve(spec.algorithm), scalar)
        del scalar  # no traceback from below shows it
        return self._key(importing.import_share(self._keys, spec, share, known_by))

    def seal(self, label: str, secret: bytes, pin: PinPolicy = PinPolicy.NONE) -> bytes:
        """Encrypt at most 128 octets; only this token opens them again, after its PIN."""
        sealing.check_size(secret)
        if pin is PinPolicy.ALWAYS:
            raise UnsupportedError(_NO_PIN_PER_AGREEMENT)
        entry = self._keys.sealing()
        if entry is None or not self._key(entry).is_there():
            spec = KeySpec(self._sealing_algorithm(), Use.ENCRYPT, SEALING_LABEL)
            entry = creating.generate(self._keys, spec, seals=True)
        return sealing.seal(entry.public, entry.identifier, label, secret)

    def unseal(self, blob: bytes) -> bytes:
        """The secret. ``FormatError``: no such blob; ``DeviceError``: another token's, altered."""
        box = sealing.Box.parse(blob)
        key = self._key(sealing_entry(box.identifier, box.sealing_key, None))
        try:
            answer = key.agree(box.epk)
        except NotFoundError as error:
            raise DeviceError(
                "the blob was sealed by another token", uri=str(self.info.uri)
            ) from error
        return box.open(answer.octets() if isinstance(answer, XOnly) else answer.agreement_octets())

    def change_pin(self, uri: Uri) -> None:
        """Change the token's PIN, whichever of its keys is named."""
        pin_change.change(self._connection)

    # -- inside ----------------------------------------------------------------------------------

    def _check(self, spec: KeySpec) -> None:
        """Refuse what the token cannot honour before anybody is asked for a PIN."""
        self._connection.check_open()
        try:
            self.capability(spec.algorithm, spec.use)
        except UnsupportedError:
            if self._is_final(spec):
                raise
            # What it refuses to strangers it may do for whoever is logged in.
            self._connection.run("let you in", lambda session: None)
            self.capability(spec.algorithm, spec.use)
        if spec.label == SEALING_LABEL:
            raise FormatError("this label is kept for the key under which secrets are sealed")
        spec.refuse("a PKCS #11 token", "pcrs", "touch", "slot")
        if spec.pin is PinPolicy.ALWAYS and spec.use is not Use.SIGN:
            raise UnsupportedError(_NO_PIN_PER_AGREEMENT)

    def _is_final(self, spec: KeySpec) -> bool:
        if self._connection.login.is_in or spec.algorithm not in CURVES:
            return True
        dialect = Dialect.of(self._connection.sessions)
        refusal = dialect.refusals.get((spec.algorithm, spec.use is Use.SIGN))
        return refusal.final if refusal else not dialect.lists(spec.algorithm, spec.use)

    def _sealing_algorithm(self) -> str:
        offered = {
            c.algorithm for c in self.capabilities() if c.primitive in Use.ENCRYPT.primitives
        }
        for algorithm in sealing.PREFERENCE:
            if algorithm in offered:
                return algorithm
        raise UnsupportedError(_SEALING_KEY_NEEDED, uri=str(self.info.uri))

    def _entry(self, uri: Uri) -> Entry:
        self._connection.check_open()
        if uri.scheme != "pkcs11" or not naming.matches(uri, self._connection.found.facts):
            raise NotFoundError("the URI names no key of this token", uri=str(uri))
        try:
            name = naming.key_name(uri)
        except FormatError as error:
            raise NotFoundError(str(error), hint=error.hint, uri=str(uri)) from error
        return self._keys.named(name, str(uri))

    def _key(self, entry: Entry) -> Pkcs11Key:
        identifier = entry.identifier if entry.shares_label else None
        uri = naming.key_uri(self.info.uri, entry.label, identifier)
        return Pkcs11Key(self._connection, uri, entry, self)


_NO_PIN_PER_AGREEMENT: Final = "PKCS #11 has no way to give a PIN for each agreement"
