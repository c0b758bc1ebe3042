"""``mesh-hsm pin``: change what a device asks for."""

from __future__ import annotations

import click

from mesh_hsm.errors import NotFoundError, UnsupportedError
from mesh_hsm_cli.find import find_key
from mesh_hsm_cli.lazy import noun, verb
from mesh_hsm_cli.records import load_device
from mesh_hsm_cli.secret_options import secret_options
from mesh_hsm_cli.session import Session

command = noun("Change a device's PIN.")


@verb(command, "change", example="mesh-hsm pin change\nmesh-hsm pin change archive")
@click.argument("key", metavar="[KEY]", required=False)
@secret_options("pin", "new-pin", "passphrase", "new-passphrase")
@click.pass_obj
def change(session: Session, key: str | None) -> None:
    """Change the PIN of KEY, or of all keys of this device.

    A key file that was copied before keeps its old PIN: a changed PIN recalls no copy.
    """
    from mesh_hsm.custody import Hardware
    from mesh_hsm.provider import ChangesPin

    changed: list[str] = []
    with session.state.writing():
        try:
            for name in [key] if key is not None else _own_keys(session):
                with find_key(session, name) as (token, found):
                    if not isinstance(token, ChangesPin):
                        raise UnsupportedError(f"{token.info.label} changes no PINs")
                    token.change_pin(found.uri)
                    changed.append(str(found.uri))
                    if token.info.hardware is Hardware.NONE:
                        break  # a key file has one passphrase for all its keys
        except Exception:
            if changed:
                session.output.notice(f"changed before it failed: {', '.join(changed)}", loud=True)
            raise
    session.output.result({"changed": changed}, [f"changed the PIN of {uri}" for uri in changed])


def _own_keys(session: Session) -> list[str]:
    record = load_device(session.state)
    if record is None:
        raise NotFoundError("this machine is not a device yet", hint="name a KEY to change")
    return list(record.keys.values())
