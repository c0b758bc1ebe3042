"""Which YubiKeys are plugged in, and how one is found again: by its serial number, nothing else.

Open this file for what a ``yubikey:`` URI leads to.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from mesh_hsm.errors import DeviceError, MeshHsmError, NotFoundError
from mesh_hsm_yubikey import device, readers
from mesh_hsm_yubikey.device import Device
from mesh_hsm_yubikey.errors import explained
from mesh_hsm_yubikey.readers import CardConnection, HeldError


@dataclass(frozen=True, slots=True)
class Reached:
    """A YubiKey and the connection by which it was reached, still open."""

    connection: CardConnection
    device: Device


def each() -> Iterator[Reached | MeshHsmError]:
    """Every YubiKey plugged in that this process does not hold already, or why it does not answer.

    Whoever is given one closes it. Raises ``ProviderUnavailableError`` without a PC/SC service.
    """
    for reader in readers.yubikeys():
        if readers.is_ours(str(reader)):
            continue
        try:
            connection = CardConnection(reader)
        except DeviceError as error:
            yield error
            continue
        try:
            with explained("say who it is", str(reader)):
                found = device.read(connection)
        except MeshHsmError as error:
            connection.close()
            yield error
            continue
        yield Reached(connection, found)


def serials() -> list[int]:
    """Of every YubiKey that answers and does not hide its serial number."""
    found: list[int] = []
    for one in each():
        if isinstance(one, Reached):
            one.connection.close()
            if one.device.serial is not None:
                found.append(one.device.serial)
    return found


def reach(serial: int, uri: str) -> Reached:
    """The one with this serial number, waited for while another program has it for a moment.

    Raises ``NotFoundError``; ``DeviceError`` where it may be the one that did not answer.
    """
    deadline = time.monotonic() + readers.PATIENCE
    while True:
        try:
            return _reach(serial, uri)
        except HeldError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(0.1)


def _reach(serial: int, uri: str) -> Reached:
    """All of them are looked at: a second one that claims the number is there for the PIN."""
    trouble: MeshHsmError | None = None
    found: list[Reached] = []
    for one in each():
        if isinstance(one, MeshHsmError):
            if trouble is None or isinstance(one, HeldError):  # which is waited for
                trouble = one
        elif one.device.serial == serial:
            found.append(one)
        else:
            one.connection.close()
    if len(found) == 1:
        return found[0]
    for one in found:
        one.connection.close()
    if found:
        raise DeviceError(
            f"{len(found)} YubiKeys say that their serial number is {serial}: one of them lies",
            hint="plug in only the one that you know, and let nobody have its PIN",
            uri=uri,
        )
    if trouble is not None:
        raise trouble
    raise NotFoundError(
        f"no YubiKey with serial number {serial} is plugged in",
        hint="plug it in; mesh-hsm token list shows what is there",
        uri=uri,
    )
