"""``device init``, step by step: four keys, a one-time key, a signed request, or nothing at all."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from mesh_hsm.custody import PinPolicy
from mesh_hsm.errors import ConflictError, UnsupportedError
from mesh_hsm.mesh import BaseKeys, ConnectionRequest, OneTimeKey, Signed, create_request
from mesh_hsm.provider import KeySpec, Seals, Use
from mesh_hsm.uri import Uri
from mesh_hsm_cli import choices, interrupted
from mesh_hsm_cli.paths import refuse_existing
from mesh_hsm_cli.records import DeviceRecord, device_path, load_device
from mesh_hsm_cli.rollback import Rollback
from mesh_hsm_cli.session import Session
from mesh_hsm_cli.trust import needed_keys

if TYPE_CHECKING:
    from mesh_hsm.provider import DeviceKey, Token

# The keys of a device: the member of ``BaseKeys``, the end of its label, use and preference.
KEYS: Sequence[tuple[str, str, Use, Sequence[str]]] = (
    ("profile", "profile", Use.SIGN, choices.PLAIN_SIGNATURE),
    ("encryption", "encrypt", Use.ENCRYPT, choices.AGREEMENT),
    ("signature", "sign", Use.SIGN, choices.SHARED_SIGNATURE),
    ("authentication", "authenticate", Use.AUTHENTICATE, choices.AGREEMENT),
)


@dataclass(frozen=True, slots=True)
class NewDevice:
    """What a person asked for. ``token`` and ``algorithm`` None: the best there is."""

    name: str
    token: Uri
    algorithm: str | None
    no_pin: bool
    pcrs: tuple[int, ...]
    persistent: bool
    request: Path


def init_device(
    session: Session, wanted: NewDevice, now: datetime
) -> tuple[DeviceRecord, Signed[ConnectionRequest]]:
    """Make this machine a device that asks for a connection, or leave nothing.

    Raises ``ConflictError`` where it is one already, or a file has the request's name.
    """
    existing = load_device(session.state)
    if existing is not None:
        raise ConflictError(
            f"this machine is the device {existing.name} already: {existing.udf}",
            hint="mesh-hsm device show; another device needs another MESH_HSM_HOME",
        )
    refuse_existing(wanted.request)
    path = device_path(session.state)
    with session.open(wanted.token) as token, Rollback(session.output.notice) as undo:
        if not isinstance(token, Seals):
            raise UnsupportedError(f"{token.info.label} cannot seal the one-time key")
        choices.say_what_it_is(session, token.info)
        note_path = interrupted.device_note(session.state)
        interrupted.clear(session, token, note_path, needed_keys(session))
        specs = _specs(token, wanted)  # every refusal comes before the first key
        undo.new_note(note_path)
        note = interrupted.Interrupted(str(token.info.uri))
        keys: dict[str, DeviceKey] = {}
        for (member, *_), spec in zip(KEYS, specs, strict=True):
            undo.new_key(token, spec.label)
            note = note.announce(note_path, spec.label)
            keys[member] = token.generate(spec)
        once = OneTimeKey.draw()
        sealed = token.seal(f"{wanted.name}-once", once.secret, PinPolicy.NONE)
        request = create_request(BaseKeys(**keys), once.public, now=now)
        record = DeviceRecord(
            name=wanted.name,
            udf=request.value.device.value.udf,
            token=str(token.info.uri),
            keys={member: str(key.uri) for member, key in keys.items()},
            request=request.envelope,
            once=b64encode(sealed).decode(),
        )
        undo.write_new(wanted.request, request.text)
        undo.new_file(path)
        record.save(path)
    return record, request


def _specs(token: Token, wanted: NewDevice) -> list[KeySpec]:
    pin = choices.pin_policy(token, Use.ENCRYPT, no_pin=wanted.no_pin)
    return [
        KeySpec(
            algorithm=choices.choose_algorithm(token, use, wanted.algorithm, preference),
            use=use,
            label=f"{wanted.name}-{ending}",
            pin=pin,
            pcrs=wanted.pcrs,
            persistent=wanted.persistent,
        )
        for _, ending, use, preference in KEYS
    ]
