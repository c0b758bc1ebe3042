"""This machine as a device: its record, believed only as far as its signatures carry.

Open this file to see what is checked before a device key is used. The token is opened when a key
is first needed, so that a file which is not for us asks nobody for a PIN.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from mesh_hsm.curves import Point
from mesh_hsm.custody import CustodyClass, CustodyStatement, Hardware, PinPolicy
from mesh_hsm.errors import ConflictError, NotFoundError, UnsupportedError, VerificationError
from mesh_hsm.mesh import (
    Activated,
    BaseKeys,
    Composite,
    CompositeKeys,
    ConnectionRequest,
    Envelope,
    OneTimeKey,
    Pins,
    ProfileDevice,
    ProfileMaster,
    Signed,
    VerifiedConnection,
    activate,
    open_connection,
    open_device,
    open_pins,
    open_profile_master,
    open_request,
    verify_connection,
    verify_own_connection,
)
from mesh_hsm.mesh.device_keys import CONTRIBUTION
from mesh_hsm.provider import Rooted, Seals, Token
from mesh_hsm.uri import Uri
from mesh_hsm_cli.paths import refuse_existing
from mesh_hsm_cli.records import DeviceRecord, device_path, load_device
from mesh_hsm_cli.rollback import Rollback
from mesh_hsm_cli.seen_profiles import keep_seen, newest, refuse_older
from mesh_hsm_cli.session import Session


@dataclass(frozen=True, slots=True)
class OwnDevice:
    """A device that has been activated. ``request`` is its own, as it was sent.

    ``master`` is the newest version seen here, ``pins`` name the one that the device has pinned.
    ``void`` once an administrator was removed and nobody answers for the connection.
    """

    record: DeviceRecord
    request: Signed[ConnectionRequest]
    master: Signed[ProfileMaster]
    verified: VerifiedConnection
    pins: Pins
    void: bool

    def ended(self, now: datetime) -> str | None:
        """Why nobody vouches for the device any more; None if somebody does. It may still decrypt.

        What is said follows the device's name.
        """
        if self.void:
            return "connection is void: its administrator was removed"
        expired = now >= self.verified.connection.value.not_on_or_after
        return "connection has expired" if expired else None

    def require_valid(self, now: datetime) -> None:
        """Raise ``VerificationError`` for a connection that has ended."""
        if ended := self.ended(now):
            raise VerificationError(f"this device's {ended}", hint="connect the device again")

    @contextmanager
    def open(self, session: Session) -> Iterator[CompositeKeys]:
        """The combined keys. Raises ``VerificationError`` where the token is not the pinned one."""
        with session.open(Uri.parse(self.record.token)) as token:
            self.check_token(token)
            seed = _unseal(token, self.record.seed)
            yield open_device(
                self.verified.connection.value,
                seed,
                base_keys(token, self.record),
                proved=self.verified.composite is Composite.PROVED,
                contribution_custody=_contribution_custody(token),
            )

    def check_token(self, token: Token) -> None:
        """Raise ``VerificationError`` where the token is not the pinned one."""
        if root_name(token) != self.pins.srk_name:
            raise VerificationError(
                "this is not the TPM that the device was made with",
                hint="decode with --backup, and make a new device",
            )


@dataclass(slots=True)
class LazyDecryptor:
    """The device's encryption key as a ``Decryptor`` that opens the token when it has to."""

    session: Session
    device: OwnDevice

    @property
    def public(self) -> Point:
        """The combined public key, from the connection."""
        return self.device.verified.connection.value.encryption.public

    def agreements(self, S: Point) -> list[bytes]:
        """Ask the device, and add the contribution."""
        with self.device.open(self.session) as keys:
            return list(keys.encryption.agreements(S))


def own_request(session: Session) -> tuple[DeviceRecord, Signed[ConnectionRequest]]:
    """This machine's record and request. Raises ``NotFoundError`` if it is no device."""
    record = load_device(session.state)
    if record is None:
        raise NotFoundError("this machine is not a device yet", hint="mesh-hsm device init")
    request = open_request(record.request)
    if request.value.device.value.udf != record.udf:
        raise VerificationError("the device's record and its request name different devices")
    return record, request


def own_device(session: Session, now: datetime) -> OwnDevice:
    """This machine as an activated device, everything in its record verified."""
    record, request = own_request(session)
    if record.connection is None or record.master is None or record.pins is None:
        raise NotFoundError(
            f"the device {record.name} waits for its activation",
            hint="mesh-hsm device activate RESPONSE --out CONNECTION",
        )
    device = request.value.device
    pins = open_pins(record.pins, device.value.profile_signature).value
    pinned = open_profile_master(record.master)
    if (pins.profile_master_digest, pins.profile_device_digest) != (pinned.digest, device.digest):
        raise VerificationError("a profile is not the one that was pinned")
    master = newest(session.state, pinned)
    verified, void = verify_own(record.connection, master, device, now)
    return OwnDevice(record, request, master, verified, pins, void)


def verify_own(
    envelope: Envelope,
    master: Signed[ProfileMaster],
    device: Signed[ProfileDevice],
    now: datetime,
) -> tuple[VerifiedConnection, bool]:
    """The device's own connection, and whether it is void under ``master``.

    What was encrypted to the device still opens after its connection has expired or was voided.
    Raises ``VerificationError`` for one that the device itself did not countersign.
    """
    profile = device.value.profile_signature
    try:
        connection = open_connection(envelope, master.value, countersigner=profile).value
    except VerificationError:
        return verify_own_connection(envelope, device=device), True
    at = min(now, connection.not_on_or_after - timedelta(seconds=1))
    return verify_connection(envelope, master=master, device=device, now=at), False


def base_keys(token: Token, record: DeviceRecord) -> BaseKeys:
    """The four keys on the token."""
    return BaseKeys(**{use: token.key(Uri.parse(uri)) for use, uri in record.keys.items()})


def activate_device(
    session: Session, response: bytes, confirmed: str, out: Path, now: datetime
) -> tuple[DeviceRecord, Activated]:
    """Join a Mesh, or stay as before. The countersigned connection is written to ``out``.

    Raises ``ConflictError`` if the device has joined one already.
    """
    record, _ = own_request(session)
    if record.connection is not None:
        raise ConflictError(
            f"the device {record.name} has been activated already", hint="mesh-hsm device show"
        )
    refuse_existing(out)
    with session.open(Uri.parse(record.token)) as token, Rollback(session.output.notice) as undo:
        activated = activate(
            response,
            request=record.request,
            keys=base_keys(token, record),
            once=OneTimeKey(_unseal(token, record.once)),
            confirm_master_udf=confirmed,
            pins=None,
            srk_name=root_name(token),
            now=now,
        )
        refuse_older(session.state, activated.master)
        assert isinstance(token, Seals)  # noqa: S101  _unseal has refused any other
        sealed = token.seal(f"{record.name}-seed", activated.seed, PinPolicy.NONE)
        joined = replace(
            record,
            once=None,
            connection=activated.connection.envelope,
            master=activated.master.envelope,
            pins=activated.pins.envelope,
            seed=b64encode(sealed).decode(),
        )
        undo.write_new(out, activated.connection.text)
        undo.on_failure("restore the record", partial(record.save, device_path(session.state)))
        joined.save(device_path(session.state))
    keep_seen(session, activated.master)
    return joined, activated


def _unseal(token: Token, blob: str | None) -> bytes:
    if not isinstance(token, Seals):
        raise UnsupportedError(f"{token.info.label} unseals nothing")
    if blob is None:
        raise NotFoundError("the sealed secret is not in this device's record")
    return token.unseal(b64decode(blob))


def _contribution_custody(token: Token) -> CustodyStatement:
    """Where the administrator's contribution rests: as safe as the token that seals it."""
    if token.info.hardware is not Hardware.NONE:
        return replace(CONTRIBUTION, hardware=token.info.hardware)
    return replace(CONTRIBUTION, custody=CustodyClass.SOFTWARE)


def root_name(token: Token) -> str:
    """What the token hangs its keys under; empty where nothing of the kind is known."""
    return token.root_name if isinstance(token, Rooted) else ""
