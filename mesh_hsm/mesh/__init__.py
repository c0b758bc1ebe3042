"""Mesh objects and the ceremonies that make them: what a person's devices say about each other.

Open this package to create a personal Mesh, to connect a device to it, or to verify a connection.
Everything is a pure function over objects, keys and octets: no paths, no prompts, no hidden clock.
``now`` is an aware ``datetime``. An ``Envelope`` is the JSON array of a DARE envelope; a ``Signed``
object keeps the envelope it came from, so that what was signed is what gets filed.

A device is connected in four steps (hsm-1 §6), each needing what the one before it made:

1. device: ``create_request`` (keeping the ``OneTimeKey`` sealed);
2. administrator: ``connect``, after the device's UDF was confirmed by a person;
3. device: ``activate``, after the Mesh's UDF was confirmed, then ``open_device`` for every use;
4. administrator: ``accept`` files the countersigned connection.

``add_administrator`` and ``remove_administrator`` make the next version of ProfileMaster; ``Seen``
is what a verifier keeps of the newest (hsm-1 §7).
"""

from __future__ import annotations

from mesh_hsm.mesh.accepting import (
    Composite,
    VerifiedConnection,
    accept,
    verify_connection,
    verify_own_connection,
)
from mesh_hsm.mesh.activating import Activated, activate
from mesh_hsm.mesh.activation import ActivationDevice
from mesh_hsm.mesh.administrators import add_administrator, remove_administrator
from mesh_hsm.mesh.backup import (
    Drilled,
    EscrowedKeySet,
    ImportableKey,
    MeshPublics,
    NoBackup,
    drill,
    drill_again,
    open_backup,
    release,
    seal_backup,
)
from mesh_hsm.mesh.connecting import (
    SIGNATURES_PER_DEVICE,
    Connected,
    ConnectionResponse,
    connect,
    open_response,
)
from mesh_hsm.mesh.connection import CombinedKey, ConnectionDevice, open_connection
from mesh_hsm.mesh.device_keys import BaseKeys, CompositeKeys, OneTimeKey, open_device
from mesh_hsm.mesh.key_set import (
    AdministratorKeySet,
    create_key_set,
    open_key_set,
    peek_key_set,
)
from mesh_hsm.mesh.keydata import KeyData, confirm
from mesh_hsm.mesh.pins import Pins, open_pins
from mesh_hsm.mesh.profile_device import ProfileDevice, open_profile_device
from mesh_hsm.mesh.profile_master import (
    ProfileMaster,
    create_profile_master,
    open_profile_master,
)
from mesh_hsm.mesh.published import PublishedObject, open_published_profile, read_published
from mesh_hsm.mesh.request import ConnectionRequest, create_request, open_request
from mesh_hsm.mesh.seen import Seen
from mesh_hsm.mesh.signed import Envelope, Signed
from mesh_hsm.mesh.witness import witness

__all__ = [
    "SIGNATURES_PER_DEVICE",
    "Activated",
    "ActivationDevice",
    "AdministratorKeySet",
    "BaseKeys",
    "CombinedKey",
    "Composite",
    "CompositeKeys",
    "Connected",
    "ConnectionDevice",
    "ConnectionRequest",
    "ConnectionResponse",
    "Drilled",
    "Envelope",
    "EscrowedKeySet",
    "ImportableKey",
    "KeyData",
    "MeshPublics",
    "NoBackup",
    "OneTimeKey",
    "Pins",
    "ProfileDevice",
    "ProfileMaster",
    "PublishedObject",
    "Seen",
    "Signed",
    "VerifiedConnection",
    "accept",
    "activate",
    "add_administrator",
    "confirm",
    "connect",
    "create_key_set",
    "create_profile_master",
    "create_request",
    "drill",
    "drill_again",
    "open_backup",
    "open_connection",
    "open_device",
    "open_key_set",
    "open_pins",
    "open_profile_device",
    "open_profile_master",
    "open_published_profile",
    "open_request",
    "open_response",
    "peek_key_set",
    "read_published",
    "release",
    "remove_administrator",
    "seal_backup",
    "verify_connection",
    "verify_own_connection",
    "witness",
]
