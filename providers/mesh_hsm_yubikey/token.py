"""An opened YubiKey. Open this file for what can be asked of one, extras included."""

from __future__ import annotations

from collections.abc import Sequence

from yubikit.piv import SLOT

from mesh_hsm.curves import SecretScalar, curve
from mesh_hsm.custody import PinPolicy, TouchPolicy
from mesh_hsm.errors import NotFoundError, UnsupportedError
from mesh_hsm.provider import Capability, DeviceKey, KeySpec, Token, Use
from mesh_hsm.uri import Uri
from mesh_hsm_yubikey import capabilities, catalogue, creating, evidence, factory, pin_change, slots
from mesh_hsm_yubikey.directory import Entry
from mesh_hsm_yubikey.importing import private_key
from mesh_hsm_yubikey.key import YubiKeyKey
from mesh_hsm_yubikey.opened import Opened


class YubiKeyToken(Token):
    """The PIV application of one YubiKey. Also ``Imports``, ``ChangesPin``, ``Moves``, ``Attests``.

    Nobody is asked for a PIN before a private key or the management key is needed.
    """

    pin_is_shared = True
    touches = frozenset(TouchPolicy)

    def __init__(self, opened: Opened) -> None:
        self.info = opened.info
        self._opened = opened

    def __repr__(self) -> str:
        return f"YubiKeyToken({self.info.uri})"

    # -- the contract ----------------------------------------------------------------------------

    def capabilities(self) -> frozenset[Capability]:
        """What this firmware does, and this series is allowed to."""
        self._opened.check_open()
        return capabilities.of(self._opened.device)

    def why_not(self, algorithm: str, use: Use) -> str | None:
        """Why this YubiKey, or any, makes no such key."""
        return capabilities.why_not(self._opened.device, algorithm, use)

    def pins(self, use: Use) -> frozenset[PinPolicy]:
        """All of them, but that a YubiKey of the FIPS series wants a PIN."""
        fips = self._opened.device.fips
        return frozenset(PinPolicy) - ({PinPolicy.NONE} if fips else frozenset())

    def keys(self) -> Sequence[DeviceKey]:
        """Every key of ours, by label; one command and one for each. No PIN is needed."""
        entries = self._opened.run("list its keys", lambda hold: catalogue.true_entries(hold.piv))
        return [self._key(entry) for entry in entries]

    def key(self, uri: Uri) -> DeviceKey:
        """The key ``yubikey:serial=…;slot=9c``."""
        return self._found(uri)

    def generate(self, spec: KeySpec) -> DeviceKey:
        """Make a key in a free slot, and read back what the card says of it."""
        self._check(spec)
        uri = str(self.info.uri)
        return self._key(
            self._opened.manage("make a key", lambda piv: creating.generate(piv, spec, uri))
        )

    def delete(self, uri: Uri) -> None:
        """Destroy a key. Below firmware 5.7 it is overwritten; the slot stays usable."""
        slot = self._slot(uri)
        self._opened.run("find a key", lambda hold: catalogue.find(hold.piv, slot, str(uri)))
        self._opened.manage("delete a key", lambda piv: creating.delete(piv, slot, str(uri)))

    def close(self) -> None:
        """Forget the PIN and give the reader up; the card forgets as well."""
        self._opened.close()

    # -- extras ----------------------------------------------------------------------------------

    def import_scalar(self, spec: KeySpec, scalar: int, known_by: tuple[str, ...]) -> DeviceKey:
        """Take a scalar mod n; of X25519 its clamped form goes to the card."""
        self._check(spec)
        capabilities.check_import(self._opened.device, spec)
        key = private_key(SecretScalar(curve(spec.algorithm), scalar), known_by)
        del scalar  # no traceback from below shows it
        uri = str(self.info.uri)
        return self._key(
            self._opened.manage("take a key", lambda piv: creating.import_key(piv, spec, key, uri))
        )

    def move(self, uri: Uri, slot: str) -> DeviceKey:
        """Put a key into another slot; its policies go with it. ``UnsupportedError`` below 5.7."""
        source, target = self._slot(uri), slots.parse(slot)
        return self._key(
            self._opened.manage(
                "move a key", lambda piv: creating.move(piv, source, target, str(uri))
            )
        )

    def change_pin(self, uri: Uri) -> None:
        """Change the PIN, whichever key is named."""
        self._opened.check_open()
        pin_change.change(self._opened)

    def introduce(self) -> bytes:
        """Nothing: its certificates come with the evidence."""
        return b""

    def attest(self, uri: Uri, challenge: bytes) -> bytes:
        """Evidence for a verifier's ``Challenge.octets``; see ``evidence``. One use of the key.

        ``UnsupportedError`` for a key that was imported.
        """
        key = self._found(uri)
        certificates = self._opened.run("attest a key", key.certificates)
        if certificates is None:
            raise UnsupportedError("a YubiKey attests only keys that it made itself", uri=str(uri))
        return evidence.make(key, *certificates, challenge)

    # -- inside ----------------------------------------------------------------------------------

    def _check(self, spec: KeySpec) -> None:
        """Refuse what this YubiKey cannot honour before anybody is asked for a PIN."""
        self._opened.check_open()
        spec.refuse("a YubiKey", "pcrs")
        self.capability(spec.algorithm, spec.use)
        capabilities.check(self._opened.device, spec)
        if spec.slot is not None:
            slots.parse(spec.slot)
        if not spec.allow_factory_secrets:
            uri = str(self.info.uri)
            self._opened.run("describe itself", lambda hold: factory.refuse(hold.piv, uri))

    def _found(self, uri: Uri) -> YubiKeyKey:
        slot = self._slot(uri)
        return self._key(
            self._opened.run("find a key", lambda hold: catalogue.find(hold.piv, slot, str(uri)))
        )

    def _slot(self, uri: Uri) -> SLOT:
        slot = uri.get("slot")
        if slot is None or uri.without("slot") != self.info.uri:
            raise NotFoundError(
                "the URI names no key of this YubiKey", hint="mesh-hsm key list", uri=str(uri)
            )
        return slots.parse(slot)

    def _key(self, entry: Entry) -> YubiKeyKey:
        assert entry.public is not None  # noqa: S101  entries that are true have one
        uri = self.info.uri.with_attribute("slot", slots.name(entry.slot))
        return YubiKeyKey(self._opened, uri, entry, entry.public)
